"""From predictions to detections in pixels of the original images."""

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import box_convert


def detections(
    logits: Tensor,
    boxes: Tensor,
    image_sizes: list[tuple[int, int]],
    output_sizes: list[tuple[int, int]],
    max_detections: int,
) -> list[Instances]:
    """Takes the highest class scores over all queries; one query may give several detections.

    Source: Deformable DETR (arXiv:2010.04159), whose sigmoid classes need no background.

    Args:
        logits: (B, Q, K) before sigmoid.
        boxes: (B, Q, 4) cxcywh in [0, 1] of the unpadded image.
        image_sizes: (H, W) of each image as the detector saw it, without padding.
        output_sizes: (H, W) of each image to give the boxes in.
        max_detections: per image; fewer where Q * K is less.

    Returns:
        Per image, by falling score: `pred_boxes` (absolute xyxy, clipped to the image, empty ones
        dropped), `scores` in [0, 1] and `pred_classes`.
    """
    num_classes = logits.shape[-1]
    scores = logits.float().sigmoid().flatten(1)  # (B, Q * K)
    scores, entries = scores.topk(min(max_detections, scores.shape[1]), dim=1)
    queries = entries.div(num_classes, rounding_mode="floor")
    classes = entries % num_classes
    boxes_xyxy = box_convert(boxes.float(), "cxcywh", "xyxy")
    boxes_xyxy = boxes_xyxy.gather(1, queries[..., None].expand(-1, -1, 4))
    results = []
    for image, (height, width) in enumerate(image_sizes):
        scale = torch.tensor([width, height, width, height], device=boxes.device)
        instances = Instances(
            (height, width),
            pred_boxes=Boxes(boxes_xyxy[image] * scale),
            scores=scores[image],
            pred_classes=classes[image],
        )
        results.append(detector_postprocess(instances, *output_sizes[image]))
    return results
