"""The class map of resized logits, without the logits at full resolution.

Rows that grow by a whole factor, and no fewer of them, have a kernel of their own, ``argmax_upsample``. This one takes
any size. A row of logits is interpolated vertically once; each output pixel is then interpolated horizontally in
registers, all classes of it in one vector, and the position of the first maximum is found there:

* float order becomes integer order: for the bits b of a float, ``b ^ ((b >> 31) & 0x7fffffff)`` as a signed integer is
  increasing in the float (adding +0.0 first turns -0.0 into +0.0; every NaN is made the largest, as in PyTorch);
* the maximum over the lanes is one integer reduction, its first position the trailing zeros of an equality mask.

The interpolation is the one of ``anchors.resize``, so the map equals argmax(resize(x)) of the reference bit for bit.
The loops are written out here because no schedule primitive expresses them; the vectors are as wide as the stored
channels and LLVM cuts them to the registers of the target.
"""

# mypy: disable-error-code="valid-type"
# (TVMScript writes shapes where Python expects types)

import numpy as np
from tvm import relax, tirx
from tvm.script import tirx as T

from tvm_bnn.lower.anchors.resize import linear_coordinates
from tvm_bnn.lower.argmax_upsample import phases_of, upsampled_argmax
from tvm_bnn.lower.kernel import Kernel
from tvm_bnn.lower.layout import Layout, padded_channels
from tvm_bnn.relay_passes.rewriter import dtype_of, shape_of

_SIGN = -(1 << 31)
_MAGNITUDE = (1 << 31) - 1
_INFINITY = 0xFF << 23


def argmax_of_resize(result: relax.Var, argmax: relax.Call, resize: relax.Call, target) -> Kernel:
    """Kernel for ``argmax(resize(data), axis=1)``; data is stored as a MAP of 5 to 64 channels.

    result : the variable that holds the class map [N, H, W]; it is stored as it is.
    target : a ``targets.Target``.
    """
    data = resize.args[0]
    batch, classes, height, width = shape_of(data)
    rows, columns = shape_of(resize)[2:]
    align = str(resize.attrs.coordinate_transformation_mode) == "align_corners"
    vertical = linear_coordinates(height, rows, align)
    horizontal = linear_coordinates(width, columns, align)
    outputs = [(result, Layout.PLAIN)]
    phases = phases_of(width, horizontal)
    if phases is not None and rows >= height:  # else most rows that it would transpose are not read
        weights = np.ascontiguousarray(horizontal[2].reshape(width, phases.count).T)
        upsampled = upsampled_argmax(shape_of(data), rows, phases, vertical, dtype_of(argmax), target.lanes32)
        return Kernel(upsampled, [data, *vertical, weights], outputs, "fixed", "argmax_upsample")
    lanes = padded_channels(classes)
    func = _kernel(batch, classes, lanes, height, width, rows, columns, dtype_of(argmax))
    return Kernel(func, [data, *vertical, *horizontal], outputs, "fixed", "argmax_resize")


def _kernel(
    batch: int, classes: int, lanes: int, height: int, width: int, rows: int, columns: int, dtype: str
) -> tirx.PrimFunc:
    floats, integers = f"float32x{lanes}", f"int32x{lanes}"
    word, flags, count_zeros = f"uint{lanes}", f"uint1x{lanes}", f"llvm.cttz.i{lanes}"

    @T.prim_func(s_tir=True)
    def argmax_resize(
        data: T.Buffer((batch, height, width, lanes), "float32"),
        y0: T.Buffer((rows,), "int32"),
        y1: T.Buffer((rows,), "int32"),
        fy: T.Buffer((rows,), "float32"),
        x0: T.Buffer((columns,), "int32"),
        x1: T.Buffer((columns,), "int32"),
        fx: T.Buffer((columns,), "float32"),
        out: T.Buffer((batch, rows, columns), dtype),
    ):
        T.func_attr({"tirx.noalias": True})
        for row in T.parallel(batch * rows):
            with T.sblock("row"):
                T.reads()
                T.writes()
                line = T.sblock_alloc_buffer((width, lanes), "float32")
                key = T.sblock_alloc_buffer((lanes,), "int32")
                peak = T.sblock_alloc_buffer((1,), "int32")
                for x in range(width):
                    line[x, T.ramp(0, 1, lanes)] = T.call_llvm_pure_intrin(
                        "llvm.fma",
                        T.broadcast(fy[row % rows], lanes),
                        data[row // rows, y1[row % rows], x, T.ramp(0, 1, lanes)]
                        - data[row // rows, y0[row % rows], x, T.ramp(0, 1, lanes)],
                        data[row // rows, y0[row % rows], x, T.ramp(0, 1, lanes)],
                        dtype=floats,
                    )
                for x in range(columns):
                    key[T.ramp(0, 1, lanes)] = T.reinterpret(
                        integers,
                        T.call_llvm_pure_intrin(
                            "llvm.fma",
                            T.broadcast(fx[x], lanes),
                            line[x1[x], T.ramp(0, 1, lanes)] - line[x0[x], T.ramp(0, 1, lanes)],
                            line[x0[x], T.ramp(0, 1, lanes)],
                            dtype=floats,
                        )
                        + T.broadcast(T.float32(0.0), lanes),
                    )
                    key[T.ramp(0, 1, lanes)] = T.Select(
                        T.ramp(0, 1, lanes) < T.broadcast(classes, lanes),
                        T.Select(
                            (key[T.ramp(0, 1, lanes)] & T.broadcast(_MAGNITUDE, lanes)) > T.broadcast(_INFINITY, lanes),
                            T.broadcast(_MAGNITUDE, lanes),
                            key[T.ramp(0, 1, lanes)]
                            ^ ((key[T.ramp(0, 1, lanes)] >> T.broadcast(31, lanes)) & T.broadcast(_MAGNITUDE, lanes)),
                        ),
                        T.broadcast(T.int32(_SIGN), lanes),
                    )
                    peak[0] = T.call_llvm_pure_intrin(
                        "llvm.vector.reduce.smax", key[T.ramp(0, 1, lanes)], dtype="int32"
                    )
                    out[row // rows, row % rows, x] = T.Cast(
                        dtype,
                        T.call_llvm_pure_intrin(
                            count_zeros,
                            T.reinterpret(word, T.Cast(flags, key[T.ramp(0, 1, lanes)] == T.broadcast(peak[0], lanes))),
                            T.Cast("uint1", T.bool(False)),
                            dtype=word,
                        ),
                    )

    return argmax_resize
