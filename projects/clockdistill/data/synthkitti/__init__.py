"""synthkitti: drawn driving scenes in KITTI's tree and label format. Not KITTI."""
