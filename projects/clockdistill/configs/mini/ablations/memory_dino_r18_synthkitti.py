"""At the small scale: the memory alone, without masks.

The counterpart of ablations/memory_dino_r18_kitti.

The weight was chosen on synthkitti_tune (reproduction/README.md).

python tools/train_net.py --config-file <this file>
"""

from ..dino_r18_synthkitti import dataloader, lr_multiplier, model, optimizer, train

model.token_weights.masks = "none"
model.token_weights.alpha = 0.15
model.logit_loss = None
train.output_dir = "output/mini/ablations/memory_dino_r18_synthkitti"
