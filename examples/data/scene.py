"""One road scene from one seed: image and classes."""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from tvm_bnn.examples.data.scene_geometry import Camera, random_camera, random_road
from tvm_bnn.examples.data.scene_ground import (
    CAR,
    LANE,
    ROAD,
    TRUCK,
    Light,
    paint_ground,
    paint_sky,
    random_light,
)
from tvm_bnn.examples.data.scene_objects import (
    random_buildings,
    random_plants,
    random_poles,
    random_vehicles,
    shade_under,
    vehicle_things,
)

#: What painters mark -> 0 background, 1 road, 2 ego lane, 3 vehicle.
_CLASSES = np.zeros(256, np.uint8)
_CLASSES[[ROAD, LANE, CAR, TRUCK]] = 1, 2, 3, 3


def glare(rng: Generator, image: np.ndarray, camera: Camera, light: Light) -> np.ndarray:
    """Light of a low sun that spreads over the lens, in some of the sunny scenes."""
    if light.sun < 0.4 or rng.random() < 0.6:
        return image
    height, width = camera.size
    x, y = rng.uniform(0, width), camera.horizon - rng.uniform(0.02, 0.4) * height
    rows, columns = np.ogrid[:height, :width]
    distance = np.hypot(columns - x, rows - y).astype(np.float32) / width
    veil = rng.uniform(0.3, 0.9) * np.exp(-distance / 0.06) + rng.uniform(0.1, 0.4) * np.exp(-distance / 0.3)
    return image + veil[:, :, None] * light.tint * np.array([1.0, 0.96, 0.85], np.float32)


def sensor(rng: Generator, image: np.ndarray) -> np.ndarray:
    """Exposure, vignette, blur and noise of a camera: float image -> uint8."""
    height, width = image.shape[:2]
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    vignette = (1 - rng.uniform(0, 0.125) * (rows**2 + columns**2)) * (rng.uniform(0.7, 1.25) * 255)
    levels = np.clip(image * vignette[:, :, None], 0, 255).astype(np.uint8)
    tone = ((np.arange(256) / 255) ** rng.uniform(0.8, 1.25) * 255).round().astype(np.uint8)
    picture = Image.fromarray(tone[levels])
    if rng.random() < 0.6:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    pixels = np.asarray(picture, np.float32)
    deviation = ((0.4 + np.sqrt(np.arange(256) / 255)) * rng.uniform(0.5, 7)).astype(np.float32)
    pixels = pixels + rng.standard_normal(pixels.shape, dtype=np.float32) * deviation[np.asarray(picture)]
    return np.clip(pixels, 0, 255).astype(np.uint8)


def render(rng: Generator, size: tuple[int, int], category: str) -> tuple[np.ndarray, np.ndarray]:
    """One scene: image uint8 [H, W, 3] and classes uint8 [H, W] (0 background, 1 road, 2 ego lane, 3 vehicle).

    size : (H, W). category : "um" (one lane a direction), "umm" (several lanes) or "uu" (no lines).
    """
    camera, road, light = random_camera(rng, size), random_road(rng, category), random_light(rng)
    image = np.zeros((*size, 3), np.float32)
    classes = np.zeros(size, np.uint8)
    paint_sky(rng, image, classes, camera, light)
    paint_ground(rng, image, classes, camera, road, light)
    vehicles = random_vehicles(rng, road)
    shade_under(image, camera, vehicles, light)
    things = random_buildings(rng, road, camera, light) + random_plants(rng, road, camera)
    things += random_poles(rng, road, camera) + vehicle_things(vehicles, camera, light)
    for thing in sorted(things, key=lambda t: -t.z):
        thing.draw(image, classes)
    image *= light.tint * np.float32(0.75 + 0.3 * light.sun)
    return sensor(rng, glare(rng, image, camera, light)), _CLASSES[classes]
