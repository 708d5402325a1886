"""Sky, ground, road and markings of a road or street scene, painted for all pixels at once, with their classes."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image

from tvm_bnn.examples.data.scene_geometry import SIGHT, Camera, Road

TILE = 256

# What painters mark: Cityscapes' 19 training classes in their order, and the lane of the camera, which is road there.
(
    ROAD,
    SIDEWALK,
    BUILDING,
    WALL,
    FENCE,
    POLE,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    VEGETATION,
    TERRAIN,
    SKY,
    PERSON,
    RIDER,
    CAR,
    TRUCK,
    BUS,
    TRAIN,
    MOTORCYCLE,
    BICYCLE,
    LANE,
) = range(20)

Colour = np.ndarray


@dataclass(frozen=True)
class Light:
    """sun : strength of direct light, 0 (overcast) to 1. side : metres right a shadow falls per metre of height."""

    sun: float
    side: float
    tint: Colour


def random_light(rng: Generator) -> Light:
    sun = float(rng.uniform(0.4, 1.0)) if rng.random() < 0.65 else float(rng.uniform(0, 0.15))
    warm = rng.uniform(-0.08, 0.12)
    return Light(sun, float(rng.uniform(-1.5, 1.5)), np.array([1 + warm, 1.0, 1 - warm], np.float32))


def smooth_noise(rng: Generator, shape: tuple[int, int], cell: int) -> np.ndarray:
    """[H, W] of about -1..1 that varies over `cell` pixels."""
    small = rng.standard_normal((shape[0] // cell + 3, shape[1] // cell + 3)).astype(np.float32)
    grown = Image.fromarray(small).resize((small.shape[1] * cell, small.shape[0] * cell), Image.Resampling.BICUBIC)
    return np.asarray(grown)[cell : cell + shape[0], cell : cell + shape[1]]


def colour(rng: Generator, base: tuple[float, float, float], spread: float = 0.08, hue: float = 0.03) -> Colour:
    """A colour near the base, in 0..1, float32 [3]; spread varies its brightness, hue each of its parts."""
    shade = np.array(base) * (1 + rng.normal(0, spread * 2)) + rng.normal(0, hue, 3)
    return np.clip(shade, 0.02, 1).astype(np.float32)


def paint_sky(rng: Generator, image: np.ndarray, classes: np.ndarray, camera: Camera, light: Light) -> None:
    """Gradient, clouds and a silhouette of far trees, down to the horizon."""
    rows = int(camera.horizon) + 1
    top = colour(rng, (0.35, 0.55, 0.85) if light.sun > 0.2 else (0.65, 0.68, 0.72))
    low = colour(rng, (0.8, 0.85, 0.9))
    mix = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None] ** 1.5
    sky = top * (1 - mix) + low * mix
    shape = (rows, image.shape[1])
    clouds = smooth_noise(rng, shape, 48) + 0.5 * smooth_noise(rng, shape, 16) + 0.25 * smooth_noise(rng, shape, 6)
    cover = np.clip(clouds * 0.6 + rng.uniform(-0.6, 0.4), 0, 1)[:, :, None]
    image[:rows] = sky * (1 - cover) + colour(rng, (0.9, 0.9, 0.92)) * cover
    far = rng.uniform(0.01, 0.1) * camera.size[0]
    profile = far * (1 + 0.6 * smooth_noise(rng, (1, shape[1]), 64)[0] + 0.15 * smooth_noise(rng, (1, shape[1]), 8)[0])
    hidden = np.arange(rows)[:, None] > camera.horizon - profile[None, :]
    hills = colour(rng, (0.3, 0.4, 0.32)) * 0.6 + low * 0.4
    image[:rows][hidden] = hills
    classes[:rows] = np.where(hidden, VEGETATION, SKY)
    image[:rows] *= 1 + 0.015 * smooth_noise(rng, shape, 3)[:, :, None]


class _Texture:
    """Noise over the ground, in metres, that fades where pixels grow larger than its grain."""

    def __init__(self, rng: Generator, u: np.ndarray, z: np.ndarray):
        self.tile = rng.standard_normal((TILE, TILE)).astype(np.float32)
        self.soft = np.clip(smooth_noise(rng, (TILE, TILE), 16), -2, 2)
        self.u, self.z = u, z

    def _look_up(self, tile: np.ndarray, grain: float) -> np.ndarray:
        across = (self.u * np.float32(1 / grain)).astype(np.int32) & (TILE - 1)
        along = (self.z * np.float32(0.6 / grain)).astype(np.int32) & (TILE - 1)
        return tile[along, across]

    def fine(self, grain: float) -> np.ndarray:
        fade = 1 / (1 + (self.z * np.float32(0.002 / grain)) ** 2)
        return self._look_up(self.tile, grain) * fade

    def coarse(self, grain: float) -> np.ndarray:
        return self._look_up(self.soft, grain / 16)


def _line_cover(distance: np.ndarray, width: float, pixel: np.ndarray) -> np.ndarray:
    """Share of each pixel under a line: distance [h, W] to its middle, pixel [h, 1] its size, all in metres."""
    return np.clip((width / 2 - np.abs(distance)) / pixel + 0.5, 0, np.minimum(1, width / pixel))


def _dashes(z: np.ndarray, period: float, phase: float, step: np.ndarray) -> np.ndarray:
    """[h, 1] of 0..1 along the road: half painted, grey where a row of pixels holds a whole period."""
    wave = np.abs(((z + phase) / period) % 1.0 - 0.5) * 2
    return np.clip((0.5 - wave) * period / np.maximum(step, 0.02) + 0.5, 0, 1) * 0.9


def _markings(rng: Generator, road: Road, u: np.ndarray, z: np.ndarray, camera: Camera) -> np.ndarray:
    """Share of each ground pixel that is painted."""
    pixel = z / np.float32(camera.focal)
    step = z * pixel / np.float32(camera.height)
    paint = np.zeros_like(u)
    period, phase = rng.uniform(6, 13), rng.uniform(0, 13)
    edge_lines = rng.random() < 0.75
    for index, line in enumerate(road.lines):
        width = rng.uniform(0.1, 0.18)
        if index in (0, len(road.lines) - 1):
            inside = 0.2 if index == 0 else -0.2
            cover = _line_cover(u - line - inside, width, pixel) if edge_lines else np.zeros_like(u)
        elif index == road.oncoming and rng.random() < 0.5:  # a full line between the directions, often doubled
            gap = 0.12 if rng.random() < 0.5 else 0.0
            cover = np.maximum(_line_cover(u - line - gap, width, pixel), _line_cover(u - line + gap, width, pixel))
        else:
            cover = _line_cover(u - line, width, pixel) * _dashes(z, period, phase, step)
        paint = np.maximum(paint, cover)
    return paint


def _roadside(rng: Generator, u: np.ndarray, road: Road, texture: _Texture) -> tuple[np.ndarray, np.ndarray]:
    """Colours [h, W, 3] and classes of the ground beside the road: pavement or verge, then grass, earth or paving."""
    grass, earth, paving = colour(rng, (0.3, 0.42, 0.2)), colour(rng, (0.5, 0.42, 0.32)), colour(rng, (0.5, 0.49, 0.47))
    far = [grass, grass, earth, paving][rng.integers(4)]
    near = [grass, earth, paving, paving][rng.integers(4)]
    far_class, near_class = (SIDEWALK if ground is paving else TERRAIN for ground in (far, near))
    reach = rng.uniform(0.5, 3.5)
    left, right = road.edges
    beside = np.maximum(left - u, u - right)
    strip = (beside < reach)[:, :, None]
    painted = np.where(strip, near, far)
    classes = np.where(beside < reach, near_class, far_class)
    rough = 0.12 * texture.fine(0.06) + 0.1 * texture.coarse(1.5)
    painted = painted * (1 + rough)[:, :, None]
    if rng.random() < 0.6:  # kerb stones
        kerb = (beside < 0.2)[:, :, None]
        painted = np.where(kerb, colour(rng, (0.6, 0.59, 0.57)), painted)
        classes[beside < 0.2] = SIDEWALK
    return painted, classes


def _cast_shadows(rng: Generator, texture: _Texture, light: Light, u: np.ndarray, road: Road) -> np.ndarray:
    """Factor [h, W]: patches under trees and a band along one side, as dark as the sun is strong."""
    dark = 1 - light.sun * rng.uniform(0.35, 0.6)
    level = rng.uniform(0.3, 2.0)
    patches = texture.coarse(rng.uniform(2, 6)) + 0.4 * texture.coarse(0.7)
    soft = np.clip((patches - level) * 4, 0, 1)
    if rng.random() < 0.4:
        side = -1 if light.side > 0 else 1
        limit = road.edges[0 if side < 0 else 1] * rng.uniform(0.2, 1.2) - side * 0.8 * texture.coarse(3)
        soft = np.maximum(soft, np.clip((u - limit) * side * 3, 0, 1))
    return 1 - soft * (1 - dark)


def _asphalt(rng: Generator, texture: _Texture) -> np.ndarray:
    """Colours [h, W, 3] of the road's surface, sometimes with mended patches."""
    grain = 1 + 0.12 * texture.fine(0.04) + 0.06 * texture.coarse(2)
    if rng.random() < 0.3:
        grain = np.where(texture.coarse(5) > 0.9, grain * rng.uniform(0.75, 1.2), grain)
    return colour(rng, (0.38, 0.38, 0.39), 0.12, hue=0.012) * grain[:, :, None]


def paint_ground(
    rng: Generator, image: np.ndarray, classes: np.ndarray, camera: Camera, road: Road, light: Light
) -> None:
    """The ground below the horizon and its classes."""
    first, z, x = camera.ground()
    u = (x - np.asarray(road.line(z), np.float32)).astype(np.float32)
    texture = _Texture(rng, u + 500, z)
    on_road = (u > road.edges[0]) & (u < road.edges[1]) & (z < SIGHT)
    in_lane = (u > road.lane[0]) & (u < road.lane[1]) & on_road
    asphalt = _asphalt(rng, texture)
    wear = np.clip(0.9 + rng.uniform(-0.35, 0.1) + 0.25 * texture.coarse(0.5), 0.15, 1)
    markings = _markings(rng, road, u, z, camera) if road.marked else np.zeros_like(u)
    paint = (markings * wear)[:, :, None]
    white = colour(rng, (0.85, 0.85, 0.82), 0.04) if rng.random() < 0.85 else colour(rng, (0.85, 0.68, 0.2), 0.04)
    surface = asphalt * (1 - paint) + white * paint
    beside, beside_classes = _roadside(rng, u, road, texture)
    classes[first:] = np.where(in_lane, LANE, np.where(on_road, ROAD, beside_classes))
    painted = np.where(on_road[:, :, None], surface, beside)
    painted = painted * _cast_shadows(rng, texture, light, u, road)[:, :, None]
    haze = 1 - np.exp(-z / np.float32(rng.uniform(120, 500)))[:, :, None]
    image[first:] = painted * (1 - haze) + image[first - 1 : first].mean(axis=(0, 1)) * haze
