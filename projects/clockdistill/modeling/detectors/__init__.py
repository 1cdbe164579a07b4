"""Our own DETR-like detectors, equal to detrex's in state-dict keys and numbers.

A detector reads from top to bottom, one file a step:

    base.py         images to one padded batch and its mask, annotations to targets
    backbone.py     narrow residual stages (the usual ones come from detectron2)
    neck.py         features to levels of one width
    levels.py       levels to one row of tokens: masks, shapes, valid ratios, reference points
    dino_encoder.py, dino_decoder.py, dino_transformer.py
    two_stage.py    the encoder's proposals and the choice among them
    denoising.py    noised annotations as extra queries
    predictions.py  class logits and boxes of all stages
    matcher.py, criterion.py    predictions against targets
    postprocess.py  predictions to detections in pixels
    dino.py         the detector that calls the above in order

All but the `dino*` files serve every family, as `layers/` does. Nothing here knows of
distillation; `tests/modeling/detectors/parity.py` says what "equal" means.
"""
