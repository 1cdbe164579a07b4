"""Our own DETR-like detectors, equal to detrex's in state-dict keys and numbers.

A detector reads from top to bottom, one file a step:

    base.py         images to one padded batch and its mask, annotations to targets
    backbone.py     narrow residual stages (the usual ones come from detectron2)
    neck.py         features to levels of one width
    levels.py       levels to one row of tokens: masks, shapes, valid ratios, reference points
    deformable_encoder.py, deformable_decoder.py, deformable_transformer.py
                    what DINO's and Deformable-DETR's transformers share
    two_stage.py    the encoder's proposals and the choice among them
    heads.py        class and box head
    predictions.py  class logits and boxes of all stages
    matcher.py, criterion.py    predictions against targets
    postprocess.py  predictions to detections in pixels
    multi_scale.py  the above in order, for the detectors with a deformable transformer

What a family adds stands in files with its name, the detector itself in the one that has only
the name: `dino*` (with `denoising.py`), `deformable_detr*`, `dab_detr*`. Nothing here knows of
distillation; `tests/modeling/detectors/parity.py` says what "equal" means.
"""
