"""Who reads what."""

from tvm import relax
from tvm.relax.op import add, negative

from tvm_bnn.relay_passes.readers import operands, readers_of


def test_readers_are_counted_with_the_result(build, emit):
    def function(x):
        inner = emit(negative(x))
        return relax.Tuple([emit(add(inner, inner)), inner])

    function_ = build(function, (2, 3))["main"]
    readers = readers_of(function_)
    parameter, inner, _, output = readers
    assert [reader.value.op.name for reader in readers[parameter]] == ["relax.negative"]
    assert [reader.var.name if reader else None for reader in readers[inner]].count(None) == 0
    assert len(readers[inner]) == 3 and readers[output] == [None]
    assert operands(readers[inner][0].value) == [inner, inner]
