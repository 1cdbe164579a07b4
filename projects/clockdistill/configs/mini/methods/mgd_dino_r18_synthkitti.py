"""MGD at the small scale, the counterpart of methods/mgd_dino_r18_kitti.

The weight was chosen on synthkitti_tune (reproduction/README.md).

python tools/train_net.py --config-file <this file>
"""

from ...models.methods import mgd
from ..dino_r18_synthkitti import dataloader, lr_multiplier, model, optimizer, train

model.memory_loss = None
model.logit_loss = None
model.feature_losses.mgd = mgd(weight=3e-3)
train.output_dir = "output/mini/methods/mgd_dino_r18_synthkitti"
