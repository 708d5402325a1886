"""Generated street scenes with the 19 classes of Cityscapes."""

import numpy as np
from numpy.random import Generator

from tvm_bnn.examples.data.scene import glare, sensor
from tvm_bnn.examples.data.scene_geometry import random_camera, random_road
from tvm_bnn.examples.data.scene_ground import LANE, ROAD, colour, paint_ground, paint_sky, random_light
from tvm_bnn.examples.data.scene_objects import (
    NEAREST,
    random_buildings,
    random_plants,
    random_poles,
    random_vehicles,
    shade_under,
    vehicle_things,
)
from tvm_bnn.examples.data.street_objects import (
    random_lights,
    random_people,
    random_walls,
    with_public_transport,
)

IGNORED = 255


def _bonnet(rng: Generator, image: np.ndarray, classes: np.ndarray) -> None:
    """The front of the camera's own car, along the bottom; it is not to be counted."""
    height, width = classes.shape
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    up = (np.arange(height, dtype=np.float32)[:, None] - height) / height
    covered = up > -rng.uniform(0.04, 0.1) * (1 - 0.6 * across**2)
    shine = 1 + 4 * (up + 0.1)
    image[covered] = (colour(rng, (0.25, 0.26, 0.28), 0.2) * shine[..., None] + 0 * across[..., None])[covered]
    classes[covered] = IGNORED


def render(rng: Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One scene of (H, W): image uint8 [H, W, 3] and classes uint8 [H, W], Cityscapes' train ids and IGNORED."""
    category = "um" if rng.random() < 0.5 else "umm"
    camera, road, light = random_camera(rng, size), random_road(rng, category), random_light(rng)
    image, classes = np.zeros((*size, 3), np.float32), np.zeros(size, np.uint8)
    paint_sky(rng, image, classes, camera, light)
    paint_ground(rng, image, classes, camera, road, light)
    vehicles = [v for v in with_public_transport(rng, road, random_vehicles(rng, road)) if v.z > NEAREST]
    shade_under(image, camera, vehicles, light)
    things = random_buildings(rng, road, camera, light) + random_plants(rng, road, camera)
    things += random_poles(rng, road, camera) + random_lights(rng, road, camera)
    things += random_walls(rng, road, camera, light)
    things += random_people(rng, road, vehicles, camera, light) + vehicle_things(vehicles, camera, light)
    for thing in sorted(things, key=lambda t: -t.z):
        thing.draw(image, classes)
    classes[classes == LANE] = ROAD
    image *= light.tint * np.float32(0.75 + 0.3 * light.sun)
    image = glare(rng, image, camera, light)
    _bonnet(rng, image, classes)
    return sensor(rng, image), classes
