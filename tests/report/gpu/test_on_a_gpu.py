"""On the GPU that this machine has: results are exact, ceilings are plausible, and a row of each suite is measured.

Everything else about GPUs is tested without one.
"""

import json

import numpy as np
import pytest
import torch

from tests.cuda.grid import BINARY, EXACT, NUMBERS
from tests.cuda.test_kernels import OTHERS
from tests.schedules.conftest import build
from tvm_bnn import gpus
from tvm_bnn.compiler import compile_source
from tvm_bnn.examples import ding2024, reactnet, unet
from tvm_bnn.frontend.source import load_source
from tvm_bnn.reference import evaluate
from tvm_bnn.report import __main__ as command
from tvm_bnn.report.gpu import ceilings
from tvm_bnn.report.gpu.cases import bench
from tvm_bnn.report.gpu.command import target_here
from tvm_bnn.report.gpu.driver import Driver
from tvm_bnn.report.gpu.kernel_call import GpuKernelCall
from tvm_bnn.targets import host


@pytest.fixture(scope="module", autouse=True)
def target():
    """What to compile for; where there is no GPU, its tests are skipped."""
    if gpus.version_here() is None:
        pytest.skip("TVM finds no NVIDIA GPU on this machine (its driver, and libcudart.so.13)")
    return target_here("cuda")


@pytest.mark.parametrize("name", BINARY)
def test_binary_convolutions_are_exact(target, name):
    check(target, BINARY, [name])


@pytest.mark.parametrize("name", NUMBERS)
def test_convolutions_of_numbers_are_exact(target, name):
    """Of numbers whose sums are, in any order."""
    check(target, NUMBERS, [name], *EXACT)


@pytest.mark.parametrize("file", OTHERS, ids=lambda file: file.__name__.split("_", 1)[-1])
def test_other_kernels_are_exact(target, file):
    check(target, file.CASES, OTHERS[file])


def check(target, cases, names, constants="normal", data_kind="normal"):
    """Cases of a grid, compiled together, against the reference on this processor."""
    module, data, _ = build(cases, names, list(cases), constants, data_kind)
    found = GpuKernelCall(module, None, data, target).results
    for result, expected in zip(found, evaluate(module, data), strict=True):
        np.testing.assert_array_equal(result, expected)


NETWORKS = {
    "bench": lambda: bench(1, (64, 128), 1).make()[::2],
    "bench, three branches, two images": lambda: bench(3, (64, 128), 2).make()[::2],
    "demo": lambda: of(ding2024, ding2024.demo(), (64, 128)),
    "reactnet": lambda: of(reactnet, reactnet.reactnet18(), (64, 64)),
    "unet": lambda: of(unet, unet.unet(), (64, 128)),
}


def of(package, model, size):
    return model, package.example_inputs(model, size)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_exactly_those_of_the_processor(target, name):
    model, inputs = NETWORKS[name]()
    with torch.no_grad():
        arrays = [value.numpy() for value in inputs]
        found, expected = (
            compile_source(load_source(model, inputs), each).artifact(*arrays) for each in (target, host())
        )
    np.testing.assert_array_equal(found, expected)


def test_ceilings_are_plausible(target):
    driver = Driver()
    found = ceilings.measure(driver, target.gpu, rounds=5, copy_sizes=(64, 256))
    rates = {**found.bits, **found.halves}
    assert all(rate.per_s > 0 and rate.spread < 0.2 for rate in (*rates.values(), *found.copy.values()))
    assert 1e10 < found.copy[256 * ceilings.MB].per_s < 3e13
    best, _ = found.best_bits
    native = target.gpu.product
    if native.operands == "b1":
        assert native.operation in best
        assert found.best_bits[1].per_s > 2 * max(rate.per_s for rate in found.halves.values())
    # no more than one product of the widest kind by each multiprocessor in a cycle
    most = driver.multiprocessors * driver.describe()["clock_mhz"] * 1e6 * 64 * 256 * 256
    assert all(rate.per_s < most for rate in rates.values())


@pytest.mark.parametrize(("suite", "row"), [("kernels", "bconv3x3-64x128x128-bits"), ("networks", "bench-512x1024")])
def test_a_row_of_each_suite_is_measured(capsys, tmp_path, suite, row):
    path = tmp_path / "rows.json"
    arguments = [suite, "--target", "cuda", "--rows", row, "--rounds", "3", "--json", str(path)]
    assert command.main(arguments) == 0, capsys.readouterr().err
    (measured,) = json.loads(path.read_text())["rows"]
    assert measured["name"] == row and 0 < measured["ours_ms"] < 1e3
    assert measured["limit_ms"] < measured["ours_ms"] * 1.1
    assert measured.get("launched") is None, "a kernel is launched as a graph"
