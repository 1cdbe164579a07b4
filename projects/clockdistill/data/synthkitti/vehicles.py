"""Cars, vans, trucks and trams: their shapes, sizes and colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from projects.clockdistill.data.synthkitti.mesh import Mesh, MeshBuilder, Point


@dataclass(frozen=True)
class VehicleModel:
    """
    Attributes:
        parts: unit shapes from rear to front, each before the next as seen from behind.
        size_hwl: usual height, width, length in metres.
    """

    parts: tuple[Mesh, ...]
    size_hwl: tuple[float, float, float]


PAINTS = (
    (225, 226, 228),
    (182, 186, 190),
    (108, 112, 118),
    (44, 46, 50),
    (158, 32, 34),
    (36, 66, 130),
    (94, 122, 152),
    (42, 84, 62),
    (196, 158, 60),
    (148, 120, 94),
)
TRAM_PAINTS = ((206, 48, 44), (236, 196, 60), (52, 112, 168), (58, 142, 92))
CARGO_PAINTS = ((232, 232, 226), (206, 210, 214), (58, 92, 148), (196, 84, 44), (92, 128, 84))


def vehicle_palette(
    paint: Sequence[float], second_paint: Sequence[float]
) -> Mapping[str, tuple[float, float, float]]:
    """Colours of all vehicle materials."""
    return {
        "paint": tuple(paint),
        "second": tuple(second_paint),
        "roof": tuple(0.94 * value for value in paint),
        "glass": (58, 72, 84),
        "windscreen": (96, 116, 130),
        "trim": (40, 41, 43),
        "tyre": (26, 26, 28),
        "hub": (142, 145, 148),
        "lamp": (250, 246, 214),
        "tail": (206, 24, 26),
        "plate": (238, 236, 214),
        "seam": tuple(0.62 * value for value in second_paint),
        "display": (246, 158, 40),
    }


def _between(low: Point, high: Point, share: float) -> Point:
    return (low[0] + share * (high[0] - low[0]), low[1] + share * (high[1] - low[1]))


def _car(cabin: Sequence[Point], height: float, length: float) -> VehicleModel:
    """A body below, a cabin (rear base, rear roof, front roof, front base) narrowing above it."""
    builder = MeshBuilder()
    builder.wheels((-0.31, 0.31), (0.075, 0.21), under=True)
    builder.box((-0.46, 0.13, -0.47), (0.46, 0.3, 0.47), "trim")
    waist = cabin[0][1]
    builder.prism(
        [
            (-0.49, 0.17),
            (-0.5, 0.5),
            (-0.48, waist),
            (0.2, waist),
            (0.45, 0.54),
            (0.5, 0.4),
            (0.49, 0.17),
        ],
        "paint",
    )
    base, top = 0.47, 0.37
    builder.prism(cabin, "roof", half_width=base, half_width_top=top)
    rear_base, rear_roof, front_roof, front_base = cabin
    # Panes: the end panes first, then the side panes, split by the middle pillar.
    for low, high in ((front_base, front_roof), (rear_base, rear_roof)):
        builder.on_end(
            (-0.38, 0.38), _between(low, high, 0.1), _between(low, high, 0.9), "windscreen"
        )
    pillar = 0.5 * (rear_roof[0] + front_roof[0]) - 0.01
    low_up, high_up = waist + 0.04, cabin[1][1] - 0.06
    share_low = 0.04 / (cabin[1][1] - waist)
    share_high = 1 - 0.06 / (cabin[1][1] - waist)
    halves = [
        base + (top - base) * share for share in (share_low, share_low, share_high, share_high)
    ]
    rear = [_between(rear_base, rear_roof, s)[0] + 0.03 for s in (share_low, share_high)]
    front = [_between(front_base, front_roof, s)[0] - 0.03 for s in (share_low, share_high)]
    for start_low, end_low, end_high, start_high in (
        (rear[0], pillar - 0.012, pillar - 0.012, rear[1]),
        (pillar + 0.012, front[0], front[1], pillar + 0.012),
    ):
        corners = [
            (start_low, low_up),
            (end_low, low_up),
            (end_high, high_up),
            (start_high, high_up),
        ]
        builder.on_sides(corners, "glass", halves)
    builder.on_sides([(-0.5, 0.2), (0.49, 0.2), (0.49, 0.25), (-0.5, 0.25)], "trim")
    builder.wheels((-0.31, 0.31), (0.075, 0.21), under=False)
    builder.on_end((-0.24, 0.24), (0.495, 0.26), (0.5, 0.38), "trim")
    builder.on_end((-0.13, 0.13), (0.495, 0.2), (0.495, 0.28), "plate")
    builder.on_end((0.27, 0.48), (0.5, 0.4), (0.465, 0.51), "lamp", mirrored=True)
    builder.on_end((-0.48, 0.48), (-0.49, 0.17), (-0.495, 0.27), "trim")
    builder.on_end((-0.14, 0.14), (-0.5, 0.36), (-0.5, 0.46), "plate")
    builder.on_end((0.29, 0.49), (-0.5, 0.42), (-0.485, 0.57), "tail", mirrored=True)
    return VehicleModel((builder.build(),), (height, 1.72, length))


def _van(windows: bool, height: float, length: float) -> VehicleModel:
    builder = MeshBuilder()
    builder.wheels((-0.3, 0.33), (0.068, 0.16), under=True)
    builder.box((-0.47, 0.1, -0.46), (0.46, 0.24, 0.46), "trim")
    builder.prism(
        [
            (-0.495, 0.12),
            (-0.5, 0.9),
            (-0.47, 1.0),
            (0.24, 1.0),
            (0.42, 0.58),
            (0.5, 0.4),
            (0.495, 0.12),
        ],
        "paint",
        half_width=0.5,
        half_width_top=0.45,
    )
    builder.on_end((-0.41, 0.41), (0.405, 0.615), (0.262, 0.95), "windscreen")
    builder.on_sides([(0.16, 0.6), (0.36, 0.6), (0.25, 0.88), (0.16, 0.88)], "glass", 0.475)
    if windows:
        for start, end in ((-0.46, -0.2), (-0.17, 0.13)):
            corners = [(start, 0.6), (end, 0.6), (end, 0.88), (start, 0.88)]
            builder.on_sides(corners, "glass", 0.475)
    else:
        for start, end in ((-0.18, -0.165), (0.135, 0.15)):
            seam = [(start, 0.14), (end, 0.14), (end, 0.93), (start, 0.93)]
            builder.on_sides(seam, "seam", 0.48)
    builder.on_sides([(-0.49, 0.3), (0.49, 0.3), (0.49, 0.34), (-0.49, 0.34)], "trim", 0.495)
    builder.wheels((-0.3, 0.33), (0.068, 0.16), under=False)
    builder.on_end((-0.3, 0.3), (0.498, 0.24), (0.5, 0.36), "trim")
    builder.on_end((-0.13, 0.13), (0.496, 0.15), (0.496, 0.21), "plate")
    builder.on_end((0.32, 0.48), (0.5, 0.38), (0.46, 0.49), "lamp", mirrored=True)
    builder.on_end((-0.48, 0.48), (-0.495, 0.12), (-0.496, 0.2), "trim")
    builder.on_end((-0.012, 0.012), (-0.496, 0.2), (-0.5, 0.88), "seam")
    builder.on_end((0.06, 0.38), (-0.5, 0.6), (-0.498, 0.86), "windscreen", mirrored=True)
    builder.on_end((0.42, 0.49), (-0.496, 0.26), (-0.5, 0.52), "tail", mirrored=True)
    builder.on_end((-0.14, 0.14), (-0.498, 0.3), (-0.498, 0.37), "plate")
    return VehicleModel((builder.build(),), (height, 1.95, length))


def _truck(height: float, length: float) -> VehicleModel:
    wheel = (0.065, 0.15)
    builder = MeshBuilder()
    builder.wheels((-0.36, -0.22), wheel, under=True)
    builder.box((-0.48, 0.14, -0.36), (0.27, 0.27, 0.36), "trim")
    builder.box((-0.5, 0.25, -0.5), (0.24, 1.0, 0.5), "second")
    builder.on_sides([(-0.5, 0.25), (0.24, 0.25), (0.24, 0.29), (-0.5, 0.29)], "seam")
    builder.on_sides([(-0.36, 0.5), (0.1, 0.5), (0.1, 0.72), (-0.36, 0.72)], "paint")
    builder.on_end((-0.015, 0.015), (-0.5, 0.27), (-0.5, 0.98), "seam")
    builder.on_end((0.42, 0.45), (-0.5, 0.27), (-0.5, 0.98), "seam", mirrored=True)
    builder.on_end((-0.5, 0.5), (-0.5, 0.19), (-0.5, 0.25), "trim")
    builder.on_end((0.32, 0.48), (-0.5, 0.19), (-0.5, 0.245), "tail", mirrored=True)
    builder.on_end((-0.12, 0.12), (-0.5, 0.19), (-0.5, 0.24), "plate")
    builder.wheels((-0.36, -0.22), wheel, under=False)
    cargo = builder.build()

    builder = MeshBuilder()
    builder.wheels((0.38,), wheel, under=True)
    cab = [(0.27, 0.14), (0.27, 0.8), (0.46, 0.8), (0.49, 0.48), (0.5, 0.14)]
    builder.prism(cab, "paint", half_width=0.48)
    builder.on_sides([(0.33, 0.5), (0.475, 0.5), (0.455, 0.73), (0.33, 0.73)], "glass", 0.48)
    builder.on_end((-0.43, 0.43), (0.488, 0.5), (0.463, 0.76), "windscreen")
    builder.on_end((-0.3, 0.3), (0.497, 0.25), (0.492, 0.43), "trim")
    builder.on_end((0.3, 0.44), (0.499, 0.18), (0.497, 0.26), "lamp", mirrored=True)
    builder.on_end((-0.13, 0.13), (0.499, 0.16), (0.499, 0.21), "plate")
    builder.wheels((0.38,), wheel, under=False)
    return VehicleModel((cargo, builder.build()), (height, 2.45, length))


def _tram(length: float) -> VehicleModel:
    builder = MeshBuilder()
    builder.box((-0.47, 0.0, -0.4), (0.47, 0.12, 0.4), "trim")
    builder.prism(
        [(-0.49, 0.05), (-0.5, 0.4), (-0.475, 0.9), (0.475, 0.9), (0.5, 0.4), (0.49, 0.05)],
        "second",
        half_width=0.5,
        half_width_top=0.47,
    )
    builder.box((-0.25, 0.9, -0.3), (0.25, 0.97, 0.3), "hub")
    lower = [(-0.495, 0.05), (0.495, 0.05), (0.5, 0.38), (-0.5, 0.38)]
    builder.on_sides(lower, "paint", 0.5)
    builder.on_sides([(-0.46, 0.45), (0.46, 0.45), (0.455, 0.76), (-0.455, 0.76)], "glass", 0.485)
    for start in (-0.34, -0.12, 0.1, 0.32):
        pillar = [(start, 0.45), (start + 0.015, 0.45), (start + 0.015, 0.76), (start, 0.76)]
        builder.on_sides(pillar, "second", 0.485)
    for start in (-0.28, 0.16):
        door = [(start, 0.08), (start + 0.09, 0.08), (start + 0.09, 0.78), (start, 0.78)]
        builder.on_sides(door, "trim", 0.487)
        pane = [
            (start + 0.01, 0.2),
            (start + 0.08, 0.2),
            (start + 0.08, 0.74),
            (start + 0.01, 0.74),
        ]
        builder.on_sides(pane, "windscreen", 0.487)
    for end in (1, -1):
        builder.on_end((-0.5, 0.5), (end * 0.49, 0.05), (end * 0.5, 0.38), "paint")
        builder.on_end((-0.42, 0.42), (end * 0.498, 0.43), (end * 0.482, 0.74), "windscreen")
        builder.on_end((-0.25, 0.25), (end * 0.481, 0.78), (end * 0.477, 0.86), "display")
        lamp = "lamp" if end > 0 else "tail"
        builder.on_end((0.28, 0.42), (end * 0.494, 0.18), (end * 0.497, 0.27), lamp, mirrored=True)
        builder.on_end((-0.3, 0.3), (end * 0.49, 0.05), (end * 0.492, 0.12), "trim")
    # Current collector: two thin bars above the roof box, up to the full height.
    for forward in (-0.06, 0.06):
        bar = [
            (0.0, 0.97, -0.2),
            (0.004, 0.97, -0.2),
            (forward + 0.004, 1.0, 0.2),
            (forward, 1.0, 0.2),
        ]
        builder.face(bar, (0, 0, 1), "trim", always=True)
    return VehicleModel((builder.build(),), (3.5, 2.45, length))


# Cabins: rear base, rear roof, front roof, front base in shares of length and height.
VEHICLES: Mapping[str, tuple[VehicleModel, ...]] = {
    "Car": (
        _car([(-0.48, 0.6), (-0.37, 0.98), (0.04, 1.0), (0.27, 0.6)], 1.48, 3.9),  # hatchback
        _car([(-0.38, 0.6), (-0.2, 0.98), (0.05, 1.0), (0.25, 0.6)], 1.45, 4.4),  # saloon
        _car([(-0.49, 0.6), (-0.43, 0.98), (0.05, 1.0), (0.25, 0.6)], 1.5, 4.5),  # estate
        _car([(-0.49, 0.58), (-0.42, 0.99), (0.08, 1.0), (0.25, 0.58)], 1.68, 4.3),  # off-roader
    ),
    "Van": (_van(False, 2.25, 5.1), _van(True, 2.1, 4.9)),
    "Truck": (_truck(3.2, 6.6), _truck(3.4, 8.0)),
    "Tram": (_tram(11.0), _tram(14.0)),
}


def sample_palette(rng: np.random.Generator, kind: str) -> Mapping[str, tuple[float, float, float]]:
    """Colours of one vehicle."""
    paint = np.array(PAINTS[rng.integers(len(PAINTS))], dtype=np.float64)
    second = paint
    if kind == "Truck":
        second = np.array(CARGO_PAINTS[rng.integers(len(CARGO_PAINTS))], dtype=np.float64)
    elif kind == "Tram":
        paint = np.array(TRAM_PAINTS[rng.integers(len(TRAM_PAINTS))], dtype=np.float64)
        second = np.array((228.0, 226.0, 216.0))
    elif kind == "Van" and rng.random() < 0.5:
        paint = second = np.array((232.0, 232.0, 230.0))
    jitter = rng.normal(0.0, 8.0, size=3)
    return vehicle_palette(np.clip(paint + jitter, 5, 250), np.clip(second + jitter, 5, 250))
