"""FGD at the small scale, the counterpart of methods/fgd_dino_r18_kitti.

The scale was chosen on synthkitti_tune (reproduction/README.md).

python tools/train_net.py --config-file <this file>
"""

from ...models.methods import fgd
from ..dino_r18_synthkitti import dataloader, lr_multiplier, model, optimizer, train

model.memory_loss = None
model.logit_loss = None
model.feature_losses.fgd = fgd(scale=25.0)
train.output_dir = "output/mini/methods/fgd_dino_r18_synthkitti"
