"""The graph of an exported detector: from pixels to detections, with no other input."""

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from projects.clockdistill.modeling.detectors.base import Detector
from projects.clockdistill.modeling.detectors.layers.plain import plain_operators

DETECTIONS = ("boxes", "scores", "labels")
RAW = ("pred_logits", "pred_boxes")


class DetectorGraph(nn.Module):
    """Normalises the images, masks their padding, predicts and selects the best detections.

    Args:
        detector: in eval mode.
        raw: whether to return the predictions as they are.
    """

    def __init__(self, detector: Detector, *, raw: bool = False) -> None:
        super().__init__()
        self.detector = detector
        self.raw = raw

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Returns the detections of a batch.

        Args:
            images: (B, 3, H, W) float32, RGB in 0 to 255, padded to the right and below.
            sizes: (B, 2) int64, (height, width) of each image without padding.

        Returns:
            `boxes` (B, N, 4) float32, xyxy in pixels of the unpadded image and clipped to it;
            `scores` (B, N) float32, falling; `labels` (B, N) int64. If `raw`: `pred_logits`
            (B, Q, K) before sigmoid; `pred_boxes` (B, Q, 4) cxcywh in [0, 1] of the unpadded image.
        """
        rows = torch.arange(images.shape[2], device=images.device)[:, None]
        columns = torch.arange(images.shape[3], device=images.device)
        heights, widths = sizes[:, :1, None], sizes[:, 1:, None]
        mask = (rows >= heights) | (columns >= widths)  # (B, H, W)
        normalised = self.detector.normalise(images).masked_fill(
            mask[:, None], 0.0
        )  # the mean colour
        logits, boxes = self.detector.predictions(normalised, mask)
        if self.raw:
            return logits, boxes
        return best_detections(logits, boxes, sizes, self.detector.select_box_nums_for_evaluation)


def best_detections(
    logits: Tensor, boxes: Tensor, sizes: Tensor, max_detections: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Selects as `detections` of the detectors does, with tensors of fixed shape.

    Boxes that are empty after clipping stay: to drop them makes the shape depend on the data.

    Args:
        logits: (B, Q, K) before sigmoid.
        boxes: (B, Q, 4) cxcywh in [0, 1] of the unpadded image.
        sizes: (B, 2) int64, (height, width) of each unpadded image.
        max_detections: per image; fewer where Q * K is less.

    Returns:
        Boxes (B, N, 4) xyxy in pixels, scores (B, N) and labels (B, N).
    """
    num_classes = logits.shape[-1]
    scores = logits.sigmoid().flatten(1)
    scores, entries = scores.topk(min(max_detections, scores.shape[1]), dim=1)
    queries = entries // num_classes
    limits = sizes.flip(1).repeat(1, 2)[:, None].to(boxes.dtype)  # (B, 1, 4): w, h, w, h
    boxes_px = box_convert(boxes, "cxcywh", "xyxy") * limits
    boxes_px = torch.minimum(boxes_px.clamp(min=0), limits)
    boxes_px = boxes_px.gather(1, queries[..., None].expand(-1, -1, 4))
    return boxes_px, scores, entries - queries * num_classes


def trace(
    detector: Detector, height: int, width: int, *, raw: bool = False, dynamic_batch: bool = False
) -> torch.export.ExportedProgram:
    """Returns the graph of a detector for images of one size.

    Args:
        detector: on the CPU; it is set to eval mode.
        height: of the padded images, in pixels.
        width: of the padded images, in pixels.
        raw: whether the graph returns `pred_logits` and `pred_boxes` instead of detections.
        dynamic_batch: whether a batch may hold any number of images instead of one.
    """
    graph = DetectorGraph(detector.eval(), raw=raw)
    count = 2 if dynamic_batch else 1  # torch.export takes a size of 1 as fixed
    images = torch.zeros(count, len(detector.pixel_mean), height, width)
    sizes = torch.tensor([[height, width]]).repeat(count, 1)
    batch = {0: torch.export.Dim("batch", min=1)} if dynamic_batch else None
    with torch.no_grad(), plain_operators():
        program = torch.export.export(graph, (images, sizes), dynamic_shapes=(batch, batch))
    program.graph_module.graph.eliminate_dead_code()  # lists that nothing reads cannot be loaded
    return program
