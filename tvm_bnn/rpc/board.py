"""What a machine is, and whether times that are measured on it can be trusted: read from /proc and /sys."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tvm_bnn.errors import TargetError
from tvm_bnn.gpus import row_for
from tvm_bnn.rpc import gpu
from tvm_bnn.rpc.gpu import GpuFound
from tvm_bnn.targets import ARCHES, CUDA, available_cpus, code_flags, host, host_arch

ROOT = Path("/")
_CLOCKS = "sys/devices/system/cpu/cpufreq"
_ZONES = "sys/class/thermal"
#: Where the kernel of a Raspberry Pi tells what its firmware sees, and the program that asks the firmware itself.
_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
_ASK_FIRMWARE = ("vcgencmd", "get_throttled")
_ASK_S = 5
#: Bits of that number; the same 16 places higher: since the board was started.
_THROTTLING = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
_SINCE_START = 16
PERFORMANCE = "performance"


@dataclass(frozen=True)
class Clock:
    """A group of CPUs with one clock. cpus : such as "0-3". mhz, max_mhz : now, and what the processor can."""

    cpus: str
    mhz: float
    max_mhz: float
    limit_mhz: float
    governor: str

    def __str__(self) -> str:
        return f"CPUs {self.cpus}: {self.mhz:.0f} of {self.max_mhz:.0f} MHz, governor {self.governor}"


@dataclass(frozen=True)
class Readings:
    """The state of a machine; what it does not tell is empty or None.

    cpu : name of the processor or the board. cores : CPUs in all.
    clocks : one per group of CPUs; none in most virtual machines.
    temperature : of the hottest sensor, in degrees Celsius.
    throttled, throttled_before : what slows the board down now, and what has since it was started; only boards of
        Raspberry Pi tell.
    """

    cpu: str
    cores: int
    clocks: tuple[Clock, ...] = ()
    temperature: float | None = None
    throttled: tuple[str, ...] | None = None
    throttled_before: tuple[str, ...] | None = None

    def lines(self) -> list[str]:
        """For the screen."""
        return [*(str(clock) for clock in self.clocks or ["clock: not told by this system"]), self.heat()]

    def heat(self) -> str:
        """Temperature and throttling."""
        degrees = "not told" if self.temperature is None else f"{self.temperature:.1f} °C"
        slowed = "not told" if self.throttled is None else ", ".join(self.throttled) or "none"
        return f"temperature: {degrees}; throttling: {slowed}"

    def warnings(self) -> list[str]:
        """Why times that are measured now would mislead, and what to do."""
        found = [
            f"the governor of CPUs {clock.cpus} is {clock.governor}, not {PERFORMANCE}: the clock follows the load, "
            f"and times with it; try: echo {PERFORMANCE} | sudo tee /{_CLOCKS}/policy*/scaling_governor"
            for clock in self.clocks
            if clock.governor != PERFORMANCE
        ]
        found += [
            f"CPUs {clock.cpus} are held below {clock.limit_mhz:.0f} of their {clock.max_mhz:.0f} MHz"
            for clock in self.clocks
            if clock.limit_mhz < clock.max_mhz
        ]
        if self.throttled:
            found.append(
                f"throttled now ({', '.join(self.throttled)}): a throttled board's times lie; "
                "see to its power supply and its cooling"
            )
        elif self.throttled_before:
            found.append(
                f"throttled since it was started ({', '.join(self.throttled_before)}): a throttled board's times lie; "
                "measure again after better cooling or another power supply"
            )
        return found


@dataclass(frozen=True)
class Description:
    """What a device tells a client: its state, and what code it runs.

    arch, system, flags : see `targets.check_runs_on`; flags are those of `targets.code_flags`.
    cpus : that the server may use.
    target : text for `--target`, None where its TVM has no compiler to tell the processor; reason then says so.
    name : the target's short name.
    versions : see `artifact.versions`.
    gpu : its first NVIDIA GPU, None where there is none. gpu_target : text for `--target`, None where no code is made
        for it.
    """

    readings: Readings
    arch: str
    system: str
    flags: tuple[str, ...]
    cpus: int
    target: str | None
    reason: str = ""
    name: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    gpu: GpuFound | None = None
    gpu_target: str | None = None

    def json(self) -> str:
        """As text, for `parse`."""
        return json.dumps(dataclasses.asdict(self))

    def lines(self) -> list[str]:
        """For the screen."""
        target = f'compile for it with: --target "{self.target}"' if self.target else self.reason
        features = f"features: {', '.join(self.flags) or 'not told'}"
        processor = f"{self.readings.cpu} ({self.name or self.arch}), {self.cpus} of {self.readings.cores} CPUs"
        return [processor, features, target, *self._of_gpu(), *self.readings.lines()]

    def title(self) -> str:
        """What it is, in a few words."""
        return f"{self.readings.cpu} ({self.name or self.arch}){f', {self.gpu.name}' if self.gpu else ''}"

    def _of_gpu(self) -> list[str]:
        if self.gpu is None:
            return []
        target = f'compile for it with: --target "{self.gpu_target}"'
        return [f"GPU: {self.gpu}", target if self.gpu_target else "no code is made for this GPU"]


def parse(text: str) -> Description:
    """What `Description.json` wrote, of this version or a later one; raises ValueError for anything else."""
    try:
        row = json.loads(text)
        readings = _known(Readings, row["readings"])
        readings["clocks"] = tuple(Clock(**_known(Clock, clock)) for clock in readings["clocks"])
        for name in ("throttled", "throttled_before"):
            readings[name] = None if readings[name] is None else tuple(readings[name])
        known = {**_known(Description, row), "readings": Readings(**readings), "flags": tuple(row["flags"])}
        known["gpu"] = gpu.found(row["gpu"]) if row.get("gpu") else None
        return Description(**known)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no description of a device: {error!r}") from None


def _known(kind: Any, row: dict[str, Any]) -> dict[str, Any]:
    names = {each.name for each in dataclasses.fields(kind)}
    return {name: value for name, value in row.items() if name in names}


def describe() -> Description:
    """This machine; CUDA is not used in this process."""
    from tvm_bnn.artifact import versions

    target, name, reason = None, "", ""
    try:
        made = host()
        target, name = made.text(), made.name
    except TargetError as error:
        reason = str(error)
    except AttributeError:
        reason = "its TVM is a runtime without LLVM, which would know the processor's name"
    found = gpu.ask()
    return Description(
        readings=read(),
        arch=host_arch(),
        system=platform.system(),
        flags=tuple(sorted(code_flags())),
        cpus=available_cpus(),
        target=target,
        reason=reason,
        name=name,
        versions=versions(),
        gpu=found,
        gpu_target=_gpu_target(found) if found else None,
    )


def _gpu_target(found: GpuFound) -> str | None:
    row, triple = row_for(found.version), next((arch.triple for arch in ARCHES if arch.name == host_arch()), None)
    return f"{CUDA} -arch={row.arch} -mtriple={triple}" if row and triple else None


def read(root: Path = ROOT) -> Readings:
    """The state of the machine whose /proc and /sys are under `root`."""
    told = _throttling(root)
    return Readings(
        cpu=cpu_name(root),
        cores=len(re.findall(r"^processor\s*:", _text(root / "proc/cpuinfo"), flags=re.MULTILINE)) or 1,
        clocks=_clocks(root),
        temperature=_temperature(root),
        throttled=None if told is None else _names(told),
        throttled_before=None if told is None else _names(told >> _SINCE_START),
    )


def cpu_name(root: Path = ROOT) -> str:
    """The processor's own name, that of the board, or the architecture where the system tells neither."""
    cpuinfo = _text(root / "proc/cpuinfo")
    if found := re.search(r"^model name\s*:\s*(.+)$", cpuinfo, flags=re.MULTILINE):
        return found.group(1).strip()
    if board := _text(root / "proc/device-tree/model").strip("\0\n "):
        return board
    found = re.search(r"^Model\s*:\s*(.+)$", cpuinfo, flags=re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _clocks(root: Path) -> tuple[Clock, ...]:
    clocks = []
    for folder in sorted((root / _CLOCKS).glob("policy*"), key=lambda path: (len(path.name), path.name)):
        now, most, limit = (
            _number(folder / name) for name in ("scaling_cur_freq", "cpuinfo_max_freq", "scaling_max_freq")
        )
        if now is None or most is None:
            continue
        cpus = _ranges(_text(folder / "related_cpus").split()) or folder.name.removeprefix("policy")
        governor = _text(folder / "scaling_governor").strip() or "unknown"
        # in kHz
        clocks.append(Clock(cpus, now / 1e3, most / 1e3, (most if limit is None else limit) / 1e3, governor))
    return tuple(clocks)


def _ranges(words: list[str]) -> str:
    """"0 1 2 3" as "0-3", and anything with a gap as it is."""
    numbers = sorted(int(word) for word in words if word.isdigit())
    whole = len(numbers) > 1 and numbers[-1] - numbers[0] == len(numbers) - 1
    return f"{numbers[0]}-{numbers[-1]}" if whole else ",".join(map(str, numbers))


def _temperature(root: Path) -> float | None:
    found = [_number(path / "temp") for path in (root / _ZONES).glob("thermal_zone*")]
    # in thousandths of a degree
    return max((each / 1e3 for each in found if each is not None), default=None)


def _throttling(root: Path) -> int | None:
    """The firmware's number."""
    text = _text(root / _THROTTLED)
    if not text and root == ROOT and shutil.which(_ASK_FIRMWARE[0]):
        try:
            text = subprocess.run(_ASK_FIRMWARE, capture_output=True, text=True, timeout=_ASK_S, check=False).stdout
        except (OSError, subprocess.SubprocessError):
            return None
    # the kernel writes 50005, the program throttled=0x50005
    found = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]+)", text.strip())
    return int(found.group(1), 16) if found else None


def _names(bits: int) -> tuple[str, ...]:
    return tuple(name for bit, name in _THROTTLING.items() if bits >> bit & 1)


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _text(path: Path) -> str:
    """Of a file that may not be there: some sensors refuse to be read, too."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
