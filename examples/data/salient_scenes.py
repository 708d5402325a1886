"""Generated pictures of one to three salient objects on cluttered ground, with the objects as truth.

The ground and its clutter share one palette; an object differs from it in colour, in the size of its texture, and by
light and shadow. Objects may be cut by the border, hide each other, and carry parts that stick out.
"""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from tvm_bnn.examples.data.scene import sensor
from tvm_bnn.examples.data.scene_ground import smooth_noise

SUPER = 2  # samples an axis of a pixel, for outlines
CONTRAST = 0.3  # least distance of an object's colour from the ground's, in 0..1 RGB


def _noise(rng: Generator, size: tuple[int, int], cell: float) -> np.ndarray:
    """[H, W] of deviation 1 or so: noise of three octaves down from `cell` pixels."""
    cells = [max(2, int(cell / 2**octave)) for octave in range(3)]
    return np.asarray(sum(smooth_noise(rng, size, one) * 0.6**octave for octave, one in enumerate(cells)))


def _outline(rng: Generator, middle: np.ndarray, radius: float) -> np.ndarray:
    """[N, 2] of x, y around the middle: an ellipse with waves, smooth as a pebble or jagged as a leaf."""
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    reach = np.ones_like(angles)
    rough = rng.uniform(0.03, 0.28)
    for wave in range(2, 8):
        reach += rough / wave * rng.normal() * np.cos(wave * angles + rng.uniform(0, 2 * np.pi))
    stretch, turn = rng.uniform(0.55, 1.0), rng.uniform(0, np.pi)
    points = np.stack([reach * np.cos(angles), stretch * reach * np.sin(angles)], axis=1) * radius
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return points @ rotation.T + middle


def _polygon(rng: Generator, middle: np.ndarray, radius: float) -> np.ndarray:
    """[N, 2] of x, y: a box, a bottle's or a sign's straight sides."""
    corners = int(rng.integers(3, 7))
    even = rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
    angles = np.sort(even + rng.normal(0, 0.15, corners))
    return middle + radius * np.stack([np.cos(angles), rng.uniform(0.6, 1.0) * np.sin(angles)], axis=1)


def _cover(outlines: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Share [H, W] of each pixel inside any of the outlines."""
    height, width = size
    sheet = Image.new("L", (width * SUPER, height * SUPER))
    pen = ImageDraw.Draw(sheet)
    for outline in outlines:
        pen.polygon([(float(x) * SUPER, float(y) * SUPER) for x, y in outline], fill=255)
    return np.asarray(sheet, np.float32).reshape(height, SUPER, width, SUPER).mean(axis=(1, 3)) / 255


def _pattern(rng: Generator, size: tuple[int, int], radius: float) -> np.ndarray:
    """[H, W] of 0..1, an object's markings: stripes, checks, spots, marble or nearly none."""
    rows, columns = (axis.astype(np.float32) for axis in np.ogrid[: size[0], : size[1]])
    turn, period = rng.uniform(0, np.pi), radius * rng.uniform(0.18, 0.5)
    along = columns * np.cos(turn) + rows * np.sin(turn) + 0.12 * radius * smooth_noise(rng, size, max(4, int(radius)))
    across = rows * np.cos(turn) - columns * np.sin(turn)
    waves = [np.sin(2 * np.pi * axis / period) for axis in (along, across)]
    kind = rng.integers(5)
    if kind == 0:
        field = waves[0] * 4
    elif kind == 1:
        field = waves[0] * waves[1] * 8
    elif kind == 2:
        field = (waves[0] + waves[1] - rng.uniform(0.6, 1.2)) * 4
    elif kind == 3:
        field = _noise(rng, size, period * 2) * 2
    else:
        field = _noise(rng, size, radius) * 0.4
    return np.clip(field / 2 + 0.5, 0, 1)


def _unlike(rng: Generator, ground: np.ndarray) -> np.ndarray:
    """A colour [3] at a distance from all colours [N, 3] of the ground."""
    while True:
        found = rng.uniform(0.05, 0.95, 3)
        if np.linalg.norm(ground - found, axis=1).min() > CONTRAST:
            return np.asarray(found, np.float32)


def _ground(rng: Generator, size: tuple[int, int], palette: np.ndarray) -> np.ndarray:
    """Colours [H, W, 3]: two surfaces that meet at a line or fade into each other, with texture and light."""
    height, width = size
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :]
    level = rng.uniform(0.15, 0.7) + rng.normal(0, 0.2) * columns + rng.uniform(0, 0.08) * _noise(rng, size, width / 4)
    sharp = rng.uniform(2, 60)
    low = np.clip((rows - level) * sharp + 0.5, 0, 1)[..., None]
    mottle = [np.clip(_noise(rng, size, rng.uniform(8, 60)) * 0.4 + 0.5, 0, 1)[..., None] for _ in range(2)]
    upper, lower = (palette[2 * i] * mottle[i] + palette[2 * i + 1] * (1 - mottle[i]) for i in range(2))
    light = 1 + rng.uniform(-0.25, 0.25) * (2 * columns) + 0.04 * _noise(rng, size, 4)
    return np.asarray((upper * (1 - low) + lower * low) * light[..., None], np.float32)


def _clutter(rng: Generator, image: np.ndarray, palette: np.ndarray) -> None:
    """Small things in the ground's own colours: stones, leaves, litter."""
    size = image.shape[:2]
    for _ in range(int(rng.integers(10, 60))):
        radius = max(size) * rng.uniform(0.004, 0.035)
        middle = rng.uniform(0, 1, 2) * (size[1], size[0])
        x0, y0 = (int(v) for v in np.maximum(middle - 2 * radius, 0))
        x1, y1 = (int(v) for v in np.minimum(middle + 2 * radius + 2, (size[1], size[0])))
        if x1 <= x0 or y1 <= y0:
            continue
        shape = _outline if rng.random() < 0.7 else _polygon
        cover = _cover([shape(rng, middle - (x0, y0), radius)], (y1 - y0, x1 - x0))[..., None] * 0.8
        shade = np.clip(palette[rng.integers(len(palette))] * rng.uniform(0.65, 1.3), 0, 1)
        image[y0:y1, x0:x1] = image[y0:y1, x0:x1] * (1 - cover) + shade * cover


def _object(
    rng: Generator, image: np.ndarray, truth: np.ndarray, palette: np.ndarray, sun: tuple[float, float], share: float
) -> None:
    """Draw one object and its shadow over the image; share : of the picture that it roughly takes."""
    height, width = size = truth.shape
    radius = float(np.sqrt(share * height * width / 2.4))
    middle = np.array([width, height]) * np.clip(rng.normal(0.5, 0.16, 2), 0.12, 0.88)
    shape = _outline if rng.random() < 0.75 else _polygon
    outlines = [shape(rng, middle, radius)]
    for _ in range(int(rng.choice(4, p=[0.4, 0.25, 0.2, 0.15]))):  # a head, legs, a handle
        turn = rng.uniform(0, 2 * np.pi)
        at = middle + radius * rng.uniform(0.7, 1.05) * np.array([np.cos(turn), np.sin(turn)])
        outlines.append(_outline(rng, at, radius * rng.uniform(0.18, 0.45)))
    cover = _cover(outlines, size)[..., None]

    shadow = _cover([outline + np.array(sun) * radius * 0.35 for outline in outlines], size)
    soft = Image.fromarray((shadow * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius * 0.12))
    image *= 1 - rng.uniform(0.15, 0.55) * (np.asarray(soft, np.float32) / 255)[..., None]

    one, other = _unlike(rng, palette), _unlike(rng, palette)
    mix = _pattern(rng, size, radius)[..., None] * rng.uniform(0.3, 1.0)
    rows, columns = np.ogrid[:height, :width]
    towards = -((columns - middle[0]) * sun[0] + (rows - middle[1]) * sun[1]) / radius
    shade = np.clip(1 + 0.3 * towards + 0.05 * _noise(rng, size, 3), 0.35, 1.5)[..., None]
    painted = (one * (1 - mix) + other * mix) * shade
    image[...] = image * (1 - cover) + painted * cover
    truth[cover[..., 0] > 0.5] = 1


def render(rng: Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One picture of (H, W): image uint8 [H, W, 3] and truth uint8 [H, W], 1 where an object is, else 0."""
    # greys, browns and dull greens: brightness varies more than hue
    base = rng.uniform(0.2, 0.7) + rng.normal(0, 0.07, 3)
    shades = base + rng.normal(0, 0.1, (4, 1)) + rng.normal(0, 0.04, (4, 3))
    palette = np.clip(shades, 0.05, 0.9).astype(np.float32)
    image, truth = _ground(rng, size, palette), np.zeros(size, np.uint8)
    _clutter(rng, image, palette)
    turn = rng.uniform(0, 2 * np.pi)
    sun = float(np.cos(turn)), float(np.sin(turn))
    count = int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))
    for share in rng.uniform(0.05, 0.3, count) / count**0.5:
        _object(rng, image, truth, palette, sun, float(share))
    return sensor(rng, np.clip(image, 0, 1)), truth
