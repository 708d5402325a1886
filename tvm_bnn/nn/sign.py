"""The sign and its straight-through estimators.

Forward, in every variant, sign(x) = +1 where x >= 0 and -1 elsewhere: an exact predicate, so that no
convention about zero is left to a compiler. (-0.0 >= 0 holds; NaN gives -1.)

The derivative of sign is zero almost everywhere, so training replaces it (Bi-Real Net, section 3.3;
ReActNet, section 4.2 uses the same polynomial). Each estimator is the derivative g(x) of a smooth s(x):

    clip        s = clamp(x, -1, 1)                     g = 1 where |x| <= 1, else 0
    polynomial  s = 2x + x^2 | 2x - x^2 for |x| < 1     g = max(2 - 2|x|, 0)
    identity    s = x                                   g = 1
    tanh        s = tanh(x)                             g = 1 - tanh(x)^2
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def _clip(x: Tensor) -> Tensor:
    return (x.abs() <= 1).to(x.dtype)


def _polynomial(x: Tensor) -> Tensor:
    return (2 - 2 * x.abs()).clamp(min=0)


def _tanh(x: Tensor) -> Tensor:
    return 1 - torch.tanh(x).square()


def _plus_or_minus_one(x: Tensor) -> Tensor:
    bits = torch.where(x >= 0, 1.0, -1.0)
    return bits if bits.dtype == x.dtype else bits.to(x.dtype)


class _Sign(torch.autograd.Function):
    """Sign whose gradient is scaled by slope(x)."""

    @staticmethod
    def forward(x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        return _plus_or_minus_one(x)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        x, ctx.slope = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * ctx.slope(x), None


ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "clip": _clip,
    "polynomial": _polynomial,
    "identity": torch.ones_like,
    "tanh": _tanh,
}


def check_estimator(name: str) -> str:
    """The name, if there is such an estimator; ValueError otherwise."""
    if name not in ESTIMATORS:
        raise ValueError(f"unknown straight-through estimator {name!r}; accepted: {', '.join(ESTIMATORS)}")
    return name


def sign(x: Tensor, estimator: str = "clip") -> Tensor:
    """+1 where x >= 0, else -1, in the shape and floating dtype of x.

    estimator : how the gradient passes, a key of ESTIMATORS; ValueError for any other.
    """
    return _Sign.apply(x, ESTIMATORS[check_estimator(estimator)])


class Sign(nn.Module):
    """`sign` as a module. Any shape; values -1.0 and +1.0."""

    def __init__(self, estimator: str = "clip"):
        super().__init__()
        self.estimator = check_estimator(estimator)

    def forward(self, x: Tensor) -> Tensor:
        return sign(x, self.estimator)

    def extra_repr(self) -> str:
        return self.estimator
