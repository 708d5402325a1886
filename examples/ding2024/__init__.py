"""The network of Ding et al. 2024: binary encoder-decoder with attention and parallel upsampling."""

from tvm_bnn.examples.ding2024.config import BENCH, DEMO, Ding2024Config
from tvm_bnn.examples.ding2024.inputs import example_inputs
from tvm_bnn.examples.ding2024.macs import count_macs
from tvm_bnn.examples.ding2024.model import Ding2024, bench, build
from tvm_bnn.examples.ding2024.trained import demo, demo_float_twin
from tvm_bnn.examples.ding2024.twin import float_twin

__all__ = [
    "BENCH",
    "DEMO",
    "Ding2024",
    "Ding2024Config",
    "bench",
    "build",
    "count_macs",
    "demo",
    "demo_float_twin",
    "example_inputs",
    "float_twin",
]
