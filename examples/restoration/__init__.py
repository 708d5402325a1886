"""Binary image restoration after BBCU (arXiv 2210.00405) and BiSRNet (arXiv 2305.10299), and its float twin."""

from tvm_bnn.examples.restoration.model import Restoration, example_inputs, float_twin, restoration

__all__ = ["Restoration", "example_inputs", "float_twin", "restoration"]
