"""What the report shows on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from tvm_bnn.report.limit import WORD
from tvm_bnn.report.rows import OURS
from tvm_bnn.report.timing import MAX_SPREAD

Row = Mapping[str, Any]

TERA, GIGA, MEGA = 1e12, 1e9, 1e6
#: What several threads gain at least where they have cores of their own.
NO_GAIN = 1.1
#: Share of pixels with PyTorch's class below which a competitor's share is shown.
SAME = 0.99


def machine(described: Mapping[str, Any]) -> Table:
    """The limits of this machine, one row per number of threads; see `tvm_bnn.report.machine.describe`."""
    rows = described["limits"]
    sizes = list(next(iter(rows.values()))["copy_bytes_per_s"])
    table = Table(
        title=f"{described['cpu']} ({described['target']}), {described['cpus']} CPUs: limits", title_justify="left"
    )
    heads = ["threads", "binary Tmac/s", "fp32 Gmac/s", "int8 Gmac/s", "int8 tiles Gmac/s"]
    heads += [f"copy {size} MB GB/s" for size in sizes]
    for head in heads:
        table.add_column(head, justify="right")
    for threads, row in rows.items():
        table.add_row(
            threads,
            f"{row['binary_macs_per_s'] / TERA:.3f}",
            f"{row['fp32_macs_per_s'] / GIGA:.1f}",
            _rate(row["int8_macs_per_s"]),
            _rate(row["int8_tile_macs_per_s"]),
            *(f"{row['copy_bytes_per_s'][size] / GIGA:.0f}" for size in sizes),
        )
    return table


def _rate(value: float | None) -> str:
    """Of what not every processor has."""
    return "-" if value is None else f"{value / GIGA:.0f}"


def rows(measured: Sequence[Row], peers: Sequence[str]) -> Table:
    """One line per row: milliseconds, the share of the limit, and each peer with how many times ours is faster."""
    taps = any(row.get("valid_taps") is not None for row in measured)
    table = Table(title="medians in ms; in brackets: how many times tvm_bnn is faster", title_justify="left")
    scaled = any(row["scaling"] is not None for row in measured)
    extra = [*(["valid taps"] if taps else []), *(["scaling"] if scaled else [])]
    for head in ("row", "threads", OURS, "limit", "of limit", *extra, *peers, "spread"):
        table.add_column(head, justify="left" if head == "row" else "right", no_wrap=head == "row")
    for row in measured:
        table.add_row(
            row["name"],
            str(row["threads"]),
            ms(row["ours_ms"]),
            ms(row["limit_ms"]),
            f"{row['ceiling_fraction']:.0%}",
            *(["-" if row["valid_taps"] is None else f"{row['valid_taps']:.0%}"] if taps else []),
            *(["-" if row["scaling"] is None else f"{row['scaling']:.2f}x"] if scaled else []),
            *(peer_cell(row, peer) for peer in peers),
            f"{row['spread']:.0%}",
        )
    return table


def ms(value: float) -> str:
    """Milliseconds; kernels take microseconds."""
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def peer_cell(row: Row, peer: str) -> str:
    """A peer's time, and how many times ours is faster."""
    if peer not in row["peers"]:
        return "-"
    ratio = row["ratios"][peer]
    once = ", once" if row["repetitions"][peer] == 1 < row["rounds"] else ""
    return f"{ms(row['peers'][peer])} ({'no ratio' if ratio is None else f'{ratio:.2f}x'}{once})"


def memory(measured: Sequence[Row], peers: Sequence[str]) -> Table:
    """One line per network: peak memory of an inference in MB, the artifact's size, and the seconds to compile it."""
    names = [OURS, *(peer for peer in peers if any(peer in row["memory_mb"] for row in measured))]
    table = Table(
        title="peak memory of an inference in MB (in brackets: rise in later ones), and what compiling gives",
        title_justify="left",
    )
    for head in ("row", "threads", *names, "artifact MB", "weights MB", "compiled in s"):
        table.add_column(head, justify="left" if head == "row" else "right", no_wrap=head == "row")
    for row in measured:
        table.add_row(
            row["name"],
            str(row["threads"]),
            *(_memory(row, name) for name in names),
            f"{row['artifact_bytes'] / MEGA:.2f}",
            f"{row['weight_bytes'] / MEGA:.2f}",
            f"{row['compile_s']:.1f}",
        )
    return table


def _memory(row: Row, name: str) -> str:
    return f"{row['memory_mb'][name]:.0f} ({row['growth_mb'][name]:.1f})" if name in row["memory_mb"] else "-"


def _operations(row: Row) -> str:
    """How many operations ours and the float twin take, which says less than their times."""
    ours = row["float_macs"] + row["binary_macs"] / WORD
    return (
        f"{row['name']}: {row['binary_macs'] / GIGA:.2f} G binary and {row['float_macs'] / GIGA:.2f} G float MACs; the "
        f"float twin {row['twin_macs'] / GIGA:.2f} G float MACs, {row['twin_macs'] / ours:.0f} times as many if "
        f"{WORD} binary ones are one"
    )


def notes(measured: Sequence[Row], missing: Mapping[str, str]) -> list[str]:
    """What a reader must know beside the table: missing peers, refused ratios, other results."""
    found = [f"left out: {name}: {reason}" for name, reason in missing.items()]
    narrow = list(dict.fromkeys(row["name"] for row in measured if row["bound"] == "bandwidth"))
    if narrow:
        found.append(f"bound by bandwidth rather than by arithmetic: {', '.join(narrow)}")
    ran_on = {name: text for row in measured for name, text in row.get("ran_on", {}).items()}
    found += [f"{name} ran its convolutions on {text}" for name, text in ran_on.items()]
    found += list(dict.fromkeys(_operations(row) for row in measured if row.get("twin_macs")))
    for row in measured:
        where = f"{row['name']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}"
        found += [f"{where}: left out: {name}: {reason}" for name, reason in row.get("left_out", {}).items()]
        if row["threads"] > 1 and row["scaling"] is None:
            found.append(f"{where}: how it scales is not known, since times spread too far")
        elif row["scaling"] is not None and row["scaling"] < NO_GAIN:
            found.append(
                f"{where}: {row['scaling']:.2f}x as fast as one thread: its threads shared a core, if other programs "
                "ran on this machine; the row then says nothing of several threads"
            )
        found += refused(row, where)
        for name, share in row.get("agreement", {}).items():
            itself = f"; PyTorch with itself, oneDNN off, in {row['pytorch_agreement']:.1%}" if name == OURS else ""
            if share < SAME:
                found.append(f"{where}: {name} agrees with PyTorch in {share:.1%} of the pixels{itself}")
    return found


def refused(row: Row, where: str) -> list[str]:
    """Why a row has no ratio to some, in one line if there are such."""
    names = [name for name, ratio in row["ratios"].items() if ratio is None]
    if not names:
        return []
    wide = [f"{name} {spread:.0%}" for name, spread in row["spreads"].items() if spread > MAX_SPREAD]
    return [
        f"{where}: no ratio to {', '.join(names)}, since the times of {', '.join(wide)} spread more than "
        f"{MAX_SPREAD:.0%} (interquartile range over median): run it again on a quieter machine"
    ]
