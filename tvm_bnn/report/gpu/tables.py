"""What the reports of a GPU show on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from tvm_bnn.report.gpu.ceilings import Ceilings
from tvm_bnn.report.machine import MB
from tvm_bnn.report.rows import OURS
from tvm_bnn.report.tables import GIGA, SAME, TERA, Row, ms, peer_cell, refused


def machine(described: Mapping[str, Any]) -> str:
    """The GPU in a line."""
    parts = [
        f"compute capability {described['compute_capability']}",
        f"{described['multiprocessors']} multiprocessors",
        f"L2 {described['l2_bytes'] / MB:.0f} MB",
        f"CUDA {described['cuda']}",
        *(f"{name} {value}" for name, value in described["nvidia_smi"].items()),
        *(f"{name} {value}" for name, value in described["versions"].items()),
    ]
    return f"{described['device']} ({described['target']}): {', '.join(parts)}"


def ceilings(measured: Ceilings) -> Table:
    """One line per instruction, and per size of what is copied."""
    table = Table(title="ceilings, measured on the device", title_justify="left")
    for head in ("what", "rate", "spread", "blocks a multiprocessor", ""):
        table.add_column(head, justify="left" if head in ("what", "") else "right", no_wrap=head == "what")
    best = measured.best_bits[0]
    for name, rate in measured.bits.items():
        shown = f"{rate.per_s / TERA:.1f} binary Tmac/s", f"{rate.spread:.1%}", str(rate.blocks)
        table.add_row(name, *shown, "best: what rows are shares of" if name == best else "")
    for name, rate in measured.halves.items():
        table.add_row(name, f"{rate.per_s / TERA:.1f} Tmac/s", f"{rate.spread:.1%}", str(rate.blocks), "")
    for size, rate in measured.copy.items():
        shown = f"{rate.per_s / GIGA:.0f} GB/s", f"{rate.spread:.1%}", str(rate.blocks)
        table.add_row(f"copy of {size // MB} MB", *shown, "")
    return table


def rows(measured: Sequence[Row], peers: Sequence[str]) -> Table:
    """One line per row: milliseconds, shares of the ceiling and of the limit, each peer with the ratio to it."""
    table = Table(title="medians in ms; in brackets: how many times tvm_bnn is faster", title_justify="left")
    for head in ("row", OURS, "its spread", "of b1 ceiling", "limit", "of limit", *peers, "widest spread"):
        table.add_column(head, justify="left" if head == "row" else "right", no_wrap=head == "row")
    for row in measured:
        table.add_row(
            row["name"],
            ms(row["ours_ms"]),
            f"{row['ours_spread']:.0%}",
            "-" if row["b1_fraction"] is None else f"{row['b1_fraction']:.1%}",
            ms(row["limit_ms"]),
            f"{row['ceiling_fraction']:.0%}",
            *(peer_cell(row, peer) for peer in peers),
            f"{row['spread']:.0%}",
        )
    return table


def notes(measured: Sequence[Row], missing: Mapping[str, str]) -> list[str]:
    """What a reader must know beside the table: missing peers, refused ratios, other results."""
    found = [f"left out: {name}: {reason}" for name, reason in missing.items()]
    for row in measured:
        found += [f"{row['name']}: left out: {name}: {reason}" for name, reason in row["left_out"].items()]
        found += [f"{row['name']}: {OURS} was launched {row['launched']}"] if row.get("launched") else []
        found += refused(row, row["name"])
        if row["b1_fraction"] is None:
            found.append(f"{row['name']}: no share of the b1 ceiling, since its times, or ours, spread too far")
        for output in row.get("check", {}).get("outputs", []):
            if output.get("agreement", 1.0) < SAME:
                found.append(f"{row['name']}: {OURS} agrees with PyTorch in {output['agreement']:.1%} of the pixels")
    return found
