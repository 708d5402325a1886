"""From a PyTorch or ONNX model to a Relax module whose calls remember the layer they came from."""

from tvm_bnn.frontend.importer import Imported, import_program
from tvm_bnn.frontend.source import Source, load_source

__all__ = ["Imported", "Source", "import_program", "load_source"]
