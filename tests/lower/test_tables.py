"""The tables of the lowering cover what the partition promises to readers and regions."""

from tvm_bnn.lower.scalar import SCALAR
from tvm_bnn.lower.views import VIEWS as READABLE
from tvm_bnn.reference import OPERATORS
from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.partition import VIEWS

RESOLVED_BY_NAME = {"relax.split"}  # its fields are read through relax.TupleGetItem


def test_every_elementwise_operator_has_a_scalar_form():
    assert ELEMENTWISE - SCALAR.keys() == set()


def test_every_view_can_be_read():
    assert VIEWS - READABLE.keys() == RESOLVED_BY_NAME


def test_everything_lowered_has_a_reference():
    assert (SCALAR.keys() | READABLE.keys()) - OPERATORS.keys() == set()
