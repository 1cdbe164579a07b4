"""Weather and time of day of one scene: how bright a face is and what distance does to it."""

import math
from dataclasses import dataclass

import numpy as np

from projects.clockdistill.data.synthkitti.style import SceneStyle


@dataclass(frozen=True)
class Light:
    """
    Attributes:
        toward_sun: (3,) unit vector in camera axes.
        ambient, diffuse: factors on a colour; a face towards the sun gets their sum.
        haze_colour: (3,) what distance fades to.
        haze_distance: metres after which haze makes 63% of a colour.
        sky_top, sky_bottom: (3,) colours.
        shadow: share of light that a shadow on the road takes away.
    """

    toward_sun: np.ndarray
    ambient: float
    diffuse: float
    haze_colour: np.ndarray
    haze_distance: float
    sky_top: np.ndarray
    sky_bottom: np.ndarray
    shadow: float

    def shade(self, colours: np.ndarray, normals: np.ndarray, distance: float) -> np.ndarray:
        """Colours of faces as the camera sees them.

        Args:
            colours: (F, 3) 0 to 255.
            normals: (F, 3) unit vectors in camera axes.
            distance: metres from the camera.

        Returns:
            (F, 3) 0 to 255.
        """
        sunlit = np.maximum(normals @ self.toward_sun, 0.0)
        lit = colours * (self.ambient + self.diffuse * sunlit)[:, None]
        return self.fade(lit, distance)

    def fade(self, colours: np.ndarray, distance: float) -> np.ndarray:
        """Colours seen through the haze of so many metres, clipped to 0 to 255."""
        share = 1.0 - math.exp(-distance / self.haze_distance)
        faded = colours + share * (self.haze_colour - colours)
        return np.minimum(np.maximum(faded, 0.0), 255.0)


def sample_light(rng: np.random.Generator, style: SceneStyle) -> Light:
    """Draw sun, clouds and haze of a scene."""
    contrast = rng.uniform(*style.contrast)
    azimuth, elevation = rng.uniform(-math.pi, math.pi), rng.uniform(0.5, 1.1)
    toward_sun = np.array(
        [
            math.cos(elevation) * math.cos(azimuth),
            -math.sin(elevation),
            math.cos(elevation) * math.sin(azimuth),
        ]
    )
    grey = np.array([196.0, 202.0, 208.0])
    blue_top, blue_bottom = np.array([88.0, 140.0, 210.0]), np.array([190.0, 214.0, 236.0])
    warmth = rng.uniform(0.0, 1.0) ** 3 * np.array([24.0, 4.0, -24.0])
    sky_top = grey + contrast * (blue_top - grey) + warmth
    sky_bottom = grey + 20 + contrast * (blue_bottom - grey - 20) + warmth
    return Light(
        toward_sun=toward_sun,
        ambient=0.82 - 0.24 * contrast,
        diffuse=0.12 + 0.5 * contrast,
        haze_colour=np.clip(sky_bottom - 12, 0, 255),
        haze_distance=rng.uniform(*style.haze),
        sky_top=np.clip(sky_top, 0, 255),
        sky_bottom=np.clip(sky_bottom, 0, 255),
        shadow=0.25 + 0.3 * contrast,
    )
