"""The trained networks that ship with the package: the demonstration in binary and in float.

They segment the synthetic road scenes of road_scenes.py; checkpoints/figures.json says how well, and how they were
trained.
"""

from dataclasses import replace
from pathlib import Path

from tvm_bnn.examples.ding2024.config import DEMO
from tvm_bnn.examples.ding2024.model import Ding2024, build
from tvm_bnn.examples.ding2024.weights import load_compact

CHECKPOINTS = Path(__file__).parent / "checkpoints"
SHIPPED_BRANCHES = (1, 3)


def demo(branches: int = 1, seed: int | None = None) -> Ding2024:
    """The small network in eval mode: width 32, 64 decoder channels, 4 classes, 256x512.

    branches : K; 1 and 3 are trained, ValueError for another one without a seed.
    seed : random weights from this seed instead of trained ones, for any K.
    """
    if seed is not None:
        return build(replace(DEMO, branches=branches), seed)
    if branches not in SHIPPED_BRANCHES:
        raise ValueError(f"no trained network has {branches} branches; accepted: 1, 3; or give a seed (random weights)")
    return load_compact(CHECKPOINTS / f"demo-k{branches}.safetensors")


def demo_float_twin() -> Ding2024:
    """The trained float twin of `demo`, in eval mode: same shapes, nothing binary."""
    return load_compact(CHECKPOINTS / "demo-twin.safetensors")
