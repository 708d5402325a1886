"""What to compile, in every form that a user may give it, as one record."""

import abc
import importlib.util
import os
import re
import sys
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from tvm_bnn.errors import InputError, ModelError
from tvm_bnn.frontend.checkpoint import ACCEPTED, load_weights, open_program
from tvm_bnn.frontend.exporting import evaluating, export, run_once
from tvm_bnn.frontend.factory import call_factory, is_factory
from tvm_bnn.frontend.freezing import FREEZE
from tvm_bnn.frontend.importer import Imported, import_program
from tvm_bnn.frontend.pixels import as_pixels, reading_pixels
from tvm_bnn.frontend.recorder import run_program

Model = nn.Module | ExportedProgram | str | os.PathLike[str]
Shape = tuple[int, ...]

#: How an ONNX file is told from others (the format has no mark of its own to look for).
ONNX_SUFFIX = ".onnx"
_SEED = 0
_ORACLE = f"PyTorch {torch.__version__}"
_TRAINED = "the model was in training mode; it is compiled in eval mode (call model.eval() to say so)"


@dataclass(frozen=True, kw_only=True)
class Source(abc.ABC):
    """A model that is ready to be imported, whatever it was written in.

    name : short text, fit for a file name.
    input_names : of the arguments, in order.
    inputs : example inputs, one tensor an argument.
    expected : what the model itself returns for them, flattened.
    oracle : what has computed `expected`, for people: "PyTorch 2.13.0".
    single : the model returns one tensor, and no tuple.
    module : the torch module itself, None where there is none.
    preprocessing, class_names, palette : plain data that the module carries, for the artifact's manifest.
    notes : what the user should know of how the model was taken.
    """

    name: str
    input_names: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    expected: tuple[Tensor, ...]
    oracle: str
    single: bool
    module: nn.Module | None = None
    preprocessing: Any = None
    class_names: Any = None
    palette: Any = None
    notes: list[str] = field(default_factory=list)

    @abc.abstractmethod
    def imported(self) -> Imported:
        """The model in Relax; raises UnsupportedError or ModelError where it cannot be translated."""

    @abc.abstractmethod
    def values(self, imported: Imported, nodes: Collection[str]) -> dict[str, np.ndarray]:
        """The model's own values on the example inputs, by the names in ``imported.node_of``."""

    @property
    @abc.abstractmethod
    def float_bytes(self) -> int:
        """Bytes of the weights as the model keeps them: everything real-valued as float32."""

    @property
    @abc.abstractmethod
    def weight_bytes(self) -> int:
        """Bytes of all constants."""


@dataclass(frozen=True, kw_only=True)
class ProgramSource(Source):
    """A model that came through torch.export.

    program : exported for inference.
    """

    program: ExportedProgram

    def imported(self) -> Imported:
        """TVM's importer with our corrections; raises ModelError for a model that keeps a state."""
        imported = import_program(self.program)
        check_stateless(imported.exported, self.name)
        return imported

    def values(self, imported: Imported, nodes: Collection[str]) -> dict[str, np.ndarray]:
        """Computed by PyTorch."""
        return run_program(imported.exported, self.inputs, nodes)

    @property
    def float_bytes(self) -> int:
        """Every float parameter and buffer as float32."""
        return 4 * sum(value.numel() for value in self.program.state_dict.values() if value.is_floating_point())

    @property
    def weight_bytes(self) -> int:
        """Parameters, buffers and constants."""
        values = [*self.program.state_dict.values(), *self.program.constants.values()]
        return sum(value.nbytes for value in values if isinstance(value, Tensor))


def load_source(
    model: Model,
    example_inputs: Any = None,
    weights: str | os.PathLike[str] | None = None,
    input_shape: Sequence[Shape] | None = None,
    name: str | None = None,
    input_dtype: str = "float32",
) -> Source:
    """Take a model in any of its forms.

    model : nn.Module; ExportedProgram; path to a .pt2 or .onnx file; ``"package.module:factory"``.
    example_inputs : the arguments of one call (a tensor, or a tuple of tensors and arrays); by default seeded
        tensors of ``input_shape``, or what the model knows: the inputs stored in an exported program, a method
        ``example_inputs()``, a function ``example_inputs(model)`` beside the factory or the model's class.
    weights : a state_dict file to load into the module first.
    input_shape : one shape a (float32) input.
    input_dtype : "uint8" lets a torch module read the pixels of an image, and its ``preprocessing`` becomes part of it.

    Raises ModelError where the model cannot be found, read, run or exported; InputError for unusable inputs.
    """
    beside: ModuleType | None = None
    label = name or ""
    if isinstance(model, str | os.PathLike):
        text = os.fspath(model)
        if is_factory(text) and not Path(text).exists():
            label = label or text.rpartition(":")[2]
            model, beside = call_factory(text)
        elif ":" in text and not Path(text).suffix and not Path(text).exists():
            raise ModelError(f"{text!r} is neither a file nor package.module:factory; accepted is {ACCEPTED}")
        elif Path(text).suffix.lower() == ONNX_SUFFIX:
            _only_modules_read_pixels(input_dtype)
            return _from_onnx(text, example_inputs, weights, input_shape, _file_name(label or Path(text).stem))
        else:
            label = label or Path(text).stem
            model = open_program(text)
    if isinstance(model, nn.Module):
        return _from_module(
            model,
            example_inputs,
            weights,
            input_shape,
            _file_name(label or type(model).__name__),
            beside,
            input_dtype == "uint8",
        )
    _only_modules_read_pixels(input_dtype)
    if isinstance(model, ExportedProgram):
        return _from_program(model, example_inputs, weights, input_shape, _file_name(label or "model"))
    raise ModelError(
        f"found a {type(model).__name__}; accepted is a torch.nn.Module, a torch.export.ExportedProgram, "
        "the path of a .pt2 or .onnx file, or 'package.module:factory'"
    )


def _only_modules_read_pixels(input_dtype: str) -> None:
    if input_dtype != "float32":
        raise InputError(
            f"found the input dtype {input_dtype} with a program that has its inputs already; it can be chosen where "
            "the model is a torch.nn.Module or package.module:factory"
        )


def parse_shapes(texts: Sequence[str]) -> list[Shape]:
    """``["1,3,512,1024"]`` or ``["1,3,64,64;1,10"]`` as shapes; raises InputError for anything else."""
    shapes = []
    for part in ";".join(texts).split(";"):
        if not re.fullmatch(r"\s*[1-9]\d*(\s*[,x]\s*[1-9]\d*)*\s*", part):
            raise InputError(f"found the shape {part!r}; accepted are positive whole numbers such as 1,3,512,1024")
        shapes.append(tuple(int(extent) for extent in re.split("[,x]", part)))
    return shapes


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", text)


def _from_module(
    module: nn.Module,
    example_inputs: Any,
    weights: str | os.PathLike[str] | None,
    input_shape: Sequence[Shape] | None,
    name: str,
    beside: ModuleType | None,
    of_pixels: bool,
) -> Source:
    notes = [_TRAINED] if module.training else []
    with evaluating(module):
        if weights is not None:
            load_weights(module, weights)
        if example_inputs is not None:
            inputs = tensors(example_inputs)
        elif input_shape is not None:
            inputs = seeded(input_shape)
        else:
            inputs = tensors(_known_inputs(module, name, beside))
        if of_pixels:
            inputs = as_pixels(inputs, module, name)
        with reading_pixels(module) if of_pixels else nullcontext():
            expected = run_once(module, inputs, name)
            program = export(module, inputs, name)
    _check_program(program, name)
    return replace(
        _of_program(program, name, inputs, expected),
        module=module,
        preprocessing=getattr(module, "preprocessing", None),
        class_names=getattr(module, "class_names", None),
        palette=getattr(module, "palette", None),
        notes=notes,
    )


def _from_program(
    program: ExportedProgram,
    example_inputs: Any,
    weights: str | os.PathLike[str] | None,
    input_shape: Sequence[Shape] | None,
    name: str,
) -> Source:
    if weights is not None:
        raise ModelError(
            f"{name} is an exported program, which has its weights; leave out the weights {weights}, or give "
            "package.module:factory as the model"
        )
    _check_program(program, name)
    if example_inputs is not None:
        inputs = tensors(example_inputs)
    elif input_shape is not None:
        inputs = seeded(input_shape)
    elif program.example_inputs is not None and not program.example_inputs[1]:
        inputs = tensors(program.example_inputs[0])
    else:
        inputs = seeded([tuple(value.shape) for value in input_values(program)])
    _check_inputs(program, inputs, name)
    expected = run_once(program.module(), inputs, name)
    return _of_program(program, name, inputs, expected)


def _of_program(program: ExportedProgram, name: str, inputs: tuple[Tensor, ...], expected: Any) -> ProgramSource:
    """The source of a program that gave ``expected`` for the inputs."""
    results, single = _flattened(expected, name)
    return ProgramSource(
        program=program,
        name=name,
        input_names=_input_names(program),
        inputs=inputs,
        expected=results,
        oracle=_ORACLE,
        single=single,
    )


def _from_onnx(
    path: str,
    example_inputs: Any,
    weights: str | os.PathLike[str] | None,
    input_shape: Sequence[Shape] | None,
    name: str,
) -> Source:
    if importlib.util.find_spec("onnx") is None:
        raise ModelError(f"{path} needs the Python package onnx, which is not installed: pip install 'tvm_bnn[onnx]'")
    from tvm_bnn.frontend.onnx_source import load_onnx

    if weights is not None:
        raise ModelError(
            f"{name} is an ONNX model, which has its weights; leave out the weights {weights}, or give "
            "package.module:factory as the model"
        )
    return load_onnx(path, example_inputs, input_shape, name)


def _input_names(program: ExportedProgram) -> tuple[str, ...]:
    return tuple(str(name) for name in program.graph_signature.user_inputs)


def input_values(program: ExportedProgram) -> list[Tensor]:
    """The (fake) tensors that stand for a program's inputs, in order."""
    return [program_value(program, name) for name in program.graph_signature.user_inputs]


def program_value(program: ExportedProgram, name: Any) -> Any:
    """The (fake) value of the node of that name; a constant stands for itself."""
    return next((node.meta.get("val") for node in program.graph.nodes if node.name == name), name)


def _known_inputs(module: nn.Module, name: str, beside: ModuleType | None) -> Any:
    own = getattr(module, "example_inputs", None)
    if callable(own):
        return own()
    home = type(module).__module__
    for place in (beside, sys.modules.get(home), sys.modules.get(home.rpartition(".")[0])):
        function = getattr(place, "example_inputs", None)
        if callable(function):
            return function(module)
    raise InputError(
        f"the shape of {name}'s inputs is not known; give example_inputs (on the command line --input-shape "
        "1,3,512,1024), or the model a method example_inputs()"
    )


def tensors(given: Any) -> tuple[Tensor, ...]:
    """Example inputs as tensors on the CPU; raises InputError for anything else."""
    values = given if isinstance(given, tuple | list) else (given,)
    found = [torch.from_numpy(value) if isinstance(value, np.ndarray) else value for value in values]
    for index, value in enumerate(found):
        if not isinstance(value, Tensor):
            raise InputError(
                f"example input {index} is a {type(value).__name__}; accepted are tensors: let the model take one "
                "tensor an argument"
            )
        if value.device.type != "cpu":
            raise InputError(f"example input {index} is on {value.device}; accepted is the CPU: try .cpu()")
    return tuple(value.detach() for value in found)


def seeded(shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
    """Normally distributed tensors, always the same."""
    generator = torch.Generator().manual_seed(_SEED)
    return tuple(torch.randn(*shape, generator=generator) for shape in shapes)


def _check_inputs(program: ExportedProgram, inputs: tuple[Tensor, ...], name: str) -> None:
    expected = [described(value) for value in input_values(program)]
    found = [described(value) for value in inputs]
    if found != expected:
        raise InputError(
            f"{name} was exported for the inputs {', '.join(expected)}, found {', '.join(found) or 'none'}; "
            "give inputs of these shapes, or export the model again with other ones"
        )


def described(value: Tensor) -> str:
    """``float32 [1, 3, 16, 16]``."""
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _check_program(program: ExportedProgram, name: str) -> None:
    """Refuse arguments that are no tensors."""
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT and not isinstance(program_value(program, spec.arg.name), Tensor):
            raise ModelError(f"{name} has the argument {spec.arg.name}, which is no tensor; only tensors are accepted")


def check_stateless(program: ExportedProgram, name: str) -> None:
    """Refuse a model that changes itself or its inputs, with a ModelError; asked of a decomposed program."""
    kinds = (OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION, OutputKind.USER_INPUT_MUTATION)
    specs = [spec for spec in program.graph_signature.output_specs if spec.kind in kinds]
    changed = [str(spec.target) for spec in specs]
    if any(spec.kind is OutputKind.PARAMETER_MUTATION for spec in specs):
        raise ModelError(f"{name} changes {', '.join(changed[:3])} when it runs; {FREEZE}")
    if changed:
        raise ModelError(
            f"{name} changes {', '.join(changed[:3])} when it runs; a compiled network keeps no state: "
            "leave that update out in eval mode"
        )


def _flattened(returned: Any, name: str) -> tuple[tuple[Tensor, ...], bool]:
    """(the tensors of a result, whether it is a single tensor)."""
    leaves = pytree.tree_leaves(returned)
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise ModelError(f"{name} returns a {type(leaf).__name__}; tensors, alone or in tuples, are accepted")
    return tuple(leaf.detach() for leaf in leaves), isinstance(returned, Tensor)
