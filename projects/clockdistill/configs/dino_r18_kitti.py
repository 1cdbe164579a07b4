"""DINO R50 teacher (36 epochs) -> R18 student on KITTI, 12 epochs. Paper, Table 2: 56.1 -> 62.5 AP.

The teacher comes from configs/teachers/dino_r50_kitti.py, or from any DINO R50 checkpoint with
the same classes.

python tools/train_net.py --config-file <this file> --num-gpus 8 model.teacher_checkpoint=<path>
"""

from .common.kitti import dataloader
from .common.optim import optimizer
from .common.schedule import kitti_12ep as lr_multiplier
from .common.train import train
from .models.distill import dino_r50_to_r18 as model

model.student.num_classes = 7
model.teacher_checkpoint = "output/teachers/dino_r50_kitti/model_final.pth"
train.init_checkpoint = "torchvision://resnet18"
dataloader.train.total_batch_size = 16
train.max_iter = 4_489  # 12 epochs * 5985 images / 16 images a step
train.eval_period = 374  # once an epoch
train.checkpointer.period = 374
train.output_dir = "output/dino_r18_kitti"
