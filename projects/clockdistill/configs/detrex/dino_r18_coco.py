"""Real detrex's own DINO, R50 teacher -> R18 student, on COCO, 12 epochs.

Our own counterpart is configs/dino_r18_coco.py. Needs detrex next to this project, as
configs/models/detrex.py says; the teacher is detrex's public checkpoint.

python tools/train_net.py --config-file <this file> --num-gpus 8
"""

from projects.clockdistill.modeling.adapters import DetrexDINOAdapter

from ..common.coco_12ep import dataloader, lr_multiplier, optimizer, train
from ..models.detrex import HOW_TO_INSTALL, tied, with_resnet
from ..models.distill import distill

try:
    from projects.dino.configs.models import dino_r50
except ImportError as error:
    raise ImportError(HOW_TO_INSTALL) from error

model = distill(
    student=tied(with_resnet(dino_r50.model, depth=18)),
    teacher=tied(dino_r50.model),
    adapter=DetrexDINOAdapter,
    teacher_checkpoint="https://github.com/IDEA-Research/detrex-storage/releases/download/v0.2.0/"
    "dino_r50_4scale_12ep_49_2AP.pth",
)
train.init_checkpoint = "torchvision://resnet18"
train.output_dir = "output/detrex/dino_r18_coco"
