"""The inner loop of a kernel, cut from its assembly, and how many cycles LLVM's model of a processor gives it.

`llvm-mca` knows pipelines and latencies, no caches: a figure for the order of instructions, not a measurement.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from tvm_bnn.errors import InputError
from tvm_bnn.targets import Target

#: Debian's names bear the version.
_NAMES = ("llvm-mca", *(f"llvm-mca-{version}" for version in range(30, 13, -1)))
_ITERATIONS = 100
_LABEL = re.compile(r"^(\.L\w+):")
_BRANCH = re.compile(r"^\t(?:b\.\w+|b[a-z]{0,2}|cbn?z|tbn?z)\t(?:.*, )?(\.L\w+)$")
_CODE = re.compile(r"^\t[a-z]")


def inner_loop(assembly: str, mnemonic: str) -> list[str]:
    """The instructions of the innermost loop that has most of one mnemonic; empty where no loop has any.

    assembly : of Arm, 32 or 64 bits, as LLVM prints it.
    """
    lines = [re.split("//|@", line)[0].rstrip() for line in assembly.splitlines()]
    begins = {found.group(1): place for place, line in enumerate(lines) if (found := _LABEL.match(line))}
    loops = []
    for end, line in enumerate(lines):
        branch = _BRANCH.match(line)
        begin = begins.get(branch.group(1), end) if branch else end
        if begin < end:
            loops.append((begin, end))
    innermost = [
        (begin, end)
        for begin, end in loops
        if not any((begin, end) != other and begin <= other[0] and other[1] <= end for other in loops)
    ]
    bodies = [[line for line in lines[begin:end + 1] if _CODE.match(line)] for begin, end in innermost]
    best = max(bodies, key=lambda body: count(body, mnemonic), default=[])
    return best if count(best, mnemonic) else []


def count(instructions: Sequence[str], mnemonic: str) -> int:
    """How many instructions are of a mnemonic."""
    return sum(line.split()[0] == mnemonic for line in instructions)


def mca() -> str:
    """The name of llvm-mca here; raises InputError where there is none."""
    found = next((name for name in _NAMES if shutil.which(name)), None)
    if found is None:
        raise InputError("no llvm-mca here; try: apt-get install llvm")
    return found


def cycles(instructions: Sequence[str], target: Target) -> float:
    """Cycles of an iteration of a loop on the target's processor; raises InputError where llvm-mca does not know it."""
    options = [f"-mtriple={target.triple}", f"-mcpu={target.cpu}", f"-iterations={_ITERATIONS}"]
    text = "\n".join(instructions)
    done = subprocess.run([mca(), *options], input=text, capture_output=True, text=True, errors="replace", check=False)
    total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if done.returncode or total is None:
        said = done.stderr.strip().splitlines() or ["it says nothing"]
        raise InputError(f"llvm-mca cannot read the loop for {target.cpu}: {said[0]}")
    return int(total.group(1)) / _ITERATIONS
