"""Lights, backgrounds and cameras."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy.ndimage import gaussian_filter


@dataclasses.dataclass(frozen=True)
class Light:
    """A key light with shadows, a rim or fill light and a sky-to-ground ambient; linear RGB."""

    key_direction: np.ndarray
    key_colour: np.ndarray
    fill_direction: np.ndarray
    fill_colour: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    shadow: float
    exposure: float


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole in front of the face; ``position`` in the mesh's units, looking along +y."""

    position: np.ndarray
    field_of_view: float  # radians

    def focal(self, size: int) -> float:
        """Focal length in pixels for a picture of ``size`` pixels."""
        return size / 2 / math.tan(self.field_of_view / 2)

    def project(self, points: np.ndarray, size: int) -> np.ndarray:
        """``[n, 3]`` mesh points to ``[n, 3]`` (x, y in pixels, depth)."""
        offset = points - self.position
        scale = self.focal(size) / offset[:, 1]
        return np.stack(
            [size / 2 + scale * offset[:, 0], size / 2 - scale * offset[:, 2], offset[:, 1]], axis=1
        ).astype(np.float32)


def random_light(rng: np.random.Generator) -> Light:
    """Studio to harsh side light, warm to cold."""
    azimuth, height = rng.uniform(-1.1, 1.1), rng.uniform(0.1, 0.9)
    key = np.array([math.sin(azimuth) * math.cos(height), -math.cos(azimuth) * math.cos(height), math.sin(height)])
    other = azimuth + rng.choice([-1, 1]) * rng.uniform(1.2, 2.6)
    fill = np.array([math.sin(other), -math.cos(other), 0.25])
    warmth = rng.uniform(-0.12, 0.12)
    ambient = rng.uniform(0.18, 0.45)
    return Light(
        key_direction=key,
        key_colour=np.array([1 + warmth, 1, 1 - warmth]) * rng.uniform(0.8, 1.3),
        fill_direction=fill / np.linalg.norm(fill),
        fill_colour=np.array([1 - warmth, 1, 1 + warmth]) * rng.uniform(0.1, 0.5),
        sky=np.array([1, 1.02, 1.06]) * ambient,
        ground=np.array([1.05, 0.95, 0.85]) * ambient * 0.55,
        shadow=rng.uniform(0.4, 0.9),
        exposure=rng.uniform(0.95, 1.35),
    )


def random_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A blurred room of gradients and rectangles, ``[size, size, 3]`` linear RGB float32."""
    rows, columns = np.mgrid[0:size, 0:size] / size
    first, second = rng.random(3) * 0.7 + 0.1, rng.random(3) * 0.7 + 0.1
    blend = columns * rng.uniform(-1, 1) + rows * rng.uniform(-1, 1)
    blend = ((blend - blend.min()) / (np.ptp(blend) + 1e-6))[..., None]
    picture = first * (1 - blend) + second * blend
    for _ in range(rng.integers(2, 9)):
        x, y, width, height = rng.uniform(-0.2, 1), rng.uniform(-0.2, 1), rng.uniform(0.05, 0.5), rng.uniform(0.05, 0.8)
        inside = ((columns > x) & (columns < x + width) & (rows > y) & (rows < y + height))[..., None]
        picture = np.where(inside, picture * 0.3 + 0.7 * rng.random(3), picture)
    grey = picture.mean(-1, keepdims=True)
    picture = grey + (picture - grey) * rng.uniform(0.05, 0.55)
    picture = gaussian_filter(picture, (size * rng.uniform(0.005, 0.05),) * 2 + (0,))
    return (np.clip(picture, 0, 1) ** 2.2).astype(np.float32)


def random_camera(rng: np.random.Generator, centre: np.ndarray, scale: float) -> Camera:
    """A camera that shows the face at about 60 % of the picture's width (55 to 68 %)."""
    field = math.radians(rng.uniform(12, 22))
    width = rng.uniform(0.190, 0.228) * scale
    distance = width / 2 / math.tan(field / 2)
    aim = centre + np.array([rng.normal(0, 0.005), 0.0, rng.normal(0.003, 0.005)]) * scale
    return Camera(position=(aim - np.array([0, distance, 0])).astype(np.float64), field_of_view=field)


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation matrix ``[3, 3]`` of the head; signs as documented in face/landmarks.py."""
    cy, sy = math.cos(yaw), math.sin(yaw)
    cp, sp = math.cos(-pitch), math.sin(-pitch)
    cr, sr = math.cos(roll), math.sin(roll)
    turn = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tip = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    return turn @ nod @ tip
