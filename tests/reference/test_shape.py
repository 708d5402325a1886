"""Operators that move values: PyTorch's results, exactly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from tvm import relax

from tvm_bnn.errors import UnsupportedError

FUNCTIONS = {
    "pixel_shuffle": nn.PixelShuffle(2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "cat": lambda x: torch.cat([x, x.neg()], 1),
    "chunk": lambda x: torch.cat(x.chunk(3, 1)[::-1], 1),
    "split": lambda x: x.split([1, 4, 3], 1)[1],
    "stack": lambda x: torch.stack([x, x.neg()], 1),
    "slice": lambda x: x[:, 1:7:3, ::2, -3:],
    "select": lambda x: x[:, 1],
    "index": lambda x: x[:, [2, 0]],
    "index_select": lambda x: x.index_select(1, torch.tensor([2, 0, 7])),
    "gather": lambda x: x.gather(1, (x > 0).long()),
    "flip": lambda x: x.flip(2),
    "roll": lambda x: torch.roll(x, 1, 2),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "expand": lambda x: x[:, :1].expand(-1, 4, -1, -1),
    "permute": lambda x: x.permute(0, 2, 3, 1).reshape(2, -1, 8),
    "squeeze": lambda x: x[:, :1].squeeze(1).unsqueeze(-1),
    "flatten": lambda x: x.flatten(1),
    "pad": lambda x: F.pad(x, (1, 2, 3, 4), value=1.0),
    "pad, negative widths": lambda x: F.pad(x, (-1, 2, 0, -1), value=1.0),
    "pad_reflect": lambda x: F.pad(x, (1, 2, 3, 2), mode="reflect"),
    "pad_replicate": lambda x: F.pad(x, (1, 2, 3, 2), mode="replicate"),
    "like": lambda x: torch.zeros_like(x) + torch.ones_like(x) + torch.full_like(x, 3),
    "arange": lambda x: x[0, 0, 0] * torch.arange(6) + torch.zeros(6),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_agrees_with_torch_exactly(check_against_torch, name):
    torch.manual_seed(0)
    check_against_torch(FUNCTIONS[name], torch.randn(2, 8, 4, 6), exact=True)


def test_pixel_shuffle_operator(run_op):
    x = np.random.default_rng(0).normal(size=(2, 18, 2, 3)).astype(np.float32)
    got = run_op(lambda a: relax.op.nn.pixel_shuffle(a, 3), x)
    np.testing.assert_array_equal(got, F.pixel_shuffle(torch.from_numpy(x), 3).numpy())


def test_split_into_uneven_sections_and_into_one(run_op):
    x = np.arange(7, dtype=np.float32)
    parts = run_op(lambda a: relax.op.split(a, 3, 0), x)
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    assert run_op(lambda a: relax.op.split(a, 1, 0), x).tolist() == x.tolist()


def test_take_modes(run_op):
    x, at = np.array([10, 11, 12], np.float32), np.array([-1, 5, 1], np.int64)
    assert run_op(lambda a, i: relax.op.take(a, i, 0, mode="clip"), x, at).tolist() == [10, 12, 11]
    assert run_op(lambda a, i: relax.op.take(a, i, 0, mode="wrap"), x, at).tolist() == [12, 12, 11]
    with pytest.raises(UnsupportedError, match="take in mode 'nan'"):
        run_op(lambda a, i: relax.op.take(a, i, 0, mode="nan"), x, at)


def test_strided_slice_backwards(run_op):
    x = np.arange(6, dtype=np.float32)
    assert run_op(lambda a: relax.op.strided_slice(a, [0], [4], [0], [-2]), x).tolist() == [4, 2]
