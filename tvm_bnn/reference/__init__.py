"""The meaning of a Relax module, computed with numpy: the oracle that every generated kernel equals bit for bit.

**Defined arithmetic.** Each operator below has one result, to the last bit, on every machine:

- A *float sum of products* (convolution, transposed convolution, matrix product) starts at 0 and for (ky, kx, c) in
  that order, or k in order, steps acc = fma(x, w, acc) in float32: one rounding a step. A padded tap is a step with
  x = 0. A transposed convolution is the gather over the taps that exist, ky and kx counted in the weight as stored.
- *bnn.bconv2d* is an exact integer; *bnn.affine* is fma(float32(x), scale, shift); batch normalisation is such a step,
  its constants computed in float64 and rounded once.
- A *plain sum* (pooling, mean, sum, softmax) adds float32 in order from 0: a window as (ky, kx); axes from the last to
  the first, so that a spatial mean adds each row and then the rows. It divides once, by the count.
- *Elementwise* operators round once, and never contract: a multiplication followed by an addition rounds twice.
- *exp, log, sigmoid, tanh, erf* are the functions of ``tvm_bnn.arithmetic``, which also yields them as TensorIR;
  softmax, gelu, silu and softplus are built from them. Powers other than 1, 2, 3, 4, 1/2, -1/2 and -1 go through
  float64 and the C library: the one place where machines might differ.
- *Linear resizing* interpolates vertically, then horizontally, by fma(f, b - a, a), with float32 coordinates.
- NaN passes through (any NaN equals any other), denormals are kept, except that exp returns 0 for a result below the
  normal range. The modules of this package state the rest.

``evaluate`` runs a function, ``evaluate_call`` one operator (the compiler folds constants with it); ``OPERATORS`` is
the table of what is known.
"""

from tvm_bnn.reference.interpreter import Observer, evaluate
from tvm_bnn.reference.operators import OPERATORS, evaluate_call

__all__ = ["OPERATORS", "Observer", "evaluate", "evaluate_call"]
