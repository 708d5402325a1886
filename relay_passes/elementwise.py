"""Which Relax operators act on each element by itself."""

#: Operators whose result at an index depends only on their operands at that index (with broadcasting).
ELEMENTWISE = frozenset(
    "bnn.affine bnn.interval bnn.quantize bnn.bfloat16 bnn.tfloat32 "
    "relax.add relax.subtract relax.multiply relax.divide relax.maximum relax.minimum relax.power "
    "relax.floor_divide relax.floor_mod "
    "relax.equal relax.not_equal relax.less relax.less_equal relax.greater relax.greater_equal "
    "relax.logical_and relax.logical_or relax.logical_xor relax.logical_not "
    "relax.bitwise_and relax.bitwise_or relax.bitwise_xor relax.bitwise_not "
    "relax.where relax.astype relax.clip relax.nn.relu relax.nn.leakyrelu relax.nn.silu relax.nn.gelu "
    "relax.abs relax.negative relax.sign relax.round relax.floor relax.ceil relax.sqrt relax.rsqrt relax.square "
    "relax.exp relax.log relax.sigmoid relax.tanh relax.erf".split()
)
