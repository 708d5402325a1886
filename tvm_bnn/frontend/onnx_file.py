"""An ONNX file, read and checked."""

import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.inliner import inline_local_functions

from tvm_bnn.errors import ModelError
from tvm_bnn.frontend.user_code import RAISED_BY_USERS, first_line

_ACCEPTED = "a model written by torch.onnx.export, or by QONNX"
#: Domains whose operators are ONNX's own; all other domains hold operators that nobody but their author knows.
STANDARD_DOMAINS = ("", "ai.onnx")


def read_onnx(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The model in a file, its external data loaded and its local functions inlined.

    Raises ModelError for a file that is missing, unreadable or no ONNX model; for one whose external data is missing;
    and for a model that onnx's own checker refuses.
    """
    path = Path(path)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise ModelError(f"{path} {found}; accepted is {_ACCEPTED}")
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise ModelError(f"{path} is no ONNX model, or a damaged one; accepted is {_ACCEPTED}") from error
    # a few bytes of anything parse as a message without contents
    if not (model.ir_version and model.opset_import and model.graph.output):
        raise ModelError(f"{path} is no ONNX model: it has no graph with outputs; accepted is {_ACCEPTED}")
    _load_external(model, path)
    if model.functions:
        model = inline_local_functions(model)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, *RAISED_BY_USERS) as error:
        raise ModelError(
            f"{path} is not a valid ONNX model: {first_line(error)}; export it again (this is onnx {onnx.__version__})"
        ) from error
    return model


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    places = sorted(
        {
            entry.value
            for tensor in model.graph.initializer
            if tensor.data_location == onnx.TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (onnx.checker.ValidationError, *RAISED_BY_USERS) as error:
        raise ModelError(
            f"{path} keeps its weights in {', '.join(places[:3])}, which cannot be read ({first_line(error)}); put "
            "that file beside it, or export again with external_data=False"
        ) from error
