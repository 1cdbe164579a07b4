"""At the small scale: memory with masks and all queries, the whole method. The twin of
ablations/clockdistill_dino_r18_kitti.

python tools/train_net.py --config-file <this file>
"""

from ..dino_r18_synthkitti import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "output/mini/ablations/clockdistill_dino_r18_synthkitti"
