"""The network of Ding et al. 2024: binary encoder-decoder with attention and parallel upsampling.

Importing this package does not load PyTorch yet: its names are fetched when one of them is first asked for.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm_bnn.examples.ding2024.config import BENCH, DEMO, Ding2024Config
    from tvm_bnn.examples.ding2024.inputs import example_inputs
    from tvm_bnn.examples.ding2024.macs import count_macs
    from tvm_bnn.examples.ding2024.model import Ding2024, bench, bench_k3, build
    from tvm_bnn.examples.ding2024.trained import demo, demo_float_twin
    from tvm_bnn.examples.ding2024.twin import bench_float_twin, float_twin

__all__ = [
    "BENCH",
    "DEMO",
    "Ding2024",
    "Ding2024Config",
    "bench",
    "bench_float_twin",
    "bench_k3",
    "build",
    "count_macs",
    "demo",
    "demo_float_twin",
    "example_inputs",
    "float_twin",
]

#: Module -> the names that it holds.
_HOMES = {
    "config": ("BENCH", "DEMO", "Ding2024Config"),
    "inputs": ("example_inputs",),
    "macs": ("count_macs",),
    "model": ("Ding2024", "bench", "bench_k3", "build"),
    "trained": ("demo", "demo_float_twin"),
    "twin": ("bench_float_twin", "float_twin"),
}


def __getattr__(name: str) -> object:
    # all at once: who asks for a name that is not there is to find those that are
    if not name.startswith("_"):
        for home, names in _HOMES.items():
            module = importlib.import_module(f"{__name__}.{home}")
            globals().update({known: getattr(module, known) for known in names})
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
