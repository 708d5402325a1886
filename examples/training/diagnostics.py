"""What the parallel branches and the attention masks of a trained network do, seen on images.

Errors of branches: the last stage adds up its branches, sum_i w_i * B_i, and a 1x1 convolution makes logits of the sum.
So each branch has an answer of its own: the network's, were all branches like it, that is the logits of
(sum_j w_j) * B_i. Its error at a pixel is 1 minus the probability that it gives the true class. Correlated are the
errors of two branches, over all pixels of all images that count (Pearson). A mean of K branches whose errors have
correlation r and equal variance keeps the share (1 + (K - 1) * r) / K of that variance: all of it at r = 1.
"""

from contextlib import ExitStack
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.examples.data.dataset import DataSet
from tvm_bnn.examples.ding2024.accuracy import normalise
from tvm_bnn.examples.ding2024.model import Ding2024
from tvm_bnn.nn import WeightedMerge
from tvm_bnn.nn.binary_mask import BinaryMask

UNIFORM = 0.95


@dataclass(frozen=True)
class Masks:
    """The masks of zeros and ones that one attention computes, one an image (all of its channels, positions or pairs).

    ones : share of their entries that are 1. near_uniform : share of the masks in which more than UNIFORM of the
    entries are equal. constant : share of the entries that are the same in more than UNIFORM of the images.
    """

    ones: float
    near_uniform: float
    constant: float


@dataclass(frozen=True)
class Diagnostics:
    """error_correlation : K x K, see above, none where K is 1. mean_error_correlation : of its pairs of two branches.

    branch_variance : of each branch as it is added up in a stage's merge, w_i * B_i: over pixels and images, the mean
    of the channels; by the merge's name. masks : by the attention's name.
    """

    error_correlation: list[list[float]] | None
    mean_error_correlation: float | None
    branch_variance: dict[str, list[float]]
    masks: dict[str, Masks]


class Moments:
    """Means and covariances of a few series, float64, of which parts come one after the other."""

    def __init__(self) -> None:
        self.count, self.sums, self.products = 0, torch.zeros(()), torch.zeros(())

    def update(self, values: Tensor) -> None:
        """values : [..., series, n]"""
        values = values.double()
        self.count += values.shape[-1]
        self.sums = self.sums + values.sum(-1)
        self.products = self.products + values @ values.mT

    def covariance(self) -> Tensor:
        """[..., series, series]"""
        means = self.sums / self.count
        return self.products / self.count - means[..., :, None] * means[..., None, :]

    def correlation(self) -> Tensor:
        """[..., series, series]; 0 for a series that is constant."""
        covariance = self.covariance()
        deviations = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
        return (covariance / (deviations[..., :, None] * deviations[..., None, :])).nan_to_num(0, 0, 0)


class _MaskCounts:
    def __init__(self) -> None:
        self.uniform: list[bool] = []
        self.ones = torch.zeros(())

    def update(self, mask: Tensor) -> None:
        """mask : of one image."""
        entries = mask.flatten().double()
        self.ones = self.ones + entries
        self.uniform.append(bool(_same(entries.mean())))

    def result(self) -> Masks:
        shares = self.ones / len(self.uniform)
        uniform = sum(self.uniform) / len(self.uniform)
        return Masks(float(shares.mean()), uniform, float(_same(shares).double().mean()))


def _same(shares: Tensor) -> Tensor:
    return torch.maximum(shares, 1 - shares) > UNIFORM


def branch_errors(model: Ding2024, branches: list[Tensor], truth: Tensor) -> Tensor:
    """Errors [K, counted pixels] of the last merge's branches, each [1, C, H/4, W/4], at the pixels where truth [H, W],
    int64, is a class of the network's."""
    total = model.decoder.last.merge.weight.sum()
    counts = truth < model.config.classes
    errors = []
    for branch in branches:
        logits = F.interpolate(model.head(branch * total), size=truth.shape, mode="bilinear", align_corners=False)
        right = logits.softmax(1)[0].gather(0, truth.clamp(max=model.config.classes - 1)[None])[0]
        errors.append(1 - right[counts])
    return torch.stack(errors)


@torch.no_grad()
def diagnose(model: Ding2024, data: DataSet) -> Diagnostics:
    """Of a binary network in eval mode, on all samples of a data set in the network's size."""
    merges = {name: module for name, module in model.named_modules() if isinstance(module, WeightedMerge)}
    masks = {name: module for name, module in model.named_modules() if isinstance(module, BinaryMask)}
    added, counts = {name: Moments() for name in merges}, {name: _MaskCounts() for name in masks}
    errors, last = Moments(), model.decoder.last.merge
    seen: dict[nn.Module, list[Tensor]] = {}

    def keep_inputs(module: nn.Module, inputs: tuple[list[Tensor]]) -> None:
        seen[module] = list(inputs[0])

    def keep_output(module: nn.Module, _inputs: object, output: Tensor) -> None:
        seen[module] = [output]

    with ExitStack() as hooks:
        for merge in merges.values():
            hooks.callback(merge.register_forward_pre_hook(keep_inputs).remove)
        for mask in masks.values():
            hooks.callback(mask.register_forward_hook(keep_output).remove)
        for sample in data:
            model.coarse(normalise(sample.image, model.preprocessing))
            for name, merge in merges.items():
                weighed = [w * branch[0].flatten(1) for w, branch in zip(merge.weight, seen[merge], strict=True)]
                added[name].update(torch.stack(weighed, dim=1))  # [C, K, H*W]
            for name, mask in masks.items():
                counts[name].update(seen[mask][0])
            errors.update(branch_errors(model, seen[last], torch.from_numpy(sample.truth).long()))
    several = model.config.branches > 1
    correlation = errors.correlation()
    return Diagnostics(
        correlation.tolist() if several else None,
        float(correlation[~torch.eye(len(correlation), dtype=torch.bool)].mean()) if several else None,
        {name: moments.covariance().diagonal(dim1=-2, dim2=-1).mean(0).tolist() for name, moments in added.items()},
        {name: one.result() for name, one in counts.items()},
    )
