"""What the compile command says at its end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tvm_bnn import explain
from tvm_bnn.compiler import Compilation
from tvm_bnn.lower.matrix import multiplies_bfloat16
from tvm_bnn.stages import PassTime
from tvm_bnn.targets import Target

#: So many float layers, or layers with a chosen sign(0), are named.
LISTED = 8
#: Passes below this are left out of the list of times, in seconds.
_NOTABLE = 0.001
#: Columns of a screen that is wide enough for any table.
_UNBOUNDED = 100_000


def report(made: Compilation, output: Path, seconds: Mapping[str, float]) -> dict[str, Any]:
    """All that the summary tells, as plain data: the content of --json, described in docs/explain.md."""
    size = output.stat().st_size
    return {
        "version": explain.VERSION,
        "model": made.source.name,
        "target": made.target.manifest(),
        "artifact": str(output),
        "totals": {
            **explain.totals(made.artifact.explain()),
            "artifact_bytes": size,
            "float32_weight_bytes": made.source.float_bytes,
        },
        "guessed_signs": list(made.decisions.guessed_signs),
        "mixed_signs": list(made.decisions.mixed_signs),
        "kept_zeros": list(made.decisions.kept_zeros),
        "zero_weights": list(made.decisions.zero_weights),
        "float_precision": made.float_precision,
        "calibrated": made.calibrated,
        "check": made.artifact.manifest["check"],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "layers": made.artifact.explain(),
    }


def write_json(path: str | os.PathLike[str], made: Compilation, output: Path, seconds: Mapping[str, float]) -> None:
    """Write the report, whole or not at all; raises OutputError."""
    explain.write_json(path, report(made, output, seconds))


def print_rows(console: Console, made: Compilation) -> None:
    """The table of --explain."""
    print_table(console, explain.table(made.artifact.explain()))


def print_table(console: Console, shown: Table) -> None:
    """A table with one line a row, whatever the width of the screen."""
    # rich never prints beyond its console's width
    wide = Console(file=console.file, highlight=False, markup=False, width=_UNBOUNDED)
    wide.width = max(console.width, wide.measure(shown).maximum)
    wide.print(shown, crop=False)


def print_passes(console: Console, seconds: Mapping[str, float], times: Sequence[PassTime]) -> None:
    """The tables of --time-passes: phases, then passes, nested ones indented."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("phase or pass")
    shown.add_column("ms", justify="right")
    for name, value in seconds.items():
        shown.add_row(name, f"{1e3 * value:.1f}")
    for record in times:
        if record.seconds >= _NOTABLE:
            shown.add_row("  " * (record.depth + 1) + record.name, f"{1e3 * record.seconds:.1f}")
    console.print(shown)


def print_summary(
    console: Console, made: Compilation, output: Path, seconds: Mapping[str, float], sign_zero: str = "plus"
) -> None:
    """The lines at the end."""
    content = report(made, output, seconds)
    threads = made.target.threads
    console.print(f"{made.source.name} for {made.target.name}, {threads} thread{'s' if threads > 1 else ''}")
    for line in _lines(content, sign_zero, _precision(made)):
        console.print(f"  {line}")
    for note in made.source.notes:
        console.print(f"  note: {note}")
    console.print(f"written to {output}")


def _precision(made: Compilation) -> Iterable[str]:
    """What float layers compute in, where that is not fp32 alone."""
    if made.float_precision == "fp32":
        return
    layers = [layer for layer in made.decisions.layers if layer.decision == "float"]
    lowered = [layer.path for layer in layers if layer.precision != "fp32"]
    source = ""
    if made.float_precision == "int8" and lowered:
        count = made.calibrated
        given = f"{count} input{'s' if count > 1 else ''}" if count else "the example input"
        source = f"; ranges from {given}"
    yield f"{made.float_precision:18} {_listed(lowered) if lowered else 'no layer'}{source}"
    if not _multiplies(made.float_precision, made.target):
        yield f"{made.float_precision} is only rounded to here: this target multiplies in fp32, so it saves no time"
    for layer in layers:
        if layer.stays_fp32:
            yield f"fp32: {layer.path} ({layer.op}): {layer.stays_fp32}"


def _multiplies(precision: str, target: Target) -> bool:
    """Whether a target has products of numbers that are rounded so."""
    if precision == "int8":
        return True
    if target.gpu is not None:
        return target.gpu.product_of(precision) is not None
    return precision == "bf16" and multiplies_bfloat16(target)


def _lines(content: Mapping[str, Any], sign_zero: str, precision: Iterable[str]) -> Iterable[str]:
    totals, tuned = content["totals"], sum(row["tuned"] for row in content["layers"])
    yield f"convolutions       {totals['convolutions_binary']} binary, {totals['convolutions_float']} float"
    if totals["products_binary"] or totals["products_float"]:
        yield f"linear and matmul  {totals['products_binary']} binary, {totals['products_float']} float"
    yield f"multiply-adds      {_amount(totals['macs'])}, {100 * totals['binary_share']:.1f} % of them binary"
    yield from precision
    yield from _float_layers([row for row in content["layers"] if row["decision"] == "float"])
    if not totals["convolutions_binary"] + totals["products_binary"]:
        yield "warning: nothing in this network is binary; the reasons above say what stands in the way"
    yield from _zeros(content, sign_zero)
    if tuned:
        yield f"tuned              {tuned} of {len(content['layers'])} layers; --explain says which"
    file, floats = totals["artifact_bytes"], totals["float32_weight_bytes"]
    ratio = f", {floats / file:.1f} times smaller" if floats > file else ""
    yield f"file               {_size(file)}; the weights in float32 are {_size(floats)}{ratio}"
    yield from _check(content["check"])
    phases = ", ".join(f"{name} {value:.1f}" for name, value in content["seconds"].items() if value >= 0.05)
    yield f"time               {sum(content['seconds'].values()):.1f} s ({phases})"


def _zeros(content: Mapping[str, Any], sign_zero: str) -> Iterable[str]:
    """What became of exact zeros, which have no sign."""
    guessed = content["guessed_signs"]
    if guessed:
        level = "+1" if sign_zero == "plus" else "-1"
        yield f"sign(0) is taken as {level} in {_listed(guessed)} (torch.sign gives 0; see --sign-zero)"
        if content["mixed_signs"]:
            yield f"binary layers see that; what else reads the sign sees 0, in {_listed(content['mixed_signs'])}"
        counted = content["check"].get("exact_zeros", [])
        if counted:
            zeros, elements = (sum(record[key] for record in counted) for key in ("zeros", "elements"))
            places = [f"{record['path']} ({record['zeros']:,})" for record in counted if record["zeros"]]
            where = f": {_listed(places)}" if places else ""
            yield f"exact zeros there   {zeros:,} of {elements:,} elements on the example input{where}"
    if content["kept_zeros"]:
        yield f"exact zeros are kept as a third level in {_listed(content['kept_zeros'])}"
    if content["zero_weights"]:
        yield f"weights that are exactly 0 stay 0 in {_listed(content['zero_weights'])}"


def _float_layers(layers: Sequence[explain.Row]) -> Iterable[str]:
    for row in layers[:LISTED]:
        advice = f"; {row['advice']}" if row["advice"] else ""
        yield f"float: {row['path']} ({row['op']}): {row['reason']}{advice}"
    if len(layers) > LISTED:
        yield f"float: {len(layers) - LISTED} more; --explain lists them"


def _check(check: Mapping[str, Any]) -> Iterable[str]:
    if not check:
        yield "check              not run: this machine cannot run code for that target"
        return
    for index, output in enumerate(check["outputs"]):
        of = f"output {index}: " if len(check["outputs"]) > 1 else ""
        if "agreement" in output:
            differing = round((1 - output["agreement"]) * output["elements"])
            found = f"{100 * output['agreement']:.4f} % of {output['elements']} elements equal, {differing} differ"
        else:
            found = f"largest difference {output['max_abs']:.3g}, {output['max_rel']:.2g} of the largest value"
        yield f"{'against ' + check['compared_with'].split()[0]:18} {of}{found}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _amount(macs: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if macs >= size:
            return f"{macs / size:.2f} {unit}MAC"
    return f"{macs} MAC"
