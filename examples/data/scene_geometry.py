"""Where things stand in a road scene: a pinhole camera over a flat ground with one curved road.

Metres, with the camera at X = 0, Z = 0: X to the right, Y up from the ground, Z ahead. A point is seen at
    x = centre + focal * X / Z,    y = horizon + focal * (height - Y) / Z,
so the ground pixel (x, y) below the horizon lies at Z = focal * height / (y - horizon), X = (x - centre) * Z / focal.
Lateral positions u are measured from the road's reference line, X = line(Z) + u, and the camera stands at u = 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

SIGHT = 140.0  # metres: the road and what stands at it end here


@dataclass(frozen=True)
class Camera:
    """size : (H, W) in pixels; focal, horizon : pixels; height : metres."""

    size: tuple[int, int]
    focal: float
    horizon: float
    height: float

    @property
    def centre(self) -> float:
        return self.size[1] / 2

    def project(self, points: np.ndarray) -> np.ndarray:
        """[N, 3] of X, Y, Z -> [N, 2] of x, y."""
        x = self.centre + self.focal * points[:, 0] / points[:, 2]
        y = self.horizon + self.focal * (self.height - points[:, 1]) / points[:, 2]
        return np.stack([x, y], axis=1)

    def ground(self) -> tuple[int, np.ndarray, np.ndarray]:
        """First row of the ground, Z of each row [h, 1], X of each pixel [h, W]."""
        first = int(self.horizon) + 1
        rows = np.arange(first, self.size[0], dtype=np.float32)[:, None] + 0.5
        z = np.float32(self.focal * self.height) / (rows - np.float32(self.horizon))
        columns = np.arange(self.size[1], dtype=np.float32)[None, :] + np.float32(0.5 - self.centre)
        return first, z, columns * z / np.float32(self.focal)


@dataclass(frozen=True)
class Road:
    """lines : u of every line between lanes and of both edges, from left to right; ego : index of the camera's lane.

    oncoming : how many lanes from the left lead to the camera. marked : whether lines are painted.
    """

    lines: tuple[float, ...]
    ego: int
    oncoming: int
    heading: float
    curvature: float
    bend: float
    marked: bool = True

    def line(self, z: np.ndarray | float) -> np.ndarray:
        """X of the reference line, in the shape of z: a parabola that starts to bend at some distance."""
        beyond = np.maximum(z - self.bend, 0.0)
        return np.asarray(self.heading * z + 0.5 * self.curvature * beyond * beyond)

    def slope(self, z: float) -> float:
        return float(self.heading + self.curvature * max(z - self.bend, 0.0))

    @property
    def lane(self) -> tuple[float, float]:
        return self.lines[self.ego], self.lines[self.ego + 1]

    @property
    def edges(self) -> tuple[float, float]:
        return self.lines[0], self.lines[-1]


def random_camera(rng: Generator, size: tuple[int, int]) -> Camera:
    height, width = size
    return Camera(
        size=size,
        focal=width * rng.uniform(0.55, 0.75),
        horizon=height * rng.uniform(0.36, 0.5),
        height=rng.uniform(1.35, 1.9),
    )


def random_road(rng: Generator, category: str) -> Road:
    """category : "um", one lane a direction, "umm", several, or "uu", one without markings."""
    if category in ("um", "uu"):
        lanes, oncoming = 2, 1
    else:
        lanes = int(rng.integers(3, 5))
        oncoming = int(rng.integers(0, lanes // 2 + 1))
    ego = int(rng.integers(oncoming, lanes))
    width = rng.uniform(3.0, 3.8)
    left = -width * (ego + 0.5) + rng.uniform(-0.5, 0.5)
    curvature = rng.normal(0, 0.0035) if rng.random() < 0.7 else 0.0
    return Road(
        lines=tuple(float(left + width * index) for index in range(lanes + 1)),
        ego=ego,
        oncoming=oncoming,
        heading=float(rng.normal(0, 0.025)),
        curvature=float(np.clip(curvature, -0.01, 0.01)),
        bend=float(rng.uniform(0, 30)),
        marked=category != "uu",
    )
