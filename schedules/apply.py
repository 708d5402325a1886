"""Which rule schedules which kernel, in one table; each scheduled function carries the rule's name."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.transform import LowerCrossThreadReduction

from tvm_bnn.lower.bounds import bound_sums
from tvm_bnn.lower.in_place import share_memory
from tvm_bnn.lower.steps_of_sums import fused_steps
from tvm_bnn.schedules import (
    conv,
    conv_pool,
    cuda_arithmetic,
    elementwise,
    few_filters,
    masked_conv,
    matrix_conv,
    product_pair,
    reduce,
    resize,
    tensor_conv,
    threads,
    upsampled_conv,
    weighted_mean,
)
from tvm_bnn.schedules.ballot import gather_by_ballots
from tvm_bnn.schedules.decide import Decide, DecisionError, Given, by_default
from tvm_bnn.schedules.divided_indices import with_hidden_divisions
from tvm_bnn.schedules.registers import PIPELINE
from tvm_bnn.schedules.tiles import load_configurations

cuda_arithmetic.register()

RULE_ATTR = "tvm_bnn.rule"
TUNED_ATTR = "tvm_bnn.tuned"

#: What TVM is told when it builds scheduled kernels. Its own search for common subexpressions may name one inside a
#: branch and read it outside, which LLVM refuses; LLVM finds them itself, at the same speed of the code.
BUILD_CONFIG = {"tirx.disable_cse_tir": True}

Template = Callable[[Schedule, Any, Decide], str]


def _settled(apply: Callable[[Schedule, Any], str]) -> Template:
    """A template that has nothing to decide."""
    return lambda sch, target, decide: apply(sch, target)


#: Kernel family -> template.
RULES: dict[str, Template] = {
    "conv": conv.apply,
    "grouped_conv": conv.apply_grouped,
    "conv_pool": conv_pool.apply,
    "few_filters": few_filters.apply,
    "masked_conv": masked_conv.apply,
    "matrix_masked_conv": masked_conv.apply_matrix,
    "matrix_conv": matrix_conv.apply,
    "matrix_conv_pair": matrix_conv.apply_pair,
    "product_pair": product_pair.apply,
    "upsampled_conv": upsampled_conv.apply,
    "matrix_upsampled_conv": upsampled_conv.apply_matrix,
    "weighted_mean": weighted_mean.apply,
    "elementwise": _settled(elementwise.apply),
    "reduce": _settled(reduce.apply),
    "plane_sum": _settled(reduce.apply),
    "resize": _settled(resize.apply),
    "fixed": _settled(lambda sch, target: f"fixed-{target.isa}"),  # written out loop by loop where it is defined
}

#: The same of a GPU; families that are not here have no kernels there.
GPU_RULES: dict[str, Template] = {
    "conv": _settled(threads.apply_conv),
    "grouped_conv": _settled(threads.apply_conv),
    "tensor_conv": tensor_conv.apply,
    "elementwise": _settled(threads.apply),
    "reduce": _settled(threads.apply),
    "plane_sum": _settled(threads.apply),
    "resize": _settled(threads.apply),
    "weighted_mean": _settled(threads.apply),
}


def machine_code(scheduled: tvm.IRModule, target, config: Mapping[str, Any] = MappingProxyType({})):
    """Machine code of a scheduled module.

    config : what else TVM is told, over BUILD_CONFIG.
    """
    with tvm.transform.PassContext(config={**BUILD_CONFIG, **config}):
        return tvm.compile(scheduled, target=target.tvm(), tir_pipeline=PIPELINE)


def workload_of(func: tirx.PrimFunc) -> str:
    """What tuning records call a kernel: a hash of it before it is scheduled, the same in every process."""
    return f"{tvm_ffi.structural_hash(func.without_attr('global_symbol')) & (2**64 - 1):016x}"


def schedule_function(func: tirx.PrimFunc, family: str, target, decide: Decide = by_default) -> tirx.PrimFunc:
    """One kernel with its family's template applied, stamped with the rule's name."""
    sch = Schedule(tvm.IRModule({"main": func}))
    rule = (RULES if target.gpu is None else GPU_RULES)[family](sch, target, decide)
    scheduled = sch.mod["main"]
    if target.gpu is not None:  # while they are sums still: those that threads take together
        scheduled = LowerCrossThreadReduction()(tvm.IRModule({"main": gather_by_ballots(scheduled)}))["main"]
        scheduled = with_hidden_divisions(scheduled)
    scheduled = share_memory(load_configurations(bound_sums(scheduled)))
    if target.gpu is None:
        scheduled = fused_steps(scheduled, target)
    return scheduled.with_attr(RULE_ATTR, rule).with_attr("tirx.is_scheduled", True)


def define_module(module: tvm.IRModule, family_of: Iterable[str]) -> tvm.IRModule:
    """Kernels as they are defined, loop after loop, none in place: slow, and what every schedule has to equal."""
    defined = module.clone()
    for name in family_of:
        defined.update_func(module.get_global_var(name), module[name].with_attr("tirx.is_scheduled", True))
    return defined


def schedule_module(
    module: tvm.IRModule,
    family_of: Mapping[str, str],
    target,
    decisions: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> tvm.IRModule:
    """Schedule every kernel that has a family; others are left to TVM.

    decisions : workload -> name -> value, of those that are not to be the templates' own; see `decide.Given`. A kernel
    that is scheduled so bears TUNED_ATTR. Those that a template does not offer are passed over.
    """
    scheduled = module.clone()
    for name, family in family_of.items():
        var = module.get_global_var(name)
        chosen = decisions.get(workload_of(module[var])) if decisions else None
        scheduled.update_func(var, _scheduled(module[var], family, target, chosen))
    return scheduled


def _scheduled(func: tirx.PrimFunc, family: str, target, chosen: Mapping[str, Any] | None) -> tirx.PrimFunc:
    if chosen:
        try:
            return schedule_function(func, family, target, Given(chosen)).with_attr(TUNED_ATTR, 1)
        except DecisionError:
            pass  # of a template that has changed since
    return schedule_function(func, family, target)
