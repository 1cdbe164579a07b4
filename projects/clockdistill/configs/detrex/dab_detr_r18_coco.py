"""Real detrex's own DAB-DETR, R50 teacher -> R18 student, on COCO, 50 epochs.

Our own counterpart is configs/dab_detr_r18_coco.py. Needs detrex next to this project, as
configs/models/detrex.py says; the teacher is detrex's public checkpoint.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from projects.clockdistill.modeling.adapters import DetrexDABDETRAdapter

from ..common.coco_50ep import dataloader, lr_multiplier, optimizer, train
from ..models.detrex import HOW_TO_INSTALL, tied, with_resnet
from ..models.distill import distill

try:
    from projects.dab_detr.configs.models import dab_detr_r50
except ImportError as error:
    raise ImportError(HOW_TO_INSTALL) from error

model = distill(
    student=tied(with_resnet(dab_detr_r50.model, depth=18)),
    teacher=tied(dab_detr_r50.model),
    adapter=DetrexDABDETRAdapter,
    teacher_checkpoint="https://github.com/IDEA-Research/detrex-storage/releases/download/v0.1.0/"
    "dab_detr_r50_50ep.pth",
)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/detrex/dab_detr_r18_coco"
