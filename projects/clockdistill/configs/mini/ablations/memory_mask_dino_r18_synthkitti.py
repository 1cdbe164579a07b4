"""At the small scale: the memory alone, with location and scale masks.

The counterpart of ablations/memory_mask_dino_r18_kitti.

python tools/train_net.py --config-file <this file>
"""

from ..dino_r18_synthkitti import dataloader, lr_multiplier, model, optimizer, train

model.logit_loss = None
train.output_dir = "output/mini/ablations/memory_mask_dino_r18_synthkitti"
