"""torch.export -> Relax: TVM's importer, with its errors corrected and every call marked with its layer.

Three things are added to TVM's importer:

* each emitted call carries a span whose source name is the path of the torch module it came from, so that every
  later stage can name the layer;
* nearest-neighbour upsampling follows PyTorch's rule ``source = floor(target * scale)``. TVM's importer asks for
  half-pixel centres and rounding, which agrees only at integer scales;
* operands of different types are brought to one type by PyTorch's rules (`promotion`).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tvm
from torch import fx
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from tvm_bnn.errors import ModelError, UnsupportedError
from tvm_bnn.frontend import promotion
from tvm_bnn.frontend.decompositions import decompositions_for, signature_read_once
from tvm_bnn.frontend.span_builder import SpanBuilder
from tvm_bnn.frontend.torch_converters import CONVERTERS, EXTENDED, Converter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Imported:
    """A Relax module as imported, and how its values correspond to the model's own.

    module : IRModule with one function ``main``; parameters are constants.
    program : the exported program after decomposition (its nodes are what was translated); None for a model that is
        not PyTorch's.
    node_of : Relax variable name -> name of the node (of the ONNX value) that it holds.
    """

    module: tvm.IRModule
    program: torch.export.ExportedProgram | None
    node_of: dict[str, str]

    @property
    def exported(self) -> torch.export.ExportedProgram:
        """The exported program, for what needs PyTorch's own values; raises ModelError where there is none."""
        if self.program is None:
            raise ModelError("this model did not come through torch.export; its values in PyTorch are not known")
        return self.program


def module_path(node: fx.Node) -> str:
    """Path of the torch module a node came from ('' for the model itself)."""
    stack = node.meta.get("nn_module_stack") or {}
    entries = [entry for entry in stack.values() if isinstance(entry, tuple)]
    return entries[-1][0] if entries else ""


def _name(node: fx.Node) -> str:
    """Name of the operator that a node calls."""
    return getattr(node.target, "__name__", str(node.target))


class _Importer(ExportedProgramImporter):
    """TVM's importer with spans and with PyTorch's nearest-neighbour rule."""

    def __init__(self) -> None:
        super().__init__()
        extended = {name: extend(self.convert_map[name]) for name, extend in EXTENDED.items()}
        own = {name: self._own(convert) for name, convert in {**CONVERTERS, **extended}.items()}
        self.convert_map: dict[str, Callable] = {
            name: self._marked(convert) for name, convert in {**self.convert_map, **own}.items()
        }

    def _own(self, convert: Converter) -> Callable:
        return lambda node: convert(self.block_builder, self.env, node)

    @property
    def block_builder(self) -> SpanBuilder:
        return self._builder

    @block_builder.setter
    def block_builder(self, value) -> None:
        # The base class replaces its builder on every import; ours only knows more.
        self._builder: Any = value if value is None else SpanBuilder()

    def _marked(self, convert: Callable) -> Callable:
        def with_span(node: fx.Node, *extra):
            path = module_path(node)
            self.block_builder.enter(path)
            own: dict[fx.Node, relax.Expr] = {}
            try:
                cast = promotion.casts(node, self.env, self.block_builder.emit)
                own = {operand: self.env[operand] for operand in cast}
                self.env.update(cast)
                return convert(node, *extra)
            except (AssertionError, NotImplementedError, ValueError, TypeError, LookupError, RuntimeError) as error:
                reason = str(error).strip().splitlines()
                raise UnsupportedError(
                    f"{path or 'the model'}: operator {node.target} cannot be imported "
                    f"({reason[-1] if reason else type(error).__name__}); replace it by supported operators"
                ) from error
            finally:
                self.env.update(own)
                self.block_builder.leave()

        return with_span

    def _check_unsupported_func_type(self, nodes: list[fx.Node]) -> None:
        missing: dict[str, str] = {}
        for node in nodes:
            if node.op == "call_function" and _name(node) not in self.convert_map:
                missing.setdefault(str(node.target), module_path(node) or "the model")
        if missing:
            found = ", ".join(f"{name} (in {path})" for name, path in missing.items())
            raise UnsupportedError(f"operators that cannot be imported: {found}; replace them by supported ones")

    def _upsample_nearest2d(self, node: fx.Node) -> relax.Var:
        data = self.env[node.args[0]]
        height, width = (int(extent) for extent in list(data.ty.shape)[2:])
        out_height, out_width = (int(extent) for extent in node.meta["val"].shape[2:])
        rows, columns = self._nearest_indices(node, height, width)
        if rows == [y * height // out_height for y in range(out_height)] and columns == [
            x * width // out_width for x in range(out_width)
        ]:
            resized = relax.op.image.resize2d(
                data,
                (out_height, out_width),
                layout="NCHW",
                method="nearest_neighbor",
                coordinate_transformation_mode="asymmetric",
                rounding_method="floor",
            )
            return self.block_builder.emit(resized)
        picked = self.block_builder.emit(relax.op.take(data, relax.const(rows, "int64"), axis=2))
        return self.block_builder.emit(relax.op.take(picked, relax.const(columns, "int64"), axis=3))

    @staticmethod
    def _nearest_indices(node: fx.Node, height: int, width: int) -> tuple[list[int], list[int]]:
        """The source row of each output row, and likewise for columns, asked of PyTorch's own kernel."""
        extra = node.args[1:]

        def ask(image: torch.Tensor) -> torch.Tensor:
            assert callable(node.target)
            return node.target(image, *extra, **node.kwargs)

        grid = torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)
        source = ask(grid)[0, 0].to(torch.int64)
        return (source[:, 0] // width).tolist(), (source[0] % width).tolist()


def import_program(program: torch.export.ExportedProgram) -> Imported:
    """Translate an exported program to Relax.

    Raises
    ------
    UnsupportedError
        An operator has no translation; the message names it and the module that uses it.
    ModelError
        The program has symbolic (dynamic) shapes.
    """
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            raise ModelError(
                f"{module_path(node) or 'the model'}: {node.name} reads a number out of a tensor; go on with the "
                "tensor instead: leave out .item(), float() and int()"
            )
        if isinstance(value, torch.Tensor) and any(not isinstance(extent, int) for extent in value.shape):
            if any(str(extent).startswith("u") for extent in value.shape):
                raise ModelError(
                    f"{module_path(node) or 'the model'}: how many elements {node.name} has depends on the data, as "
                    "where elements are taken by a mask; static shapes are accepted: write torch.where(mask, a, b)"
                )
            raise ModelError(
                f"{node.name} has the dynamic shape {tuple(value.shape)}; static shapes are accepted: "
                "export without dynamic_shapes, once per input size"
            )
    with signature_read_once():
        decomposed = program.run_decompositions(decompositions_for(program))
    importer = _Importer()
    module = importer.from_exported_program(
        decomposed,
        keep_params_as_input=False,
        unwrap_unit_return_tuple=False,
        no_bind_return_tuple=False,
        custom_convert_map=None,
    )
    node_of = {
        value.name: node.name for node, value in importer.env.items() if isinstance(value, relax.Var)
    }
    return Imported(module, decomposed, node_of)
