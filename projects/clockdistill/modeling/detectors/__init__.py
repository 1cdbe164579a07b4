"""Our own DETR-like detectors, equal to detrex's in state-dict keys and numbers.

    base.py         images to one padded batch, annotations to targets, predictions to detections
    backbone.py     narrow residual stages; the usual ones come from detectron2
    neck.py         backbone features to levels of one width
    multi_scale/    what DINO and Deformable-DETR share: levels to tokens, encoder, decoder, heads
    dino/           proposals as queries, denoising
    deformable_detr/, dab_detr/
    predictions.py  class logits and boxes, and the heads that give them
    matcher.py, criterion.py    predictions against targets
    layers/         attention, feed-forward parts, position encoding, boxes

Nothing here knows of distillation. `tests/modeling/detectors/parity.py` says what "equal" means.
"""
