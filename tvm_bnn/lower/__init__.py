"""From Relax operators to kernels: layouts, element expressions, anchors, and the module of calls."""

from tvm_bnn.lower.module import Lowered, lower

__all__ = ["Lowered", "lower"]
