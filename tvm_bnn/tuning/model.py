"""A cost model of a kernel's candidates: MetaSchedule's features of code, learned from by XGBoost."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvm_bnn.errors import InputError
from tvm_bnn.targets import Target

#: So many measured candidates before the model says anything.
WARM_UP = 6
_INTRINSICS = "tvm.s_tir.tensor_intrin"


class CostModel:
    """Ranks candidates of one kernel; better ones have higher scores."""

    def __init__(self, kernel: tirx.PrimFunc, target: Target) -> None:
        with _without_intrinsics():
            from tvm.s_tir import meta_schedule as ms

            self._ms = ms
            self._module = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
            self._context = ms.TuneContext(mod=self._module, target=target.tvm(), task_name="kernel")
        self._arguments = ms.arg_info.ArgInfo.from_entry_func(self._module, remove_preproc=True)
        try:
            features = ms.feature_extractor.PerStoreFeature()
            self._model = ms.cost_model.XGBModel(extractor=features, num_warmup_samples=WARM_UP)
        except ImportError as error:
            raise InputError(f"tuning needs the package {error.name}; try: pip install 'tvm_bnn[tune]'") from None

    def update(self, functions: Sequence[tirx.PrimFunc], costs: Sequence[float]) -> None:
        """Learn from candidates that were measured; infinite costs are of those that failed."""
        results = [
            self._ms.runner.RunnerResult([cost], None)
            if np.isfinite(cost)
            else self._ms.runner.RunnerResult(None, "failed")
            for cost in costs
        ]
        self._model.update(self._context, self._candidates(functions), results)

    def scores(self, functions: Sequence[tirx.PrimFunc]) -> np.ndarray:
        """One number for each candidate."""
        return np.asarray(self._model.predict(self._context, self._candidates(functions)))

    def _candidates(self, functions: Sequence[tirx.PrimFunc]) -> list:
        return [
            self._ms.MeasureCandidate(Schedule(tvm.IRModule({"main": function})), self._arguments)
            for function in functions
        ]


@contextmanager
def _without_intrinsics() -> Iterator[None]:
    """Spare the 14 s in which MetaSchedule would parse intrinsics of TVM's that no template of ours uses."""
    if _INTRINSICS in sys.modules:
        yield
        return
    sys.modules[_INTRINSICS] = types.ModuleType(_INTRINSICS)
    try:
        yield
    finally:
        del sys.modules[_INTRINSICS]
