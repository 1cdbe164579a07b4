"""CLoCKDistill at the small scale: the twin of methods/clockdistill_dino_r18_kitti.

python tools/train_net.py --config-file <this file>
"""

from ..dino_r18_synthkitti import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "output/mini/methods/clockdistill_dino_r18_synthkitti"
