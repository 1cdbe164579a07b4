"""At the small scale: the neck's features and the memory, without masks.

The counterpart of ablations/backbone_memory_dino_r18_kitti.

The weights were chosen on synthkitti_tune (reproduction/README.md).

python tools/train_net.py --config-file <this file>
"""

from ...models.methods import fitnet
from ..dino_r18_synthkitti import dataloader, lr_multiplier, model, optimizer, train

model.token_weights.masks = "none"
model.token_weights.alpha = 0.15
model.logit_loss = None
model.feature_losses.fitnet = fitnet(weight=25.0)
train.output_dir = "output/mini/ablations/backbone_memory_dino_r18_synthkitti"
