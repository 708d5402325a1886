"""Whatever a template offers is right: random decisions against the kernels' definitions, bit for bit."""

import random
from typing import Any

import pytest

from tvm_bnn.frontend.source import load_source
from tvm_bnn.report.networks import ding2024
from tvm_bnn.targets import resolve
from tvm_bnn.tuning import worker
from tvm_bnn.tuning.space import Space
from tvm_bnn.tuning.tasks import tasks_of

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "nearest, this machine": ({"branches": 2}, "llvm"),
    "nearest, popcounts": ({"branches": 2}, "llvm -mcpu=x86-64-v4 -mattr=+avx512vpopcntdq"),
    "transposed, tables": ({"upsampling": "transposed", "attention": "token"}, "llvm -mcpu=x86-64-v3"),
}
DRAWS = 3


@pytest.mark.parametrize(("kinds", "target"), CASES.values(), ids=CASES)
def test_random_decisions_are_right(target, kinds, tmp_path):
    resolved, here = resolve(target, threads=2), resolve("llvm", threads=2)
    if not resolved.native:
        pytest.skip(f"this machine cannot run code for {target}")
    if target != "llvm" and (resolved.isa, resolved.popcount) == (here.isa, here.popcount):
        pytest.skip("this machine's own code is of that kind")
    model, _, inputs = ding2024("3x3", (64, 96), **kinds).make()
    tasks = tasks_of(load_source(model, inputs), resolved, tmp_path)
    worker.connect(worker.Place(), resolved.threads)
    drawn = 0
    for task in {task.family: task for task in tasks}.values():
        space = Space(task.kernel, task.family, resolved, random.Random(task.workload))
        candidates = [space.default, *(space.draw() for _ in range(DRAWS))]
        functions = {f"f{i}": each.function for i, each in enumerate(candidates) if each is not None}
        library = tmp_path / f"{task.workload}.so"
        worker.build(functions, resolved, library)
        worker.measure(worker.Job(library, task.data, tuple(functions), repeats=0))
        drawn += len(functions) - 1
    assert drawn >= DRAWS, "the templates of these networks have something to decide"
