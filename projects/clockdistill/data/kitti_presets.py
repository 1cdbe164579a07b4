"""Presets: which KITTI types become which classes, and where detections are not evaluated."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class KittiPreset:
    """An assignment of KITTI's nine types to classes.

    Attributes:
        classes: class names in the order of their ids.
        class_of: KITTI type -> class; types in neither mapping are background.
        ignored_for: KITTI type -> classes whose detections are not evaluated there. Such objects
            become crowd boxes: they are no training targets, and in COCO evaluation
            detections of that class inside them are no false positives.
    """

    classes: tuple[str, ...]
    class_of: Mapping[str, str]
    ignored_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _preset(
    classes: tuple[str, ...],
    grouped: Mapping[str, str] | None = None,
    neighbours: Mapping[str, tuple[str, ...]] | None = None,
    dont_care: bool = True,
) -> KittiPreset:
    return KittiPreset(
        classes=classes,
        class_of={**{kitti_type: kitti_type for kitti_type in classes}, **(grouped or {})},
        # DontCare contains objects too small or far to be labelled. KITTI's own evaluation ignores
        # detections of any class there, measured by the share of the detection that overlaps;
        # a crowd box of each category makes COCO evaluation do exactly that.
        ignored_for={**({"DontCare": classes} if dont_care else {}), **(neighbours or {})},
    )


_SEVEN = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram")

# The names are also the prefixes of the registered datasets, except for the default `kitti7`.
PRESETS: Mapping[str, KittiPreset] = {
    # CLoCKDistill (arXiv:2502.10683), section 4.1, says "seven types of road objects" without
    # naming them: the eight labelled types without Misc are what seven-class code uses.
    "kitti7": _preset(_SEVEN),
    # Without DontCare, as other conversions of KITTI to COCO's format: a detection there is wrong.
    "kitti7_no_dontcare": _preset(_SEVEN, dont_care=False),
    "kitti8": _preset((*_SEVEN, "Misc")),
    # The three officially evaluated. KITTI's devkit ignores a Car on a Van and a Pedestrian
    # on a Person_sitting; the other types are background.
    "kitti3": _preset(
        ("Car", "Pedestrian", "Cyclist"),
        neighbours={"Van": ("Car",), "Person_sitting": ("Pedestrian",)},
    ),
    # The convention the paper cites groups the types into three; this is the usual grouping.
    "kitti3g": _preset(
        ("Car", "Pedestrian", "Cyclist"),
        grouped={"Van": "Car", "Truck": "Car", "Tram": "Car", "Person_sitting": "Pedestrian"},
    ),
}
