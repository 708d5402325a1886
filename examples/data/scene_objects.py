"""What stands on the ground of road and street scenes: vehicles, buildings, trees, poles. Each hides what is behind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from tvm_bnn.examples.data.scene_geometry import Camera, Road
from tvm_bnn.examples.data.scene_ground import (
    BUILDING,
    BUS,
    CAR,
    POLE,
    TRAFFIC_SIGN,
    TRAIN,
    TRUCK,
    VEGETATION,
    Light,
    colour,
    smooth_noise,
)

SUPER = 3  # samples an axis of a pixel, for polygons
NEAREST = 2.5  # metres before the camera

Draw = Callable[[np.ndarray, np.ndarray], None]
Face = tuple[np.ndarray, np.ndarray]  # corners [N, 3] in metres, colour [3]


@dataclass(frozen=True)
class Thing:
    """z : distance of its near side; draw(image, classes) paints it."""

    z: float
    draw: Draw


@dataclass(frozen=True)
class Vehicle:
    """x : middle of its rear at distance z; slope : dX/dZ of its axis; the rest in metres."""

    x: float
    z: float
    slope: float
    width: float
    height: float
    length: float
    boxy: bool
    oncoming: bool
    paint: np.ndarray
    label: int


def compose(
    image: np.ndarray, classes: np.ndarray, faces: Sequence[Face], camera: Camera, labels: Sequence[int]
) -> None:
    """Draw polygons in order, with smooth edges. labels : class of each.

    Pixels that are more than half covered get the class that the most of their samples show.
    """
    outlines = [camera.project(corners) for corners, _ in faces]
    every = np.concatenate(outlines)
    height, width = camera.size
    x0, y0 = (int(v) for v in np.floor(np.clip(every.min(axis=0) - 1, 0, [width, height])))
    x1, y1 = (int(v) for v in np.ceil(np.clip(every.max(axis=0) + 1, 0, [width, height])))
    if x1 - x0 < 1 or y1 - y0 < 1:
        return
    sheet = Image.new("RGBA", ((x1 - x0) * SUPER, (y1 - y0) * SUPER))
    marks = Image.new("L", sheet.size)
    pen, marker = ImageDraw.Draw(sheet), ImageDraw.Draw(marks)
    kinds = sorted(set(labels))
    for outline, (_, shade), label in zip(outlines, faces, labels, strict=True):
        fill = (*(int(v) for v in np.clip(shade * 255, 0, 255)), 255)
        corners = [(float(x - x0) * SUPER, float(y - y0) * SUPER) for x, y in outline]
        pen.polygon(corners, fill=fill)
        marker.polygon(corners, fill=kinds.index(label) + 1)
    small = np.asarray(sheet, np.float32).reshape(y1 - y0, SUPER, x1 - x0, SUPER, 4) / 255
    cover = small[..., 3:].mean(axis=(1, 3))
    inked = (small[..., :3] * small[..., 3:]).mean(axis=(1, 3))
    view = image[y0:y1, x0:x1]
    view[...] = view * (1 - cover) + inked
    samples = np.asarray(marks).reshape(y1 - y0, SUPER, x1 - x0, SUPER)
    counts = np.stack([(samples == place).sum(axis=(1, 3)) for place in range(1, len(kinds) + 1)])
    covered = cover[..., 0] > 0.5
    classes[y0:y1, x0:x1][covered] = np.array(kinds, np.uint8)[counts.argmax(axis=0)][covered]


def upright(x: float, z: float, half: float, low: float, high: float) -> np.ndarray:
    """Corners of a rectangle that faces the camera: 2 * half wide, from `low` up to `high` metres."""
    return np.array([[x - half, low, z], [x + half, low, z], [x + half, high, z], [x - half, high, z]])


def _box(v: Vehicle, low: float, high: float, inset: tuple[float, float, float], shade: np.ndarray) -> list[Face]:
    """Visible faces of a box of the vehicle: (side inset of its top, rear inset, front inset) in metres."""
    narrow, rear, front = inset
    z0, z1 = v.z + rear, v.z + v.length - front
    half = v.width / 2

    def corner(side: int, y: float, z: float) -> tuple[float, float, float]:
        reach = half - (narrow if y == high else 0)
        return v.x + v.slope * (z - v.z) + side * reach, y, z

    faces = []
    for side in (-1, 1):
        near = v.x + side * half
        if near * side < 0:  # this flank is turned to the camera
            flank = [corner(side, low, z0), corner(side, high, z0), corner(side, high, z1), corner(side, low, z1)]
            faces.append((np.array(flank), shade * 0.72))
    top = [corner(-1, high, z0), corner(1, high, z0), corner(1, high, z1), corner(-1, high, z1)]
    faces.append((np.array(top), shade * 1.2))
    back = [corner(-1, low, z0), corner(1, low, z0), corner(1, high, z0), corner(-1, high, z0)]
    faces.append((np.array(back), shade))
    return faces


def _on_rear(v: Vehicle, left: float, right: float, low: float, high: float, shade: np.ndarray, z: float = 0.0) -> Face:
    """A quadrilateral on the rear; left and right in -1..1 of the half width, low and high in metres."""
    xs = v.x + v.slope * z + np.array([left, right, right, left]) * v.width / 2
    return np.stack([xs, np.array([low, low, high, high]), np.full(4, v.z + z)], axis=1), shade


def _on_flank(v: Vehicle, start: float, stop: float, low: float, high: float, shade: np.ndarray) -> list[Face]:
    """A quadrilateral on the flank that is seen, if one is; start and stop in metres from the rear."""
    for side in (-1, 1):
        if (v.x + side * v.width / 2) * side < 0:
            along = np.array([start, stop, stop, start])
            xs = v.x + v.slope * along + side * (v.width / 2 + 0.01)
            return [(np.stack([xs, np.array([low, low, high, high]), v.z + along], axis=1), shade)]
    return []


def _wheels(v: Vehicle) -> list[Face]:
    """The wheels on the flank that is seen."""
    black, turn = np.full(3, 0.06, np.float32), np.linspace(0, 2 * np.pi, 14)[:-1]
    faces = []
    for side in (-1, 1):
        if (v.x + side * v.width / 2) * side < 0:
            for middle in (0.2 * v.length, 0.8 * v.length):
                along = middle + 0.33 * np.cos(turn)
                xs = v.x + v.slope * along + side * (v.width / 2 + 0.02)
                faces.append((np.stack([xs, 0.33 + 0.33 * np.sin(turn), v.z + along], axis=1), black))
    return faces


def _long_windows(v: Vehicle) -> list[Face]:
    """The row of windows of a bus or a tram, on the flank that is seen."""
    if v.label not in (BUS, TRAIN):
        return []
    glass = np.array([0.14, 0.17, 0.2], np.float32)
    starts = np.arange(0.4, v.length - 1.2, 1.6)
    return [face for start in starts for face in _on_flank(v, start, start + 1.3, 1.5, 2.6, glass)]


def vehicle_faces(v: Vehicle, light: Light) -> list[Face]:
    """Polygons of a vehicle from back to front."""
    shade = v.paint * (0.65 + 0.35 * light.sun)
    glass = np.array([0.12, 0.14, 0.17], np.float32) * (1 + light.sun)
    lamp = np.array([0.95, 0.93, 0.85] if v.oncoming else [0.75, 0.08, 0.06], np.float32)
    plate, tyre = np.full(3, 0.85, np.float32), np.full(3, 0.06, np.float32)
    body = 0.26
    faces = [_on_rear(v, -0.95, -0.65, 0.0, 0.4, tyre), _on_rear(v, 0.65, 0.95, 0.0, 0.4, tyre)]
    if v.boxy:
        faces += _box(v, body, v.height, (0.03, 0, 0), shade)
        faces.append(_on_rear(v, -0.8, 0.8, 0.55 * v.height, 0.85 * v.height, glass if v.oncoming else shade * 0.8))
        faces += _on_flank(v, 0.75 * v.length, 0.95 * v.length, 0.55 * v.height, 0.85 * v.height, glass)
        level = 0.25 * v.height
    else:
        waist, rear = 0.6 * v.height, 0.06 * v.length
        faces += _box(v, body, waist, (0.0, 0, 0), shade)
        faces += _box(v, waist, v.height, (0.13 * v.width, rear, 0.28 * v.length), shade)
        faces.append(_on_rear(v, -0.76, 0.76, waist + 0.05, v.height - 0.12, glass, rear))
        faces += _on_flank(v, 0.14 * v.length, 0.66 * v.length, waist + 0.06, v.height - 0.14, glass)
        level = 0.42 * v.height
    faces += _wheels(v)
    faces += [_on_rear(v, -0.97, -0.68, level, level + 0.14, lamp), _on_rear(v, 0.68, 0.97, level, level + 0.14, lamp)]
    faces.append(_on_rear(v, -0.28, 0.28, body + 0.1, body + 0.22, plate))
    return faces + _long_windows(v)


def _random_vehicle(rng: Generator, road: Road, u: float, z: float, oncoming: bool) -> Vehicle:
    kind = rng.choice(3, p=[0.72, 0.16, 0.12])
    width, height, length = [(1.8, 1.48, 4.3), (1.95, 2.1, 5.0), (2.45, 3.3, 8.0)][kind]
    scale = rng.uniform(0.92, 1.08)
    palette = [(0.85, 0.85, 0.86), (0.6, 0.61, 0.63), (0.12, 0.12, 0.13), (0.3, 0.31, 0.33)]
    palette += [(0.6, 0.1, 0.1), (0.1, 0.2, 0.5), (0.75, 0.6, 0.15), (0.15, 0.35, 0.25)]
    base = palette[rng.choice(8, p=[0.2, 0.18, 0.18, 0.12, 0.1, 0.12, 0.05, 0.05])]
    return Vehicle(
        x=float(road.line(z)) + u,
        z=z,
        slope=road.slope(z),
        width=width * scale,
        height=height * scale,
        length=length * scale,
        boxy=bool(kind > 0),
        oncoming=oncoming,
        paint=colour(rng, base, 0.05),
        label=TRUCK if kind == 2 else CAR,
    )


def random_vehicles(rng: Generator, road: Road) -> list[Vehicle]:
    """Traffic in the lanes, none within a car's length of another, and sometimes a row of parked cars."""
    found = []
    density = rng.uniform(0.15, 1.0)
    for lane in range(len(road.lines) - 1):
        z = rng.uniform(3, 30) if lane != road.ego else rng.uniform(7, 45)
        while z < 90:
            if rng.random() < density:
                u = (road.lines[lane] + road.lines[lane + 1]) / 2 + rng.normal(0, 0.2)
                found.append(_random_vehicle(rng, road, u, float(z), lane < road.oncoming))
            z += rng.uniform(12, 40)
    for side in (-1, 1):
        if rng.random() < 0.3:
            z = rng.uniform(4, 20)
            for _ in range(int(rng.integers(1, 6))):
                u = road.edges[0 if side < 0 else 1] + side * rng.uniform(1.1, 1.4)
                found.append(_random_vehicle(rng, road, u, float(z), bool(rng.random() < 0.2)))
                z += rng.uniform(8.5, 14)
    return found


def shade_under(image: np.ndarray, camera: Camera, vehicles: list[Vehicle], light: Light) -> None:
    """Darken the ground under each vehicle and, in sunshine, beside it."""
    first, z, x = camera.ground()
    for v in vehicles:
        rows = np.flatnonzero((z[:, 0] > v.z - 0.4) & (z[:, 0] < v.z + v.length + 0.3))
        if len(rows) == 0:
            continue
        part = slice(rows[0], rows[-1] + 1)
        across = x[part] - (v.x + v.slope * (z[part] - v.z))
        reach = light.side * v.height * light.sun
        low, high = -v.width / 2 + min(reach, 0.0) - 0.05, v.width / 2 + max(reach, 0.0) + 0.05
        inside = np.clip(np.minimum(across - low, high - across) * 4 + 0.5, 0, 1)
        image[first:][part] *= (1 - (0.35 + 0.3 * light.sun) * inside)[:, :, None]


def vehicle_things(vehicles: list[Vehicle], camera: Camera, light: Light) -> list[Thing]:
    def drawing(v: Vehicle) -> Draw:
        faces = vehicle_faces(v, light)
        return lambda image, classes: compose(image, classes, faces, camera, [v.label] * len(faces))

    return [Thing(v.z, drawing(v)) for v in vehicles if v.z > NEAREST]


def _windows(along: np.ndarray, up: np.ndarray, wall: np.ndarray, pane: np.ndarray, grid: tuple) -> np.ndarray:
    """Colours of a wall with windows: along and up in metres."""
    step, floor, wide, tall = grid
    window = (np.abs(along / step % 1 - 0.5) < wide / 2) & (np.abs(up / floor % 1 - 0.55) < tall / 2) & (up > 0.8)
    return np.where(window[..., None], pane, wall)


#: (metres along, metres up, whether it is the long side, each [h, w]) -> colours [h, w, 3], where it is solid [h, w]
Paint = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def block(
    camera: Camera, x: float, deep: float, reach: tuple[float, float], tall: float, paint: Paint, label: int
) -> Thing:
    """What has a long side along the road, at x for z in `reach`, and a short one from x to x + deep, facing us."""
    z0, z1 = reach

    def draw(image: np.ndarray, classes: np.ndarray) -> None:
        ends = camera.project(np.array([[x, 0, z0], [x, 0, z1], [x + deep, 0, z0]]))[:, 0]
        left, right = int(np.clip(ends.min(), 0, camera.size[1])), int(np.clip(np.ceil(ends.max()), 0, camera.size[1]))
        top = int(np.clip(camera.project(np.array([[x, tall, z0], [x, tall, z1]]))[:, 1].min(), 0, camera.size[0]))
        bottom = int(np.clip(np.ceil(camera.project(np.array([[x, 0, z0]]))[0, 1]), 0, camera.size[0]))
        if right <= left or bottom <= top:
            return
        columns = np.arange(left, right, dtype=np.float32)[None, :] + 0.5 - camera.centre
        rows = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - camera.horizon
        with np.errstate(divide="ignore"):
            z_flank = x * camera.focal / columns
        is_flank = (z_flank >= z0) & (z_flank <= z1)
        z = np.where(is_flank, z_flank, z0)
        x_front = columns * z0 / camera.focal
        is_front = (np.minimum(x, x + deep) <= x_front) & (x_front <= np.maximum(x, x + deep)) & ~is_flank
        up = camera.height - rows * z / camera.focal
        seen = (is_flank | is_front) & (up > 0) & (up < tall)
        along = np.where(is_flank, z, x_front) + 0 * rows
        painted, solid = paint(along, up, is_flank)
        seen &= solid
        image[top:bottom, left:right][seen] = painted[seen]
        classes[top:bottom, left:right][seen] = label

    return Thing(z0, draw)


def _building(rng: Generator, camera: Camera, x: float, z0: float, z1: float, light: Light) -> Thing:
    """A block whose long wall runs along the road at x from z0 to z1."""
    tall = rng.uniform(4, 16)
    deep = rng.uniform(6, 14) * np.sign(x)
    walls = [(0.62, 0.55, 0.47), (0.55, 0.35, 0.28), (0.7, 0.69, 0.66), (0.5, 0.52, 0.55), (0.72, 0.63, 0.45)]
    wall = colour(rng, walls[rng.integers(5)])
    pane = colour(rng, (0.2, 0.24, 0.3))
    grid = (rng.uniform(1.8, 4), rng.uniform(2.7, 3.4), rng.uniform(0.3, 0.65), rng.uniform(0.35, 0.65))
    lit = 1.0 if light.side * x < 0 else 1 - 0.4 * light.sun
    haze = 1 - np.exp(-z0 / 400)

    def paint(along: np.ndarray, up: np.ndarray, is_flank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        painted = _windows(along, up, wall, pane, grid) * np.where(is_flank, lit, 0.8)[..., None]
        return painted * (1 - haze) + 0.8 * haze, np.ones_like(is_flank)

    return block(camera, x, deep, (z0, z1), tall, paint, BUILDING)


def random_buildings(rng: Generator, road: Road, camera: Camera, light: Light) -> list[Thing]:
    """A row of blocks on each side of the road, clear of it where it bends."""
    found = []
    for side in (-1, 1):
        if rng.random() < 0.4:
            continue
        setback, z = rng.uniform(4, 12), rng.uniform(2, 25)
        while z < 120:
            end = z + rng.uniform(8, 22)
            reach = road.line(np.linspace(z, end, 8)) + road.edges[0 if side < 0 else 1]
            x = float(reach.min() - setback if side < 0 else reach.max() + setback)
            if rng.random() < 0.8 and x * side > 1:
                found.append(_building(rng, camera, x, z, end, light))
            z = end + rng.uniform(0, 12)
    return found


def _plant(rng: Generator, camera: Camera, x: float, z: float, tall: float, wide: float, trunk: float) -> Thing:
    """A crown of leaves, `tall` high and `wide` broad, over a trunk of that height (0 for a bush)."""
    leaves = colour(rng, (0.22, 0.34, 0.14), 0.12)
    bark = colour(rng, (0.25, 0.2, 0.15))
    grain = max(2, int(camera.focal * wide / z / 7))
    seed = int(rng.integers(2**31))

    def draw(image: np.ndarray, classes: np.ndarray) -> None:
        own = np.random.default_rng(seed)
        (left, top), (right, bottom) = camera.project(np.array([[x - wide / 2, tall, z], [x + wide / 2, 0, z]]))
        c0, c1 = (int(np.clip(v, 0, camera.size[1])) for v in (left - 1, right + 2))
        r0, r1 = (int(np.clip(v, 0, camera.size[0])) for v in (top - 1, bottom + 1))
        if c1 <= c0 or r1 <= r0:
            return
        px = (np.arange(c0, c1)[None, :] + 0.5 - (left + right) / 2) / max(right - left, 1) * 2
        py = (np.arange(r0, r1)[:, None] + 0.5 - top) / max(bottom - top, 1)
        share = trunk / tall
        middle = (1 - share) / 2
        noise = smooth_noise(own, (r1 - r0, c1 - c0), grain)
        crown = px**2 + ((py - middle) / max(middle, 0.05)) ** 2 + 0.35 * noise < 1
        if share == 0:
            crown = (px**2 + (np.maximum(0.6 - py, 0) / 0.6) ** 2 + 0.3 * noise < 1) & (py < 1)
        stem = (np.abs(px) < 0.06) & (py > middle) & (py < 1)
        view, labels = image[r0:r1, c0:c1], classes[r0:r1, c0:c1]
        view[stem] = bark
        texture = 1 + 0.25 * noise + 0.2 * own.standard_normal(noise.shape).astype(np.float32) - 0.35 * (py - middle)
        view[crown] = (leaves * np.clip(texture, 0.2, 1.8)[..., None])[crown]
        labels[stem | crown] = VEGETATION

    return Thing(z, draw)


def random_plants(rng: Generator, road: Road, camera: Camera) -> list[Thing]:
    """Trees and bushes beside the road."""
    found = []
    for side in (-1, 1):
        count = int(rng.integers(0, 14))
        for z in rng.uniform(5, 110, count):
            off = side * rng.uniform(2.0, 14)
            x = float(road.line(z)) + road.edges[0 if side < 0 else 1] + off
            if rng.random() < 0.6:
                tall = rng.uniform(4, 10)
                wide, trunk = tall * rng.uniform(0.45, 0.8), tall * rng.uniform(0.2, 0.4)
                found.append(_plant(rng, camera, x, z, tall, wide, trunk))
            else:
                tall = rng.uniform(0.8, 2.5)
                found.append(_plant(rng, camera, x, z, tall, min(tall * rng.uniform(1.2, 2.5), 2 * abs(off)), 0.0))
    return found


def random_poles(rng: Generator, road: Road, camera: Camera) -> list[Thing]:
    """Street lamps and signs at even distances along one side."""
    if rng.random() < 0.45:
        return []
    side = int(rng.choice([-1, 1]))
    step, z = rng.uniform(18, 35), rng.uniform(5, 30)
    sign = rng.random() < 0.4
    metal = colour(rng, (0.4, 0.41, 0.42))
    plate = colour(rng, [(0.75, 0.1, 0.1), (0.1, 0.25, 0.65), (0.85, 0.85, 0.85)][rng.integers(3)])
    found = []

    def drawing(faces: list[Face], labels: list[int]) -> Draw:
        return lambda image, classes: compose(image, classes, faces, camera, labels)

    while z < 100:
        x = float(road.line(z)) + road.edges[0 if side < 0 else 1] + side * 0.9
        tall = 2.9 if sign else 6.5
        faces = [(upright(x, z, 0.07, 0, tall), metal)]
        plates = [(upright(x, z, 0.35, tall - 0.7, tall), plate)] if sign else []
        arm = [] if sign else [(upright(x - side, z, 1, tall, tall + 0.12), metal)]
        labels = [POLE] + [TRAFFIC_SIGN] * len(plates) + [POLE] * len(arm)
        found.append(Thing(float(z), drawing([*faces, *plates, *arm], labels)))
        z += step
    return found
