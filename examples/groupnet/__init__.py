"""Group-Net (Zhuang et al. 2018, arXiv 1811.10413 and 1909.09934): classifier, segmentation, float twins."""

from tvm_bnn.examples.groupnet.config import GroupNetConfig
from tvm_bnn.examples.groupnet.model import GroupNet, build, example_inputs, float_twin, groupnet, groupnet_segmentation

__all__ = [
    "GroupNet",
    "GroupNetConfig",
    "build",
    "example_inputs",
    "float_twin",
    "groupnet",
    "groupnet_segmentation",
]
