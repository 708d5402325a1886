"""Two threads give the same bits as one."""

from collections.abc import Iterator

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op

from tvm_bnn import ops, targets
from tvm_bnn.schedules.apply import machine_code
from tvm_bnn.schedules.conv import choose_rows


@pytest.fixture
def set_threads() -> Iterator:
    """Call with a number of threads; afterwards there is one."""
    configure = tvm.get_global_func("runtime.config_threadpool")
    yield lambda count: configure(1, count)
    configure(1, 1)


def network(case):
    x = case.argument(2, 3, 32, 37)
    stem = case.scaled(case.emit(op.nn.conv2d(x, case.constant(33, 3, 3, 3), strides=2, padding=1)))
    integer = ops.bconv2d(case.positive(stem), case.signs(64, 33, 3, 3), ops.BConv2DAttrs(padding=(1, 1, 1, 1)))
    value = case.scaled(case.emit(integer))
    gate = case.emit(op.sigmoid(case.emit(op.mean(value, [2, 3], keepdims=True))))
    value = case.emit(op.multiply(value, gate))
    resized = case.emit(op.image.resize2d(value, (32, 37), layout="NCHW", method="linear"))
    pooled = case.emit(op.nn.avg_pool2d(value, (3, 3), strides=(2, 2), padding=(1, 1)))
    parts = [case.positive(resized), pooled, op.nn.softmax(pooled, 1), op.argmax(resized, 1), op.mean(resized)]
    return relax.Tuple([part if isinstance(part, relax.Var) else case.emit(part) for part in parts])


@pytest.mark.parametrize("threads", [1, 2, 7, 64])
@pytest.mark.parametrize(("height", "others"), [(56, 1), (28, 2), (128, 1), (7, 16), (13, 3), (1, 5)])
def test_blocks_of_rows_leave_every_thread_a_share(height, others, threads):
    inputs = [(height + 2, 1000), (2 * height + 1, 500)]
    rows = choose_rows(height, others, inputs, threads)
    assert height % rows == 0
    assert rows == 1 or (rows + 2) * 1000 + (2 * rows + 1) * 500 <= 48 << 10
    assert -(-others * height // rows // threads) * rows <= 1.5 * -(-others * height // threads)


def test_wide_rows_are_not_copied_together():
    assert choose_rows(64, 1, [(66, 1 << 20)], 1) == choose_rows(64, 1, [], 1) == 1


def test_rows_that_a_dilated_kernel_reaches_over_are_copied_for_several():
    assert choose_rows(32, 8, [(32 + 2 * dilation, 5 << 10) for dilation in (6, 7, 8, 9, 10)], 2) == 8


def test_two_threads_equal_one(build_cases, scheduled, set_threads):
    module, data, _ = build_cases({"network": network}, ["network"], ["network"])
    results = []
    for threads in (1, 2):
        target = targets.resolve("llvm", threads=threads)
        executable = machine_code(scheduled(module, target)[1], target)
        set_threads(threads)
        machine = relax.VirtualMachine(executable, tvm.cpu())
        results.append([value.numpy() for value in machine["main"](*map(tvm.runtime.tensor, data))])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
