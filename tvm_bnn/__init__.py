"""A compiler for binary neural networks for dense prediction, built on TVM.

tvm_bnn.compile(model, example_inputs, target="llvm") -> Artifact    compile a PyTorch model
tvm_bnn.load(path) -> Artifact                                        read a compiled one
tvm_bnn.Artifact                                                      call it, save it, explain it

Importing this package loads neither PyTorch nor TVM: each name is fetched when it is first asked for. ``compile`` is
the module behind ``python -m tvm_bnn.compile``, which can be called as the function.
"""

from tvm_bnn.interrupt import begin_command

begin_command()

import importlib  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

if TYPE_CHECKING:
    from tvm_bnn.compile import compile_model as compile
    from tvm_bnn.errors import BnnError
    from tvm_bnn.runtime import Artifact, load

__all__ = ["Artifact", "BnnError", "compile", "load"]

#: Name -> (module, attribute); no attribute: the module itself.
_HOMES = {
    "Artifact": ("tvm_bnn.runtime", "Artifact"),
    "BnnError": ("tvm_bnn.errors", "BnnError"),
    "compile": ("tvm_bnn.compile", ""),
    "load": ("tvm_bnn.runtime", "load"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, attribute = _HOMES[name]
    module = importlib.import_module(home)
    value = getattr(module, attribute) if attribute else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
