"""How a network on a GPU is launched: as one CUDA graph, but for what reads its inputs and what writes its results.

Launching a kernel takes the processor several microseconds, which a network of small kernels has not; a graph of all of
them is launched at once. It is captured by TVM in the first run, and has the addresses of that run: so all memory
between the kernels is planned when a network is compiled, and stays where it is. Inputs and results are elsewhere in
every run.
"""

import tvm
from tvm.relax.backend.cuda import pipeline as cuda

from tvm_bnn.lower.workspaces import PlanWorkspaces

#: What TVM is told, over BUILD_CONFIG.
CONFIG = {"relax.backend.use_cuda_graph": True}


def pipeline(target: tvm.target.Target) -> tvm.transform.Pass:
    """TVM's passes over a module of scheduled kernels for a GPU, with the memory inside of kernels planned as well."""
    passes = [
        *cuda.library_dispatch_passes(target),
        *cuda.legalize_passes(target),
        PlanWorkspaces(),
        *cuda.dataflow_lower_passes(target),
        *cuda.finalize_passes(target),
    ]
    return tvm.transform.Sequential(passes, name="OneGraph")
