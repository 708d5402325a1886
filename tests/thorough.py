"""How much a run of the tests tries: what `make test` has time for, or all that there is."""

import os

#: Set where every random graph is to be compiled, and every case of the kernel grid to meet all of its data.
THOROUGH = "TVM_BNN_THOROUGH"


def thorough() -> bool:
    """Whether time does not matter."""
    return bool(os.environ.get(THOROUGH))
