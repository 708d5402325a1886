"""Code for a Raspberry Pi 4 on an emulated one: it runs there, and gives what it is defined to give."""

import numpy as np
import pytest
import tvm
from tvm import te

from tests import emulator
from tests.examples.test_conversion import EXAMPLES
from tvm_bnn.compiler import compile_source
from tvm_bnn.emulated import processor
from tvm_bnn.errors import DeviceError
from tvm_bnn.examples.ding2024 import demo, example_inputs
from tvm_bnn.frontend.source import load_source
from tvm_bnn.linker import shared_object
from tvm_bnn.reference import evaluate
from tvm_bnn.targets import resolve

BOARD = "llvm -mcpu=cortex-a72"


@pytest.fixture(autouse=True)
def emulated():
    """Skip where there is no emulator, unless there has to be one."""
    emulator.need()


def check_on_the_board(model, inputs):
    """It gives there what its definition gives, as it does on this machine (tests/examples/test_conversion.py)."""
    made = compile_source(load_source(model, inputs), resolve(BOARD, threads=2))
    data = [value.numpy() for value in inputs]
    with processor.session("cortex-a72", threads=2) as remote:
        network = processor.Network(remote, made.artifact.library)
        network.set_inputs(data)
        there = network.run()
    defined = evaluate(made.optimized, data)
    for got, expected in zip(there, [defined] if isinstance(defined, np.ndarray) else defined, strict=True):
        assert got.shape == expected.shape and np.unique(expected).size > 1
        np.testing.assert_array_equal(got, expected)


def test_shipped_network_gives_what_its_definition_gives():
    model = demo()
    check_on_the_board(model, example_inputs(model, (64, 128)))  # emulated, each pixel takes its time


@pytest.mark.parametrize("name", ["ding2024-pixel_shuffle-token", "groupnet-deeplab", "restoration", "unet"])
def test_example_networks_give_what_their_definitions_give(name):
    check_on_the_board(EXAMPLES[name].make(0), EXAMPLES[name].inputs())


@pytest.fixture(scope="module")
def halves():
    """A library that adds numbers of 16 bits with the instructions of a Cortex-A76."""
    target = resolve("llvm -mcpu=cortex-a76")
    x = te.placeholder((64,), "float16", name="x")
    y = te.compute(x.shape, lambda i: x[i] + x[i], name="y")
    built = tvm.compile(te.create_prim_func([x, y]).with_attr("global_symbol", "main"), target=target.tvm())
    return shared_object(built, target.triple)


def doubled(library, cpu):
    with processor.session(cpu) as remote:
        values = tvm.runtime.tensor(np.arange(64, dtype="float16"), remote.cpu())
        sums = tvm.runtime.tensor(np.zeros(64, "float16"), remote.cpu())
        processor.load(remote, library)["main"](values, sums)
        return sums.numpy()


def test_newer_processor_has_the_instruction(halves):
    assert np.array_equal(doubled(halves, "cortex-a76"), 2 * np.arange(64))


def test_instruction_that_the_processor_lacks_ends_the_session(halves):
    with pytest.raises(DeviceError, match="the emulated cortex-a72 stopped, exit code "):
        doubled(halves, "cortex-a72")


def test_processor_that_the_emulator_does_not_know():
    with pytest.raises(DeviceError, match=r"the emulated cortex-a27 stopped, exit code .*cortex-a27"):
        with processor.session("cortex-a27"):
            pytest.fail("there is no such processor")
