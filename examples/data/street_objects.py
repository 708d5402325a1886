"""What street scenes have beside the things of road scenes: people, two-wheelers, buses, trams, lights, walls."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from tvm_bnn.examples.data.scene_geometry import Camera, Road
from tvm_bnn.examples.data.scene_ground import (
    BICYCLE,
    BUS,
    FENCE,
    MOTORCYCLE,
    PERSON,
    POLE,
    RIDER,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    TRAIN,
    WALL,
    Light,
    colour,
)
from tvm_bnn.examples.data.scene_objects import Face, Thing, Vehicle, block, compose

Point = tuple[float, float]
Part = tuple[list[Point], np.ndarray, int]  # outline across and up in metres, colour, class
SKIN = [(0.85, 0.66, 0.54), (0.72, 0.52, 0.4), (0.45, 0.31, 0.23), (0.33, 0.22, 0.16)]


def _standing(points: Sequence[Point], x: float, z: float, turn: float = 1.0) -> np.ndarray:
    """Corners of what stands at (x, z): points across and up, in metres, seen turned so that across shrinks by turn."""
    flat = np.array(points, float)
    return np.stack([x + turn * flat[:, 0], flat[:, 1], np.full(len(flat), z)], axis=1)


def _disc(middle: Point, radius: float) -> list[Point]:
    angles = np.linspace(0, 2 * np.pi, 15)[:-1]
    return [(middle[0] + radius * float(np.cos(a)), middle[1] + radius * float(np.sin(a))) for a in angles]


def _bar(start: Point, end: Point, width: float) -> list[Point]:
    """A straight bar as four corners."""
    along = np.subtract(end, start)
    off = np.array([-along[1], along[0]]) * (width / 2 / max(float(np.hypot(*along)), 1e-6))
    return [(float(a), float(b)) for a, b in (start + off, end + off, end - off, start - off)]


def _thing(parts: Sequence[Part], x: float, z: float, camera: Camera, turn: float = 1.0) -> Thing:
    """Parts (outline across and up, colour, class) that stand at (x, z), as one thing."""
    faces: list[Face] = [(_standing(outline, x, z, turn), shade) for outline, shade, _ in parts]
    labels = [label for _, _, label in parts]
    return Thing(z, lambda image, classes: compose(image, classes, faces, camera, labels))


def _person(rng: Generator, camera: Camera, x: float, z: float, light: Light) -> Thing:
    """Somebody who walks or stands; one in five is a child."""
    tall = rng.uniform(1.55, 1.92) if rng.random() < 0.8 else rng.uniform(1.0, 1.4)
    lit = 0.6 + 0.4 * light.sun
    cloth, legs = colour(rng, tuple(rng.uniform(0.1, 0.85, 3))) * lit, colour(rng, (0.18, 0.19, 0.25), 0.2) * lit
    skin, hair = colour(rng, SKIN[rng.integers(4)], 0.05) * lit, colour(rng, (0.2, 0.15, 0.1), 0.3) * lit
    stride, swing, broad = rng.uniform(0.02, 0.2), rng.uniform(-0.15, 0.15), rng.uniform(0.19, 0.27)
    hip, neck = 0.48, 0.84
    shapes = [
        (_bar((-0.05, hip), (-stride, 0.0), 0.085), legs),
        (_bar((0.05, hip), (stride, 0.0), 0.085), legs * 0.9),
        (_bar((-0.9 * broad / 2, neck - 0.03), (-broad / 2 - abs(swing) / 2, hip - 0.02), 0.05), cloth * 0.85),
        (_bar((0.9 * broad / 2, neck - 0.03), (broad / 2 + abs(swing) / 2, hip - 0.02), 0.05), cloth * 0.8),
        (_bar((0, neck), (0, hip), 0.8 * broad), cloth),
        (_bar((-broad / 2, neck - 0.05), (broad / 2, neck - 0.05), 0.08), cloth),
        (_disc((0, 0.925), 0.068), hair),
        (_disc((0, 0.91), 0.058), skin),
    ]
    scaled = [([(tall * a, tall * b) for a, b in outline], shade, PERSON) for outline, shade in shapes]
    return _thing(scaled, x, z, camera)


def _two_wheeler(rng: Generator, camera: Camera, x: float, z: float, light: Light, motor: bool, ridden: bool) -> Thing:
    """A bicycle or motorcycle, from the side or at an angle."""
    label = MOTORCYCLE if motor else BICYCLE
    lit, turn = 0.6 + 0.4 * light.sun, float(rng.choice([-1, 1]) * rng.uniform(0.35, 1.0))
    paint, black = colour(rng, tuple(rng.uniform(0.05, 0.8, 3))) * lit, np.full(3, 0.07, np.float32)
    spokes = np.full(3, 0.16 if motor else 0.33, np.float32) * lit
    parts: list[Part] = []
    radius, axle = (0.31, 0.68) if motor else (0.34, 0.53)
    for side in (-1, 1):
        parts += [(_disc((side * axle, radius), radius), black, label)]
        parts += [(_disc((side * axle, radius), radius * (0.55 if motor else 0.85)), spokes, label)]
    thick = 0.14 if motor else 0.06
    frame = [((-axle, radius), (0.0, 0.32)), ((0.0, 0.32), (0.35, 0.78)), ((-0.15, 0.8), (0.35, 0.78))]
    frame += [((-0.2, 0.85), (0.0, 0.32)), ((0.38, 0.95), (axle, radius))]
    parts += [(_bar(start, end, thick), paint, label) for start, end in frame]
    saddle, handlebar = _bar((-0.35, 0.86), (0.0, 0.86), 0.09), _bar((0.28, 1.0), (0.5, 1.0), 0.06)
    parts += [(saddle, black, label), (handlebar, black, label)]
    if motor:
        body = [(-0.7, 0.75), (-0.1, 0.8), (0.35, 0.95), (0.45, 0.6), (0.1, 0.3), (-0.3, 0.32)]
        parts.append((body, paint, label))
    if ridden:
        cloth, legs = colour(rng, tuple(rng.uniform(0.1, 0.8, 3))) * lit, colour(rng, (0.2, 0.2, 0.28), 0.2) * lit
        head = (paint * 0.8 + 0.1) if motor or rng.random() < 0.5 else colour(rng, SKIN[rng.integers(4)], 0.05) * lit
        seat, shoulder = (-0.18, 0.9), (0.08, 1.42)
        parts += [(_bar(seat, (0.12, 0.68), 0.16), legs, RIDER), (_bar((0.12, 0.68), (0.0, 0.3), 0.13), legs, RIDER)]
        parts += [(_bar(shoulder, (0.4, 1.02), 0.1), cloth * 0.85, RIDER), (_bar(seat, shoulder, 0.3), cloth, RIDER)]
        parts += [(_disc((0.14, 1.62), 0.14), head, RIDER)]
    return _thing(parts, x, z, camera, turn)


def _clear(vehicles: Sequence[Vehicle], x: float, z: float, room: float = 0.5) -> bool:
    """Whether nothing drives or is parked at (x, z)."""
    return not any(
        v.z - room < z < v.z + v.length + room and abs(x - v.x - v.slope * (z - v.z)) < v.width / 2 + room
        for v in vehicles
    )


def random_people(rng: Generator, road: Road, vehicles: Sequence[Vehicle], camera: Camera, light: Light) -> list[Thing]:
    """People beside the road, few on it; bicycles and motorcycles, ridden and left standing."""
    found: list[Thing] = []

    def places(count: int, near: float, far: float, crossing: float) -> list[tuple[float, float]]:
        kept = []
        for z in rng.uniform(5, 45, count):
            side = int(rng.choice([-1, 1]))
            off = side * rng.uniform(near, far)
            x = float(road.line(z)) + road.edges[0 if side < 0 else 1] + off
            if rng.random() < crossing:
                x = float(road.line(z)) + rng.uniform(*road.edges)
            if _clear(vehicles, x, float(z)):
                kept.append((x, float(z)))
        return kept

    for x, z in places(int(rng.integers(0, 14)), 0.4, 3.6, 0.12):
        found.append(_person(rng, camera, x, z, light))
        if rng.random() < 0.3:
            found.append(_person(rng, camera, x + rng.uniform(0.45, 0.7), z + 0.05, light))
    for x, z in places(int(rng.integers(0, 5)), -1.2, 0.2, 0.3):
        found.append(_two_wheeler(rng, camera, x, z, light, bool(rng.random() < 0.4), ridden=True))
    for x, z in places(int(rng.integers(0, 5)), 0.4, 2.0, 0.0):
        found.append(_two_wheeler(rng, camera, x, z, light, bool(rng.random() < 0.35), ridden=False))
    return found


def with_public_transport(rng: Generator, road: Road, vehicles: list[Vehicle]) -> list[Vehicle]:
    """Some of the cars become buses; sometimes a tram takes the leftmost lane for itself."""
    found = []
    for v in vehicles:
        moving = road.edges[0] < v.x - float(road.line(v.z)) < road.edges[1]
        if moving and rng.random() < 0.13:
            paints = [(0.8, 0.65, 0.1), (0.75, 0.12, 0.1), (0.8, 0.8, 0.78), (0.1, 0.3, 0.55)]
            paint = colour(rng, paints[rng.integers(4)])
            v = replace(v, width=2.5, height=3.1, length=11.0, boxy=True, paint=paint, label=BUS)
        found.append(v)
    if rng.random() < 0.22:
        z, u = float(rng.uniform(7, 35)), (road.lines[0] + road.lines[1]) / 2
        paint = colour(rng, [(0.8, 0.14, 0.12), (0.85, 0.82, 0.7), (0.15, 0.4, 0.35)][rng.integers(3)])
        found = [v for v in found if abs(v.x - float(road.line(v.z)) - u) > 2.6]
        found.append(
            Vehicle(float(road.line(z)) + u, z, road.slope(z), 2.4, 3.5, 26.0, True, road.oncoming > 0, paint, TRAIN)
        )
    return found


def random_walls(rng: Generator, road: Road, camera: Camera, light: Light) -> list[Thing]:
    """Walls and fences along the road, between the pavement and what is behind it."""
    found = []
    for side in (-1, 1):
        if rng.random() < 0.45:
            continue
        z = rng.uniform(3, 20)
        off = rng.uniform(2.9, 3.9)
        while z < 70:
            end = z + rng.uniform(5, 16)
            reach = road.line(np.linspace(z, end, 8)) + road.edges[0 if side < 0 else 1]
            x = float(reach.min() - off if side < 0 else reach.max() + off)
            if x * side > 1 and rng.random() < 0.75:
                maker = _wall if rng.random() < 0.5 else _fence
                found.append(maker(rng, camera, x, side, (float(z), float(end)), light))
            z = end + rng.uniform(0.5, 14)
    return found


def _wall(rng: Generator, camera: Camera, x: float, side: int, reach: tuple[float, float], light: Light) -> Thing:
    """Bricks or plaster, from waist to head height."""
    base = colour(rng, [(0.52, 0.3, 0.24), (0.62, 0.6, 0.56), (0.45, 0.45, 0.46)][rng.integers(3)])
    long, course = rng.uniform(0.4, 0.9), rng.uniform(0.2, 0.4)
    lit = 1.0 if light.side * side < 0 else 1 - 0.35 * light.sun

    def paint(along: np.ndarray, up: np.ndarray, is_flank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shift = np.floor(up / course) % 2 / 2
        joint = (up / course % 1 < 0.12) | ((along / long + shift) % 1 < 0.06)
        shade = np.where(joint, 0.75, 1.0) * np.where(is_flank, lit, 0.85)
        return base * shade[..., None], np.ones_like(is_flank)

    return block(camera, x, side * 0.3, reach, rng.uniform(1.1, 2.3), paint, WALL)


def _fence(rng: Generator, camera: Camera, x: float, side: int, reach: tuple[float, float], light: Light) -> Thing:
    """Boards or rails with gaps between them; as in Cityscapes, what is seen through the gaps belongs to the fence."""
    base = colour(rng, [(0.45, 0.36, 0.26), (0.3, 0.32, 0.31), (0.75, 0.74, 0.7)][rng.integers(3)])
    behind = colour(rng, (0.2, 0.24, 0.17), 0.15)
    tall, step, board = rng.uniform(0.9, 1.8), rng.uniform(0.25, 0.5), rng.uniform(0.4, 0.75)
    lit = 0.75 + 0.25 * light.sun

    def paint(along: np.ndarray, up: np.ndarray, is_flank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rail = (np.abs(up - 0.25 * tall) < 0.05) | (np.abs(up - 0.85 * tall) < 0.05)
        solid = (along / step % 1 < board) | rail
        return np.where(solid[..., None], base * lit, behind), np.ones_like(is_flank)

    return block(camera, x, side * 0.08, reach, tall, paint, FENCE)


def random_lights(rng: Generator, road: Road, camera: Camera) -> list[Thing]:
    """Traffic lights at a junction, on both sides of the road, and signs before it."""
    found: list[Thing] = []
    metal, case = colour(rng, (0.35, 0.36, 0.37)), np.full(3, 0.06, np.float32)
    if rng.random() < 0.65:
        z, lit = float(rng.uniform(7, 32)), int(rng.integers(3))
        lamps = [(0.95, 0.12, 0.1), (0.95, 0.7, 0.1), (0.1, 0.85, 0.35)]
        for side in (-1, 1):
            x = float(road.line(z)) + road.edges[0 if side < 0 else 1] + side * 0.6
            parts = [(_bar((0, 0), (0, 2.4), 0.13), metal, POLE)]
            boxes = [(0.0, 2.4)]
            if side > 0 and rng.random() < 0.5:
                mast, arm = _bar((0, 2.4), (0, 5.6), 0.13), _bar((0, 5.5), (-3.2, 5.5), 0.12)
                parts += [(mast, metal, POLE), (arm, metal, POLE)]
                boxes.append((-3.0, 4.75))
            for a, b in boxes:
                parts.append((_bar((a, b), (a, b + 1.0), 0.4), case, TRAFFIC_LIGHT))
                for place, lamp in enumerate(lamps):
                    shade = np.array(lamp, np.float32) * (1.0 if place == lit else 0.2)
                    parts.append((_disc((a, b + 0.82 - 0.32 * place), 0.13), shade, TRAFFIC_LIGHT))
            found.append(_thing(parts, x, z, camera))
    for z in rng.uniform(6, 40, int(rng.integers(0, 4))):
        side = int(rng.choice([-1, 1]))
        x = float(road.line(z)) + road.edges[0 if side < 0 else 1] + side * rng.uniform(0.5, 1.2)
        found.append(_sign(rng, camera, x, float(z), metal))
    return found


def _sign(rng: Generator, camera: Camera, x: float, z: float, metal: np.ndarray) -> Thing:
    """A round, three-cornered or square sign on a post."""
    red, white, blue = ((0.75, 0.08, 0.1), (0.9, 0.9, 0.9), (0.1, 0.25, 0.65))
    rim, middle = [(red, white), (white, blue), (red, (0.95, 0.85, 0.2)), (white, red)][rng.integers(4)]
    corners, top = int(rng.choice([3, 4, 24])), rng.uniform(2.2, 2.7)

    def outline(radius: float) -> list[Point]:
        angles = np.pi / 2 + np.linspace(0, 2 * np.pi, corners + 1)[:-1] + (np.pi / 4 if corners == 4 else 0)
        return [(radius * float(np.cos(a)), top + radius * float(np.sin(a))) for a in angles]

    post = _standing([(-0.04, 0), (0.04, 0), (0.04, top), (-0.04, top)], x, z)
    faces = [(post, metal)]
    faces += [(_standing(outline(r), x, z), colour(rng, c, 0.04)) for r, c in ((0.42, rim), (0.3, middle))]
    return Thing(z, lambda image, classes: compose(image, classes, faces, camera, [POLE, TRAFFIC_SIGN, TRAFFIC_SIGN]))
