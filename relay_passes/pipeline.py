"""The passes in order: this list is the road of a model between import and lowering."""

import tvm
from tvm import relax

from tvm_bnn.relay_passes.convert_binary import ConvertBinary, Decisions
from tvm_bnn.relay_passes.decompose_batch_norm import DecomposeBatchNorm
from tvm_bnn.relay_passes.decompose_cubic import DecomposeCubic
from tvm_bnn.relay_passes.drop_residue import DropResidue
from tvm_bnn.relay_passes.fold_affine import FoldAffine
from tvm_bnn.relay_passes.fold_constants import FoldConstants
from tvm_bnn.relay_passes.fold_predicates import FoldPredicates
from tvm_bnn.relay_passes.hoist_bits import HoistBits
from tvm_bnn.relay_passes.hoist_upsample import HoistUpsample
from tvm_bnn.relay_passes.order_channels import OrderChannels
from tvm_bnn.relay_passes.simplify_views import SimplifyViews
from tvm_bnn.relay_passes.sink_views import SinkViews
from tvm_bnn.relay_passes.split_plane_sums import SplitPlaneSums
from tvm_bnn.relay_passes.weigh_values import WeighValues


def passes(decisions: Decisions, sign_zero: str = "plus") -> list[tvm.ir.transform.Pass]:
    """All graph passes; ``decisions`` receives a record per convolution, linear layer and matmul."""
    return [
        # Canonicalize: one spelling
        relax.transform.CanonicalizeBindings(),
        DropResidue(),
        FoldConstants(),
        SimplifyViews(),
        # Convert: prove and replace
        ConvertBinary(decisions, sign_zero),
        WeighValues(decisions),
        # Hoist and fold: bits travel, tests of integers, one affine map behind a convolution
        HoistBits(),
        OrderChannels(),
        SinkViews(),
        FoldPredicates(decisions),
        relax.transform.EliminateCommonSubexpr(),
        DecomposeBatchNorm(),
        DecomposeCubic(),
        FoldAffine(),
        HoistUpsample(),
        FoldAffine(),
        FoldConstants(),
        SplitPlaneSums(),
        relax.transform.DeadCodeElimination(),
    ]


def optimize(module: tvm.IRModule, decisions: Decisions, sign_zero: str = "plus") -> tvm.IRModule:
    """Run the pipeline on an imported module."""
    return tvm.ir.transform.Sequential(passes(decisions, sign_zero))(module)
