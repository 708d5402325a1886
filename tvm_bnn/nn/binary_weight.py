"""Binary weights: a sign and one scale a filter.

Of all scales a, a = mean|w| minimises |w - a * sign(w)|^2 (XNOR-Net, section 3.1), and Ding et al. 2024
(arXiv 2405.17776) binarise with a learned scale as well: the scale follows the latent weights.
"""

from torch import Tensor

from tvm_bnn.nn.sign import sign


def binary_weight(
    weight: Tensor, reduced: tuple[int, ...] = (1, 2, 3), estimator: str = "clip", detach_scale: bool = True
) -> Tensor:
    """sign(w) * mean|w|, the mean over the reduced dimensions, in the shape of weight.

    detach_scale : no gradient passes through the scale, only through the sign.
    """
    scale = weight.abs().mean(dim=reduced, keepdim=True)
    return sign(weight, estimator) * (scale.detach() if detach_scale else scale)
