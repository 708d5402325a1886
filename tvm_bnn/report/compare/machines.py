"""Where a comparison is measured: the machine as the report describes it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import psutil

from tvm_bnn.artifact import versions as own_versions
from tvm_bnn.report.compare import content
from tvm_bnn.report.machine import Limits
from tvm_bnn.report.machine import versions as installed
from tvm_bnn.report.site import HERE, Site
from tvm_bnn.rpc import board
from tvm_bnn.rpc.board import Readings
from tvm_bnn.targets import Target, host_flags

#: CPUID's word for a guest.
_GUEST = "hypervisor"


def described(site: Site, target: Target, limits: Mapping[int, Limits]) -> content.Machine:
    """The machine of a site, now."""
    told = site.describe(target, list(limits.values()))
    here = site is HERE
    return content.Machine(
        cpu=told["cpu"],
        cpus=told["cpus"],
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1) if here else None,
        system=told["system"],
        target=told["target"],
        device=told.get("device"),
        emulated=False,
        virtual=_GUEST in host_flags() if here and host_flags() else None,
        clock=_clock(board.read(), load=True) if here else {},
        limits={threads: content.Limits(**row) for threads, row in told["limits"].items()},
        versions=versions(),
    )


def emulated(target: Target) -> content.Machine:
    """A processor that is not there."""
    return content.Machine(
        cpu=f"{target.cpu}, emulated",
        cpus=1,
        memory_gb=None,
        system="qemu-user",
        target=target.name,
        device=None,
        emulated=True,
        virtual=None,
        clock={},
        limits={},
        versions=versions(),
    )


def best(looks: Sequence[Limits]) -> Limits:
    """The highest of each ceiling and bandwidth among looks at one machine, with the same number of threads."""

    def highest(values: Iterable[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    return Limits(
        threads=looks[0].threads,
        binary=max(look.binary for look in looks),
        fp32=max(look.fp32 for look in looks),
        int8=highest(look.int8 for look in looks),
        copy={size: max(look.copy[size] for look in looks) for size in looks[0].copy},
        tiles=highest(look.tiles for look in looks),
    )


@cache
def versions() -> dict[str, str]:
    """Of everything that takes part, as far as it is installed."""
    return {**own_versions(), **installed()}


def identity(machine: content.Machine) -> dict[str, Any]:
    """What has to be the same for a measurement to hold: all but the state of the moment."""
    return machine.model_dump(exclude={"clock", "limits"})


def _clock(readings: Readings, load: bool) -> dict[str, str]:
    lines = {"clock": "; ".join(map(str, readings.clocks)) or "not told by this system", "heat": readings.heat()}
    if load:
        lines["load average"] = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return lines
