"""Which rule schedules which kernel, in one table; each scheduled function carries the rule's name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_bnn.lower.bounds import bound_sums
from tvm_bnn.lower.in_place import share_memory
from tvm_bnn.schedules import (
    conv,
    conv_pool,
    elementwise,
    few_filters,
    matrix_conv,
    product_pair,
    reduce,
    resize,
    upsampled_conv,
    weighted_mean,
)
from tvm_bnn.schedules.registers import PIPELINE
from tvm_bnn.schedules.tiles import load_configurations

RULE_ATTR = "tvm_bnn.rule"

#: What TVM is told when it builds scheduled kernels. Its own search for common subexpressions may name one inside a
#: branch and read it outside, which LLVM refuses; LLVM finds them itself, at the same speed of the code.
BUILD_CONFIG = {"tirx.disable_cse_tir": True}

#: Kernel family -> template.
RULES: dict[str, Callable[..., str]] = {
    "conv": conv.apply,
    "grouped_conv": conv.apply_grouped,
    "conv_pool": conv_pool.apply,
    "few_filters": few_filters.apply,
    "matrix_conv": matrix_conv.apply,
    "matrix_conv_pair": matrix_conv.apply_pair,
    "product_pair": product_pair.apply,
    "upsampled_conv": upsampled_conv.apply,
    "matrix_upsampled_conv": upsampled_conv.apply_matrix,
    "weighted_mean": weighted_mean.apply,
    "elementwise": elementwise.apply,
    "reduce": reduce.apply,
    "plane_sum": reduce.apply,
    "resize": resize.apply,
    "fixed": lambda sch, target: f"fixed-{target.isa}",  # written out loop by loop where it is defined
}


def machine_code(scheduled: tvm.IRModule, target, config: Mapping[str, Any] = MappingProxyType({})):
    """Machine code of a scheduled module.

    config : what else TVM is told, over BUILD_CONFIG.
    """
    with tvm.transform.PassContext(config={**BUILD_CONFIG, **config}):
        return tvm.compile(scheduled, target=target.tvm(), tir_pipeline=PIPELINE)


def schedule_function(func: tirx.PrimFunc, family: str, target) -> tirx.PrimFunc:
    """One kernel with its family's template applied, stamped with the rule's name."""
    sch = Schedule(tvm.IRModule({"main": func}))
    rule = RULES[family](sch, target)
    scheduled = share_memory(load_configurations(bound_sums(sch.mod["main"])))
    return scheduled.with_attr(RULE_ATTR, rule).with_attr("tirx.is_scheduled", True)


def schedule_module(module: tvm.IRModule, family_of: dict[str, str], target) -> tvm.IRModule:
    """Schedule every kernel that has a family; others are left to TVM."""
    scheduled = module.clone()
    for name, family in family_of.items():
        var = module.get_global_var(name)
        scheduled.update_func(var, schedule_function(module[var], family, target))
    return scheduled
