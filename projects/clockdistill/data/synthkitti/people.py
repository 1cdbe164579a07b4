"""Pedestrians, sitting persons and cyclists: jointed figures of strokes and discs in 3D."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from projects.clockdistill.data.synthkitti.camera import Camera, rotate
from projects.clockdistill.data.synthkitti.canvas import Canvas
from projects.clockdistill.data.synthkitti.light import Light

Joint = Sequence[float]  # metres forward, up, sideways from the middle of the footprint

SKIN = ((228, 188, 158), (196, 144, 108), (132, 90, 64), (238, 204, 178))
HAIR = ((44, 34, 28), (92, 62, 38), (152, 124, 78), (120, 118, 116))
CLOTHES = (
    (178, 38, 42),
    (40, 62, 118),
    (54, 54, 58),
    (196, 188, 172),
    (62, 108, 74),
    (218, 152, 48),
    (112, 60, 112),
    (70, 132, 168),
)
TROUSERS = ((38, 44, 64), (30, 30, 32), (96, 88, 74), (70, 84, 108))
METAL = (36, 36, 40)


@dataclass(frozen=True)
class Look:
    """Colours and pose of one person.

    Attributes:
        skin, hair, coat, trousers: colours.
        phase: of the gait or the pedals, radians.
    """

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    coat: tuple[float, float, float]
    trousers: tuple[float, float, float]
    phase: float


def sample_look(rng: np.random.Generator) -> Look:
    """Draw a person's colours and pose."""

    def pick(colours: Sequence[Sequence[float]]) -> tuple[float, float, float]:
        chosen = np.array(colours[rng.integers(len(colours))]) + rng.normal(0.0, 8.0, size=3)
        return tuple(np.clip(chosen, 5, 250).tolist())

    return Look(pick(SKIN), pick(HAIR), pick(CLOTHES), pick(TROUSERS), rng.uniform(0, 2 * np.pi))


class Figure:
    """Draws strokes between joints of one person, scaled to the person's size."""

    def __init__(
        self,
        canvas: Canvas,
        camera: Camera,
        light: Light,
        scale: float,
        location_xz: tuple[float, float],
        rotation_y: float,
    ) -> None:
        self._canvas, self._camera, self._light = canvas, camera, light
        self._scale, self._location, self._rotation = scale, location_xz, rotation_y
        self._pixels_per_metre = camera.focal / location_xz[1]
        # Round things have no one normal: their light is the one on a face towards the camera.
        self._towards_camera = np.array([[0.0, -0.3, -1.0]]) / np.hypot(0.3, 1.0)
        heading = rotate(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), rotation_y)
        sight = np.array([location_xz[0], 0.0, location_xz[1]])
        self.looks_away = bool(heading[0] @ sight > 0)
        # Sides in painting order: -1 left, 1 right; the far one first.
        self.far_to_near = (1, -1) if heading[1] @ sight > 0 else (-1, 1)

    def limb(self, joints: Sequence[Joint], thickness: float, colour: Sequence[float]) -> None:
        """A line with round ends; joints and thickness in metres before scaling."""
        points = self._project(joints)
        width = thickness * self._scale * self._pixels_per_metre
        self._canvas.stroke(points, width, self._lit(colour))

    def patch(self, joints: Sequence[Joint], colour: Sequence[float]) -> None:
        """A filled polygon."""
        self._canvas.polygon(self._project(joints), self._lit(colour))

    def ball(self, joint: Joint, radius: float, colour: Sequence[float]) -> None:
        """A filled disc, radius in metres before scaling."""
        center = self._project([joint])[0]
        self._canvas.disc(center, radius * self._scale * self._pixels_per_metre, self._lit(colour))

    def ring(self, center: Joint, radius: float, thickness: float, colour: Sequence[float]) -> None:
        """A wheel: a circle in the plane of heading and height."""
        angles = np.linspace(0.0, 2 * np.pi, 17)
        rim = [
            (center[0] + radius * np.cos(a), center[1] + radius * np.sin(a), center[2])
            for a in angles
        ]
        self.limb(rim, thickness, colour)

    def _project(self, joints: Sequence[Joint]) -> np.ndarray:
        points = np.asarray(joints, dtype=np.float64) * self._scale
        return self._camera.project(self._camera.place(points, self._location, self._rotation))

    def _lit(self, colour: Sequence[float]) -> tuple[float, float, float]:
        colours = np.asarray(colour, dtype=np.float64)[None]
        shaded = self._light.shade(colours, self._towards_camera, self._location[1])
        return tuple(shaded[0].tolist())


def draw_pedestrian(figure: Figure, look: Look) -> None:
    """Someone walking or standing, 1.75 m tall before scaling."""
    stride = 0.24 * np.sin(look.phase)
    for sign in figure.far_to_near:
        step = sign * stride
        knee = 0.5 * step + 0.04
        leg = [(0.0, 0.9, 0.09 * sign), (knee, 0.48, 0.1 * sign), (step, 0.07, 0.1 * sign)]
        figure.limb(leg, 0.15, look.trousers)
        figure.limb([(step, 0.05, 0.1 * sign), (step + 0.12, 0.04, 0.1 * sign)], 0.08, METAL)
    _upper_body(figure, look, hip=(0.0, 0.9), shoulder=(0.02, 1.4), swing=stride)


def draw_sitting(figure: Figure, look: Look) -> None:
    """Someone on a bench or chair, 1.3 m tall before scaling; the seat is at 0.45 m."""
    for sign in figure.far_to_near:
        side = 0.11 * sign
        leg = [(-0.18, 0.52, side), (0.26, 0.54, side), (0.3, 0.08, side)]
        figure.limb(leg, 0.16, look.trousers)
        figure.limb([(0.3, 0.05, side), (0.42, 0.04, side)], 0.08, METAL)
    _upper_body(figure, look, hip=(-0.2, 0.52), shoulder=(-0.18, 0.98), hands=(0.14, 0.6))


def draw_cyclist(figure: Figure, look: Look) -> None:
    """Someone on a moving bicycle, 1.75 m tall and long before scaling."""
    for forward in (-0.53, 0.53):
        figure.ring((forward, 0.33, 0.0), 0.3, 0.055, METAL)
    frame = (0.5 * look.coat[1], 0.5 * look.coat[2], 0.5 * look.coat[0])
    crank, saddle, head = (-0.06, 0.3, 0.0), (-0.2, 0.88, 0.0), (0.4, 0.82, 0.0)
    rear_hub, seat_tube = (-0.53, 0.33, 0.0), (-0.15, 0.72, 0.0)
    figure.limb([rear_hub, crank, head, seat_tube, rear_hub], 0.05, frame)
    figure.limb([(0.53, 0.33, 0.0), head, (0.38, 1.0, 0.0)], 0.05, frame)
    figure.limb([crank, saddle], 0.05, frame)
    figure.limb([(0.38, 1.0, -0.26), (0.38, 1.0, 0.26)], 0.05, METAL)
    for sign in figure.far_to_near:
        pedal_forward = -0.06 + 0.16 * np.cos(look.phase) * sign
        pedal_up = 0.3 + 0.16 * np.sin(look.phase) * sign
        knee = (0.16 + 0.3 * (pedal_forward + 0.06), 0.62 + 0.45 * (pedal_up - 0.3), 0.1 * sign)
        leg = [(-0.2, 0.92, 0.09 * sign), knee, (pedal_forward, pedal_up, 0.11 * sign)]
        figure.limb(leg, 0.14, look.trousers)
    _upper_body(
        figure,
        look,
        hip=(-0.2, 0.94),
        shoulder=(0.1, 1.38),
        hands=(0.38, 1.02),
        lean=0.1,
    )


def _upper_body(
    figure: Figure,
    look: Look,
    hip: tuple[float, float],
    shoulder: tuple[float, float],
    swing: float = 0.0,
    hands: tuple[float, float] | None = None,
    lean: float = 0.0,
) -> None:
    """Trunk, arms and head; hip, shoulder and hands are (forward, up) in metres.

    Without `hands` the arms hang down and swing against the legs.
    """
    for sign in figure.far_to_near:
        side = 0.1 * sign
        trunk = [(hip[0], hip[1] + 0.06, 0.8 * side), (shoulder[0], shoulder[1] - 0.09, side)]
        figure.limb(trunk, 0.24, look.coat)
    sleeve = tuple(0.82 * value for value in look.coat)
    for sign in figure.far_to_near:
        hand = hands or (shoulder[0] - sign * swing, hip[1] - 0.08)
        elbow = (0.5 * (shoulder[0] + hand[0]) - 0.03, 0.5 * (shoulder[1] + hand[1]) - 0.02)
        side = 0.24 * sign
        arm = [(shoulder[0], shoulder[1] - 0.06, 0.2 * sign), (*elbow, side), (*hand, side)]
        figure.limb(arm, 0.1, sleeve)
        figure.ball((*hand, side), 0.055, look.skin)
    face_up = shoulder[1] + 0.22
    figure.limb([(shoulder[0], shoulder[1], 0), (shoulder[0] + lean, face_up, 0)], 0.1, look.skin)
    hair = ((shoulder[0] + lean - 0.02, face_up + 0.03, 0.0), 0.105, look.hair)
    face = ((shoulder[0] + lean + 0.03, face_up - 0.01, 0.0), 0.09, look.skin)
    for ball in (face, hair) if figure.looks_away else (hair, face):
        figure.ball(*ball)
