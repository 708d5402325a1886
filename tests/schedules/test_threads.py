"""Two threads give the same bits as one."""

from collections.abc import Iterator

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op

from tvm_bnn import ops, targets


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


def test_two_threads_equal_one(build_cases, scheduled, set_threads):
    module, data, _ = build_cases({"network": network}, ["network"], ["network"])
    results = []
    for threads in (1, 2):
        target = targets.resolve("llvm", threads=threads)
        executable = tvm.compile(scheduled(module, target)[1], target=target.tvm())
        set_threads(threads)
        machine = relax.VirtualMachine(executable, tvm.cpu())
        results.append([value.numpy() for value in machine["main"](*map(tvm.runtime.tensor, data))])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
