"""Names and colours of the classes, as plain data for an artifact's manifest."""

import colorsys

CITYSCAPES: dict[str, tuple[int, int, int]] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}

# Colours of Okabe and Ito, which colour-blind readers can tell apart.
ROAD_SCENE: dict[str, tuple[int, int, int]] = {
    "background": (0, 0, 0),
    "road": (0, 114, 178),
    "lane": (240, 228, 66),
    "vehicle": (213, 94, 0),
}

_KNOWN = {len(labels): labels for labels in (CITYSCAPES, ROAD_SCENE)}


def labels(classes: int) -> dict[str, tuple[int, int, int]]:
    """Name -> (red, green, blue) for each class: a known set of that size, else numbered hues."""
    if classes in _KNOWN:
        return _KNOWN[classes]
    hues = [colorsys.hsv_to_rgb(index / classes, 0.8, 0.9) for index in range(classes)]
    return {f"class {index}": (int(255 * r), int(255 * g), int(255 * b)) for index, (r, g, b) in enumerate(hues)}
