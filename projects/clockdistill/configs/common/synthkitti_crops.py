"""synthkitti for a crop classifier: brighter and darker frames, accuracy instead of AP.

Scenes of their own, so that no label of synthkitti_train is in the backbones.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from projects.clockdistill.evaluation.crops import CropAccuracy

from .synthkitti import dataloader

dataloader.train.dataset.names = "synthkitti_pretraining_train"
dataloader.test.dataset.names = "synthkitti_pretraining_val"
dataloader.train.mapper.augmentation.append(
    L(T.RandomBrightness)(intensity_min=0.8, intensity_max=1.2)
)
dataloader.train.total_batch_size = 8
dataloader.test.mapper.is_train = True  # crops are cut around the annotated boxes
dataloader.evaluator = L(CropAccuracy)()
