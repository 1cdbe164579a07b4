"""FitNet at the small scale, the counterpart of methods/fitnet_dino_r18_kitti.

The weight was chosen on synthkitti_tune (reproduction/README.md).

python tools/train_net.py --config-file <this file>
"""

from ...models.methods import fitnet
from ..dino_r18_synthkitti import dataloader, lr_multiplier, model, optimizer, train

model.memory_loss = None
model.logit_loss = None
model.feature_losses.fitnet = fitnet(weight=25.0)
train.output_dir = "output/mini/methods/fitnet_dino_r18_synthkitti"
