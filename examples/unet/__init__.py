"""A binary U-Net (Ronneberger et al. 2015, arXiv 1505.04597) with transposed convolutions, and its float twin."""

from tvm_bnn.examples.unet.model import UNet, example_inputs, float_twin, unet

__all__ = ["UNet", "example_inputs", "float_twin", "unet"]
