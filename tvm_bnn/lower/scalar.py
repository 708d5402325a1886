"""The scalar expression of each elementwise operator, in the arithmetic that the reference evaluator defines."""

import math
from collections.abc import Callable

from tvm import DataType, relax, tirx

from tvm_bnn import arithmetic
from tvm_bnn.errors import UnsupportedError
from tvm_bnn.lower.index import Scalar
from tvm_bnn.relay_passes.rewriter import dtype_of, op_name, path_of


def _number(expr) -> float:
    return float(expr.value)


def _zero(x):
    return tirx.const(0, x.ty.dtype)


def _is_float(x) -> bool:
    return str(x.ty.dtype).startswith("float")


def _multiply(call, a, b):
    return arithmetic.mul(a, b) if _is_float(a) else a * b


def _affine(call, x, scale, shift):
    return arithmetic.fma(x if _is_float(x) else x.astype("float32"), scale, shift)


def _interval(call, x, lowest, width):
    """Modulo 2**32, in 64 bits: TVM and LLVM take it that differences of 32 bits never wrap around."""
    ahead = x.astype("int64") - lowest.astype("int64")
    ahead = tirx.Select(ahead < 0, ahead + tirx.const(1 << 32, "int64"), ahead)
    return ahead <= width.astype("int64")


def _not(x, lanes: int = 1):
    """Not x. TVM turns Not(a < b) into b <= a and EQ's opposite into an ordered comparison; of NaN neither holds."""
    return tirx.EQ(x.astype("uint8" if lanes == 1 else f"uint8x{lanes}"), _spread(tirx.const(0, "uint8"), lanes))


def _extreme(a, b, second):
    """b where ``second`` holds (b is at least, or at most, a) or b is NaN, else a: so NaN passes from both sides."""
    if not _is_float(a) or isinstance(b, tirx.FloatImm):
        return tirx.Select(second, b, a)
    return tirx.Select(second, b, tirx.Select(_is_number(b), a, b))


def _is_number(x, lanes: int = 1):
    return tirx.abs(x) <= _spread(tirx.const(math.inf, DataType(str(x.ty.dtype)).with_lanes(1)), lanes)


def _spread(x, lanes: int):
    return x if lanes == 1 else tirx.Broadcast(x, lanes)


def is_larger(value, best):
    """Whether a value, or a vector of these, is to be taken instead of the best one before it: it is larger, or the
    first NaN.
    """
    return _goes_before(value, best, value <= best) if _is_float(value) else value > best


def is_smaller(value, best):
    """The same of the smallest value: the first NaN goes before all here, too."""
    return _goes_before(value, best, value >= best) if _is_float(value) else value < best


def _goes_before(value, best, behind):
    """Neither ``behind`` (which no NaN is) nor after a NaN: two comparisons, the second of which masks the first."""
    lanes = DataType(str(value.ty.dtype)).lanes
    return tirx.And(_not(behind, lanes), _is_number(best, lanes))


def _equal(call, a, b):
    """x == x, by which NaN is told, is true for TVM."""
    return _is_number(a) if _is_float(a) and call.args[0].same_as(call.args[1]) else tirx.EQ(a, b)


def _clip(call, x):
    low, high = (tirx.const(_number(bound), x.ty.dtype) for bound in call.args[1:])
    return tirx.min(high, tirx.max(low, x))  # constants first: NaN passes


def _astype(call, x):
    dtype, given = dtype_of(call), str(x.ty.dtype)
    if dtype == "bool" and given != "bool":
        return tirx.NE(x, _zero(x))
    if given == "bool" and dtype != "bool":  # a named vector of cast bools is more than TVM's analyzer takes
        return tirx.Select(x, tirx.const(1, dtype), tirx.const(0, dtype))
    return x.astype(dtype)


def _sign(call, x):
    one = tirx.const(1, x.ty.dtype)
    return tirx.Select(x > _zero(x), one, tirx.Select(x < _zero(x), -one, _zero(x)))


def _leaky(call, x):
    return tirx.Select(x > _zero(x), x, arithmetic.mul(x, tirx.const(float(call.attrs.alpha), x.ty.dtype)))


def _power(call, x, y):
    exponent = float(y.value) if isinstance(y, tirx.FloatImm) else None
    one = tirx.const(1.0, str(x.ty.dtype))
    powers = {
        1.0: lambda: x,
        2.0: lambda: arithmetic.mul(x, x),
        3.0: lambda: arithmetic.mul(arithmetic.mul(x, x), x),
        4.0: lambda: arithmetic.mul(arithmetic.mul(x, x), arithmetic.mul(x, x)),
        0.5: lambda: tirx.sqrt(x),
        -0.5: lambda: one / tirx.sqrt(x),
        -1.0: lambda: one / x,
    }
    if exponent not in powers:
        found = "a variable power" if exponent is None else f"the power {exponent:g}"
        accepted = "1, 2, 3, 4, 0.5, -0.5 and -1 are accepted: write it with exp and log"
        raise UnsupportedError(f"{path_of(call) or 'the model'}: {found}; {accepted}")
    return powers[exponent]()


def _gelu(call, x):
    half = arithmetic.mul(x, tirx.const(0.5, "float32"))
    return arithmetic.fma(half, arithmetic.erf(arithmetic.mul(x, tirx.const(math.sqrt(0.5), "float32"))), half)


#: Relax operator -> function of (call, operands at one index).
SCALAR: dict[str, Callable] = {
    "bnn.affine": _affine,
    "bnn.interval": _interval,
    "bnn.quantize": lambda call, x, inverse: arithmetic.quantize(x, inverse),
    "bnn.bfloat16": lambda call, x: arithmetic.bfloat16(x),
    "bnn.tfloat32": lambda call, x: arithmetic.tfloat32(x),
    "relax.add": lambda call, a, b: a + b,
    "relax.subtract": lambda call, a, b: a - b,
    "relax.multiply": _multiply,
    "relax.divide": lambda call, a, b: a / b if _is_float(a) else tirx.truncdiv(a, b),
    "relax.maximum": lambda call, a, b: _extreme(a, b, b >= a),
    "relax.minimum": lambda call, a, b: _extreme(a, b, b <= a),
    "relax.power": _power,
    "relax.floor_divide": lambda call, a, b: tirx.floordiv(a, b),
    "relax.floor_mod": lambda call, a, b: tirx.floormod(a, b),
    "relax.equal": _equal,
    "relax.not_equal": lambda call, a, b: _not(_equal(call, a, b)),
    "relax.less": lambda call, a, b: a < b,
    "relax.less_equal": lambda call, a, b: a <= b,
    "relax.greater": lambda call, a, b: a > b,
    "relax.greater_equal": lambda call, a, b: a >= b,
    "relax.logical_and": lambda call, a, b: tirx.And(a, b),
    "relax.logical_or": lambda call, a, b: tirx.Or(a, b),
    "relax.logical_xor": lambda call, a, b: tirx.Or(tirx.And(a, _not(b)), tirx.And(_not(a), b)),
    "relax.logical_not": lambda call, a: _not(a),
    "relax.where": lambda call, c, a, b: tirx.Select(c, a, b),
    "relax.astype": _astype,
    "relax.clip": _clip,
    "relax.nn.relu": lambda call, x: tirx.max(_zero(x), x),
    "relax.nn.leakyrelu": _leaky,
    "relax.nn.silu": lambda call, x: arithmetic.mul(x, arithmetic.sigmoid(x)),
    "relax.nn.gelu": _gelu,
    "relax.bitwise_and": lambda call, a, b: a & b,
    "relax.bitwise_or": lambda call, a, b: a | b,
    "relax.bitwise_xor": lambda call, a, b: a ^ b,
    "relax.bitwise_not": lambda call, a: ~a,
    "relax.abs": lambda call, x: tirx.abs(x),
    "relax.negative": lambda call, x: -x,
    "relax.sign": _sign,
    "relax.round": lambda call, x: tirx.nearbyint(x),
    "relax.floor": lambda call, x: tirx.floor(x),
    "relax.ceil": lambda call, x: tirx.ceil(x),
    "relax.sqrt": lambda call, x: tirx.sqrt(x),
    "relax.rsqrt": lambda call, x: tirx.const(1.0, x.ty.dtype) / tirx.sqrt(x),
    "relax.square": lambda call, x: _multiply(call, x, x),
    "relax.exp": lambda call, x: arithmetic.exp(x),
    "relax.log": lambda call, x: arithmetic.log(x),
    "relax.sigmoid": lambda call, x: arithmetic.sigmoid(x),
    "relax.tanh": lambda call, x: arithmetic.tanh(x),
    "relax.erf": lambda call, x: arithmetic.erf(x),
}


#: Operators whose expression reads an operand several times.
_REPEATS = frozenset(
    "bnn.bfloat16 bnn.tfloat32 bnn.quantize relax.exp relax.log relax.sigmoid relax.tanh relax.erf relax.sign "
    "relax.square relax.power relax.nn.leakyrelu relax.nn.silu relax.nn.gelu relax.nn.gelu_tanh relax.nn.softplus "
    "relax.nn.prelu".split()
)


def reads(call: relax.Call) -> int:
    """How often the expression of a call reads an operand: once, or more often (2)."""
    return 2 if op_name(call) in _REPEATS else 1


def scalar(call: relax.Call, operands: list) -> Scalar:
    """The value of an elementwise call at one index, given its tensor operands there.

    Raises UnsupportedError, naming the layer, for an operator without a scalar form.
    """
    name = op_name(call)
    if name not in SCALAR:
        raise UnsupportedError(f"{path_of(call) or 'the model'}: no kernel for {name}")
    return SCALAR[name](call, *operands)


def immediate(value, dtype: str) -> Scalar:
    """A Python or numpy number as a TensorIR constant."""
    if dtype == "bool":
        return tirx.const(bool(value), "bool")
    return tirx.const(float(value) if dtype.startswith("float") else int(value), dtype)
