"""The check of a device: what is compared, and what is made of it."""

import numpy as np
import pytest

from tvm_bnn.errors import DeviceError
from tvm_bnn.rpc import client, exactness
from tvm_bnn.rpc.exactness import CASES, Measured, measure, same, verdict
from tvm_bnn.targets import host, resolve


def steady(name="conv", milliseconds=(1.0,) * 9, wrong=0):
    return Measured(name, len(milliseconds), wrong, [1e-3 * value for value in milliseconds])


def test_steady_and_exact():
    assert verdict([steady(), steady("stem")]) == (
        True,
        "all 18 results of 2 kernels are exact, and times are steady (spread up to 0%)",
    )


def test_one_wrong_result_is_enough():
    right, line = verdict([steady(), steady("stem", wrong=1)])
    assert not right and line.startswith("WRONG: stem (1 of 9 results);")


def test_times_that_wander():
    right, line = verdict([steady(), steady("stem", (1, 2, 1, 2, 1, 2, 1, 2))])
    assert right and "times wander by 67% (stem): do not trust its times" in line


def test_device_that_gets_slower():
    right, line = verdict([steady("conv", (1.0, 1.0, 1.0, 1.1, 1.1, 1.1, 1.2, 1.2, 1.2))])
    assert right and "it became 20% slower (conv): do not trust its times" in line


def test_too_few_times():
    assert verdict([steady("conv", (1.0, 3.0))])[1].endswith("too few to say whether times are steady")


@pytest.mark.parametrize(
    "found",
    [
        np.array([1.0, np.nextafter(np.float32(2), np.float32(3))], np.float32),
        np.array([1.0, 2.0]),
        np.array([[1.0, 2.0]], np.float32),
        (np.array([1.0, 2.0], np.float32),) * 2,
    ],
)
def test_one_bit_dtype_shape_or_number_of_results_matters(found):
    assert not same(found, [np.array([1.0, 2.0], np.float32)])


def test_equal_results_are_the_same():
    one, two = np.array([1.0], np.float32), np.array([True])
    assert same((one, (two,)), [one, two])


def test_every_kernel_is_exact_on_this_machine(device):
    target = host(threads=1)
    libraries = [(case, case.library(target)) for case in exactness.cases_for(target)]
    rows = measure(client.connect(*device), libraries, seconds=0)
    assert [(row.name, row.compared, row.wrong) for row in rows] == [(case.name, 1, 0) for case, _ in libraries]
    assert all(row.seconds and row.seconds[0] > 0 for row in rows)


def test_wrong_kernel_is_found(device):
    """What one case computes is compared with what another expects."""
    case, other = CASES[0], CASES[1]
    (row,) = measure(client.connect(*device), [(Expecting(case, other.expected), case.library(host(1)))], seconds=0)
    assert row.wrong == 1


class Expecting:
    """A case with somebody else's results."""

    def __init__(self, case, expected):
        self.name, self.inputs, self.expected = case.name, case.inputs, expected


def test_sums_of_floats_are_left_out_where_nothing_fuses():
    names = {case.name for case in exactness.cases_for(resolve("llvm -mcpu=x86-64-v2"))}
    assert names == {case.name for case in CASES if not case.fused} and len(names) < len(CASES)
    assert exactness.cases_for(resolve("llvm -mcpu=cortex-a72")) == list(CASES)


def test_code_for_another_processor_is_told(device):
    case = CASES[0]
    library = case.library(resolve("llvm -mcpu=cortex-a72"))
    with pytest.raises(DeviceError, match=f"{device} failed while loading the compiled code"):
        measure(client.connect(*device), [(case, library)], seconds=0)
