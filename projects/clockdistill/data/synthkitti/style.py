"""Every number that makes the drawn scenes easier or harder, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SceneStyle:
    """Camera, traffic and weather of the drawn scenes.

    Ranges are (low, high) of a uniform draw unless said otherwise. The numbers were found in trials
    with DINOs of 0.4 to 0.6 M parameters on a CPU: hard enough that it stays far from perfect after
    3,200 steps, easy enough that it gets somewhere. At a median height of 33 px, with more cars,
    more look-alikes and more noise, it reached 15 AP in 2,000 steps, at 38 px 26 AP in 3,000.

    Attributes:
        width, height: pixels.
        focal: pixels; 721 px at KITTI's width of 1242 is 186 px at 320.
        horizon: row of the horizon, pixels from the top; the principal point lies on it.
        camera_height: metres above the road, KITTI's car: 1.65.
        class_weights: share of each class among the objects that are placed.
        objects: mean number of objects placed where there are any, passing and far ones apart
            (Poisson + 1); some are hidden or find no room.
        empty_share: share of frames without any object.
        box_height: median in pixels of the (log-normal) height of an unclipped box of a person or
            car; larger classes stand `large_class_scale` times as tall.
        box_height_spread: sigma of the log-normal; 0.42 puts 90% between 0.5 and 2 medians.
        large_class_scale: see `box_height`.
        passing_share: share of frames with objects in which a vehicle passes close by, side on:
            the large objects of COCO's measure (more than 96 x 96 pixels).
        far_objects: number of objects far beyond those, too small to be labelled: DontCare.
        distractors: number of things that look alike and must not be detected.
        min_height: objects with a lower box are DontCare, pixels.
        min_visible: objects of which a smaller share of their pixels is visible are DontCare.
        max_truncated: objects of which a larger share is outside the image are DontCare.
        exposure: factor on the whole image.
        contrast: diffuse light over ambient light; low under clouds, high in the sun.
        haze: metres after which haze has swallowed 63% of a colour.
        blur: sigma of the lens, pixels.
        noise: sigma of the sensor, grey levels of 255.
    """

    width: int = 320
    height: int = 96
    focal: float = 180.0
    horizon: float = 36.0
    camera_height: float = 1.5
    class_weights: tuple[tuple[str, float], ...] = (
        ("Car", 0.26),
        ("Van", 0.14),
        ("Truck", 0.11),
        ("Pedestrian", 0.18),
        ("Person_sitting", 0.12),
        ("Cyclist", 0.12),
        ("Tram", 0.07),
    )
    objects: float = 5.5
    empty_share: float = 0.06
    box_height: float = 46.0
    box_height_spread: float = 0.42
    large_class_scale: float = 1.6
    passing_share: float = 0.36
    far_objects: tuple[int, int] = (0, 3)
    distractors: tuple[int, int] = (0, 3)
    min_height: float = 14.0
    min_visible: float = 0.35
    max_truncated: float = 0.65
    exposure: tuple[float, float] = (0.75, 1.15)
    contrast: tuple[float, float] = (0.25, 1.0)
    haze: tuple[float, float] = (100.0, 300.0)
    blur: tuple[float, float] = (0.0, 0.5)
    noise: tuple[float, float] = (1.0, 3.0)
