"""Binary multi-task dense prediction after Bi-MTDP (arXiv 2405.14136): segmentation, depth, normals; its float twin."""

from tvm_bnn.examples.bimtdp.model import TASKS, BiMTDP, bimtdp, example_inputs, float_twin

__all__ = ["TASKS", "BiMTDP", "bimtdp", "example_inputs", "float_twin"]
