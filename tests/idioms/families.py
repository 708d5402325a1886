"""The idioms by family, in the order of the table."""

from collections.abc import Mapping

from tests.idioms import activations, geometry, near_misses, order, padding, passing, products, scales, weights, zeros
from tests.idioms.idiom import Idiom

FAMILIES: Mapping[str, Mapping[str, Idiom]] = {
    "activations": activations.IDIOMS,
    "weights": weights.IDIOMS,
    "scales": scales.IDIOMS,
    "padding": padding.IDIOMS,
    "order": order.IDIOMS,
    "geometry": geometry.IDIOMS,
    "passing": passing.IDIOMS,
    "products": products.IDIOMS,
    "zeros": zeros.IDIOMS,
    "near misses": near_misses.IDIOMS,
}
