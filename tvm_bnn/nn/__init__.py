"""Torch modules of binary networks for dense prediction, to train what the compiler then makes fast.

Each module exports with torch.export. Feature maps are [N, C, H, W] in float32; a binary one holds -1 and +1.
"""

from tvm_bnn.nn.binary_attention import ATTENTIONS, BinaryAttention
from tvm_bnn.nn.binary_conv import BinaryConv2d
from tvm_bnn.nn.binary_conv_transpose import BinaryConvTranspose2d
from tvm_bnn.nn.binary_mask import BinaryMask
from tvm_bnn.nn.binary_weight import binary_weight
from tvm_bnn.nn.parallel_upsample import ParallelUpsample
from tvm_bnn.nn.rprelu import RPReLU
from tvm_bnn.nn.sign import ESTIMATORS, Sign, sign
from tvm_bnn.nn.soft_gate import SoftGate
from tvm_bnn.nn.threshold_sign import ThresholdSign
from tvm_bnn.nn.upsample import UPSAMPLINGS
from tvm_bnn.nn.weighted_merge import WeightedMerge

__all__ = [
    "ATTENTIONS",
    "ESTIMATORS",
    "UPSAMPLINGS",
    "BinaryAttention",
    "BinaryConv2d",
    "BinaryConvTranspose2d",
    "BinaryMask",
    "ParallelUpsample",
    "RPReLU",
    "Sign",
    "SoftGate",
    "ThresholdSign",
    "WeightedMerge",
    "binary_weight",
    "sign",
]
