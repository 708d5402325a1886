"""ReActNet on a ResNet-18 (Liu et al. 2020, arXiv 2003.03488): a binary classifier, and its float twin."""

from tvm_bnn.examples.reactnet.model import ReActNet18, example_inputs, float_twin, reactnet18

__all__ = ["ReActNet18", "example_inputs", "float_twin", "reactnet18"]
