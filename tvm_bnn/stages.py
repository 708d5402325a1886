"""Watch a compilation: what each pass costs, and the module after each stage and pass in a numbered file."""

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm.ir.instrument import pass_instrument

from tvm_bnn.errors import OutputError

Detail = Callable[[str], None]


@dataclass(frozen=True)
class PassTime:
    """One run of one pass: its name, how deep it is nested in others, and its seconds (nested ones included)."""

    name: str
    depth: int
    seconds: float


class Stages:
    """Numbered dumps and times of all that happens to a module.

    dump_ir : folder that receives ``000_import.py``, ``001_CanonicalizeBindings.py`` and so on; None for no files.
    times : one record per pass that has run, in the order of their beginning.

    ``with stages.watched(detail): ...`` watches the passes that run inside. (The instrument is TVM's interface; TVM's
    own DumpIR counts for itself, knows no stage that is not a pass, and goes on when a file cannot be written.)
    """

    def __init__(self, dump_ir: str | os.PathLike[str] | None = None) -> None:
        self.folder = None if dump_ir is None else Path(dump_ir)
        self.times: list[PassTime] = []
        self._written = 0

    def watched(
        self, detail: Detail | None = None, config: Mapping[str, Any] | None = None
    ) -> tvm.transform.PassContext:
        """A context, with TVM's options in ``config``, whose passes are timed, dumped, and named to ``detail``."""
        return tvm.transform.PassContext(
            config=dict(config or {}), instruments=[_Watch(self, detail or (lambda _: None))]
        )

    def dump(self, name: str, module: tvm.IRModule) -> None:
        """Write a module under the next number; raises OutputError where that fails."""
        if self.folder is None:
            return
        path = self.folder / f"{self._written:03d}_{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.py"
        self._written += 1
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(module.script(), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; try another folder for --dump-ir") from error


@pass_instrument
class _Watch:
    """The instrument: TVM calls it before and after each pass."""

    def __init__(self, stages: Stages, detail: Detail) -> None:
        self.stages = stages
        self.detail = detail
        self.running: list[tuple[int, float]] = []

    def run_before_pass(self, _module: tvm.IRModule, info: Any) -> None:
        self.detail(info.name)
        self.running.append((len(self.stages.times), time.perf_counter()))
        self.stages.times.append(PassTime(info.name, len(self.running) - 1, 0.0))

    def run_after_pass(self, module: tvm.IRModule, info: Any) -> None:
        index, start = self.running.pop()
        self.stages.times[index] = PassTime(info.name, len(self.running), time.perf_counter() - start)
        self.stages.dump(info.name, module)
