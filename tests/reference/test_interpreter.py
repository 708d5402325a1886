"""Walking a module: bindings, tuples, calls, forcing, and what is refused."""

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program

from tvm_bnn.errors import InputError, UnsupportedError
from tvm_bnn.reference import OPERATORS, evaluate, evaluate_call


def chain() -> tvm.IRModule:
    """y = (x + 1) * 2, z = y - x; the result is ((y, z), x)."""
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            more = builder.emit(relax.op.add(x, relax.const(1.0)), "more")
            y = builder.emit(relax.op.multiply(more, relax.const(2.0)), "y")
            z = builder.emit(relax.op.subtract(y, x), "z")
            pair = builder.emit(relax.Tuple([y, z]), "pair")
            out = builder.emit_output(relax.Tuple([pair, x]), "out")
        builder.emit_func_output(out)
    return builder.get()


X = np.array([1, 2], np.float32)


def test_results_are_flat_and_inputs_come_in_order_or_by_name():
    wanted = [[4, 6], [3, 4], [1, 2]]
    assert [value.tolist() for value in evaluate(chain(), [X])] == wanted
    assert [value.tolist() for value in evaluate(chain(), {"x": torch.from_numpy(X)})] == wanted


def test_force_replaces_a_value_after_it_was_observed():
    seen = []
    got = evaluate(
        chain(),
        [X],
        force={"more": np.array([10, 20], np.float32)},
        observe=lambda name, value: seen.append((name, value if isinstance(value, tuple) else value.tolist())),
    )
    assert seen[0] == ("more", [2, 3]) and seen[1] == ("y", [20, 40])
    assert [name for name, _ in seen] == ["more", "y", "z", "pair", "out"]
    assert [value.tolist() for value in got] == [[20, 40], [19, 38], [1, 2]]


def test_observing_changes_nothing():
    quiet, watched = evaluate(chain(), [X]), evaluate(chain(), [X], observe=lambda _name, _value: None)
    for a, b in zip(quiet, watched, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("inputs", "force", "message"),
    [
        ([], {}, "found 0 inputs; the function takes 1: x"),
        ({"w": X}, {}, "found inputs w; the function takes x"),
        ([np.array([1, 2, 3], np.float32)], {}, r"x is float32\[3\]; the function takes float32\[2\]"),
        ([np.array([1, 2], np.float64)], {}, r"x is float64\[2\]; the function takes float32\[2\]"),
        ([X], {"q": X}, "force names variables that the function does not bind: q"),
        ([X], {"y": np.array([1], np.float32)}, r"y is float32\[1\]; the function takes float32\[2\]"),
    ],
)
def test_refuses_values_that_do_not_fit(inputs, force, message):
    with pytest.raises(InputError, match=message):
        evaluate(chain(), inputs, force=force)


def test_refuses_a_function_that_is_not_there():
    with pytest.raises(InputError, match="no function 'other'; it has main"):
        evaluate(chain(), [X], function="other")


def test_an_unknown_operator_is_named_with_its_place():
    data = relax.Var("x", relax.TensorType((2,), "float32"))
    span = tvm.ir.Span(tvm.ir.SourceName("encoder.head"), 0, 0, 0, 0)
    call = relax.Call(tvm.ir.Op.get("relax.cumsum"), [data], relax.op.cumsum(data, 0).attrs, span=span)
    with pytest.raises(UnsupportedError, match=r"no code for relax.cumsum \(from encoder.head\)"):
        evaluate_call(call, [X])


def test_calls_of_functions_and_branches():
    builder = relax.BlockBuilder()
    a = relax.Var("a", relax.TensorType((2,), "float32"))
    with builder.function("twice", [a], private=True):
        builder.emit_func_output(builder.emit(relax.op.add(a, a)))
    (double,) = builder.get().get_global_vars()
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.Call(double, [relax.Call(double, [x])])))
    (got,) = evaluate(builder.get(), [X])
    assert got.tolist() == [4, 8]


def test_evaluate_call_takes_relax_literals():
    x = relax.const(np.array([[1, 2], [3, 4]], np.float32))
    reshape = relax.op.reshape(x, (4,))
    assert evaluate_call(reshape, list(reshape.args)).tolist() == [1, 2, 3, 4]
    concat = relax.op.concat([x, x], 0)
    assert evaluate_call(concat, list(concat.args)).shape == (4, 2)
    clip = relax.op.clip(x, 2, 3)
    assert evaluate_call(clip, list(clip.args)).tolist() == [[2, 2], [3, 3]]


def test_every_operator_is_registered_with_relax():
    assert set(OPERATORS) <= set(tvm.ir.Op.list_op_names())


def test_parameters_can_stay_inputs():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval(), torch.randn(1, 3, 6, 6)
    program = torch.export.export(model, (x,))
    bound = evaluate(from_exported_program(program), [x])[0]
    module, parameters = relax.frontend.detach_params(
        from_exported_program(program, keep_params_as_input=True)
    )
    free = evaluate(module, [x, *(value.numpy() for value in parameters["main"])])[0]
    np.testing.assert_array_equal(bound, free)
