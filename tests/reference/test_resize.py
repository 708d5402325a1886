"""Resizing: coordinates, order of interpolation, and the values of PyTorch and TVM."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from tvm import relax

from tvm_bnn.arithmetic import fma32
from tvm_bnn.errors import UnsupportedError
from tvm_bnn.reference.resize import linear_table, nearest_table

SIZES = [((5, 7), (10, 14)), ((5, 7), (13, 17)), ((8, 6), (3, 5)), ((4, 9), (4, 18)), ((1, 3), (6, 1))]


def image(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, 3, *size)).astype(np.float32)


def resize(out, method, mode, rounding="", **attributes):
    return lambda a: relax.op.image.resize2d(
        a,
        out,
        layout="NCHW",
        method=method,
        coordinate_transformation_mode=mode,
        rounding_method=rounding,
        **attributes,
    )


@pytest.mark.parametrize(("size", "out"), SIZES)
def test_nearest_floor_is_pytorch_s_rule(run_op, size, out):
    x = image(size)
    got = run_op(resize(out, "nearest_neighbor", "asymmetric", "floor"), x)
    np.testing.assert_array_equal(got, F.interpolate(torch.from_numpy(x), size=out, mode="nearest").numpy())


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("method", ["linear", "cubic"])
@pytest.mark.parametrize(("size", "out"), SIZES)
def test_interpolation_agrees_with_torch(run_op, size, out, method, align_corners):
    x = image(size)
    mode = "align_corners" if align_corners else "half_pixel"
    got = run_op(resize(out, method, mode, cubic_alpha=-0.75), x)
    name = {"linear": "bilinear", "cubic": "bicubic"}[method]
    wanted = F.interpolate(torch.from_numpy(x), size=out, mode=name, align_corners=align_corners).numpy()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("rounding", ["round", "floor", "ceil", "round_prefer_floor", "round_prefer_ceil", ""])
@pytest.mark.parametrize("mode", ["half_pixel", "asymmetric", "align_corners"])
def test_nearest_copies_the_pixels_that_tvm_copies(mode, rounding):
    for size, out in [(5, 13), (6, 9), (10, 4)]:
        x = relax.Var("x", relax.TensorType((1, 1, size, 2), "float32"))
        builder = relax.BlockBuilder()
        with builder.function("main", [x]):
            builder.emit_func_output(builder.emit(resize((out, 2), "nearest_neighbor", mode, rounding)(x)))
        machine = relax.VirtualMachine(tvm.compile(builder.get(), target="llvm"), tvm.cpu())
        numbered = np.arange(size, dtype=np.float32).repeat(2).reshape(1, 1, size, 2)
        copied = machine["main"](tvm.runtime.tensor(numbered)).numpy()[0, 0, :, 0]
        assert nearest_table(size, out, mode, rounding).tolist() == copied.tolist()


def test_linear_interpolates_down_and_then_across_with_one_rounding_each(run_op):
    x = image((4, 5))
    got = run_op(resize((9, 7), "linear", "half_pixel"), x)
    rows, columns = linear_table(4, 9, "half_pixel"), linear_table(5, 7, "half_pixel")
    for n, c, i, j in np.ndindex(*got.shape):
        (top, bottom, fy), (left, right, fx) = ([part[k] for part in table] for table, k in ((rows, i), (columns, j)))
        ends = [fma32(fy, x[n, c, bottom, at] - x[n, c, top, at], x[n, c, top, at]) for at in (left, right)]
        assert got[n, c, i, j] == fma32(fx, ends[1] - ends[0], ends[0])


def test_linear_table_clips_to_the_image():
    upper, lower, fraction = linear_table(3, 6, "half_pixel")
    assert upper.tolist() == [0, 0, 0, 1, 1, 2] and lower.tolist() == [1, 1, 1, 2, 2, 2]
    assert fraction.tolist() == [0, 0.25, 0.75, 0.25, 0.75, 0.25] and fraction.dtype == np.float32


def test_refuses_coordinates_and_methods_it_does_not_know(run_op):
    with pytest.raises(UnsupportedError, match="found a resize with coordinates 'tf_half_pixel_for_nn'"):
        run_op(resize((4, 4), "linear", "tf_half_pixel_for_nn"), image((2, 2)))
    with pytest.raises(UnsupportedError, match="found a resize by 'area'; it takes nearest_neighbor"):
        run_op(resize((4, 4), "area", "half_pixel"), image((2, 2)))
    with pytest.raises(UnsupportedError, match="rounds by 'up'"):
        run_op(resize((4, 4), "nearest_neighbor", "half_pixel", "up"), image((2, 2)))
