"""What is read of a machine: generated trees of a Raspberry Pi 4, the same throttled, and a virtual machine."""

import pytest

from tvm_bnn import targets
from tvm_bnn.errors import TargetError
from tvm_bnn.rpc import board
from tvm_bnn.rpc.board import Clock, describe, parse, read

PI = "Raspberry Pi 4 Model B Rev 1.4"
PI_CPUINFO = "".join(
    f"processor\t: {cpu}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
    for cpu in range(4)
) + f"Revision\t: c03114\nSerial\t\t: 100000000b0a0d0e\nModel\t\t: {PI}\n"
VM_CPUINFO = "".join(
    f"processor\t: {cpu}\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Processor\nflags\t\t: fpu avx2\n\n"
    for cpu in range(2)
)
POLICY = "sys/devices/system/cpu/cpufreq/policy0"
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
PI_TREE = {
    "proc/cpuinfo": PI_CPUINFO,
    "proc/device-tree/model": f"{PI}\0",
    f"{POLICY}/related_cpus": "0 1 2 3\n",
    f"{POLICY}/scaling_cur_freq": "1500000\n",
    f"{POLICY}/cpuinfo_max_freq": "1500000\n",
    f"{POLICY}/scaling_max_freq": "1500000\n",
    f"{POLICY}/scaling_governor": "performance\n",
    "sys/class/thermal/thermal_zone0/temp": "48312\n",
    THROTTLED: "0\n",
}


def tree(folder, *parts):
    """Files under a folder, the later parts over the earlier."""
    for name, text in {name: text for part in parts for name, text in part.items()}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_healthy_pi(tmp_path):
    readings = read(tree(tmp_path, PI_TREE))
    assert (readings.cpu, readings.cores, readings.temperature) == (PI, 4, 48.312)
    assert readings.clocks == (Clock("0-3", 1500.0, 1500.0, 1500.0, "performance"),)
    assert (readings.throttled, readings.throttled_before) == ((), ())
    assert readings.warnings() == []
    assert readings.lines() == [
        "CPUs 0-3: 1500 of 1500 MHz, governor performance",
        "temperature: 48.3 °C; throttling: none",
    ]


def test_throttled_pi_is_warned_of(tmp_path):
    # under-voltage and throttled now, a clock that was capped since the start
    throttled = {THROTTLED: "70005\n", f"{POLICY}/scaling_cur_freq": "600000\n"}
    readings = read(tree(tmp_path, PI_TREE, throttled))
    assert readings.throttled == ("under-voltage", "throttled")
    assert readings.throttled_before == ("under-voltage", "clock capped", "throttled")
    (warning,) = readings.warnings()
    assert warning.startswith("throttled now (under-voltage, throttled): a throttled board's times lie")
    assert readings.lines()[0] == "CPUs 0-3: 600 of 1500 MHz, governor performance"


def test_pi_that_was_throttled_is_warned_of(tmp_path):
    (warning,) = read(tree(tmp_path, PI_TREE, {THROTTLED: "80000"})).warnings()
    assert warning.startswith("throttled since it was started (soft temperature limit): a throttled board's times lie")


def test_governor_and_limit_are_warned_of(tmp_path):
    slowed = {f"{POLICY}/scaling_governor": "ondemand\n", f"{POLICY}/scaling_max_freq": "1000000\n"}
    governor, limit = read(tree(tmp_path, PI_TREE, slowed)).warnings()
    assert "the governor of CPUs 0-3 is ondemand, not performance" in governor and "sudo tee" in governor
    assert limit == "CPUs 0-3 are held below 1000 of their 1500 MHz"


def test_clusters_have_clocks_of_their_own(tmp_path):
    second = "sys/devices/system/cpu/cpufreq/policy4"
    big = {f"{second}/{path.rpartition('/')[2]}": text for path, text in PI_TREE.items() if path.startswith(POLICY)}
    big |= {f"{second}/related_cpus": "4 5\n", f"{second}/scaling_cur_freq": "2400000", THROTTLED: ""}
    readings = read(tree(tmp_path, PI_TREE, big))
    assert [(clock.cpus, clock.mhz) for clock in readings.clocks] == [("0-3", 1500.0), ("4-5", 2400.0)]
    assert readings.throttled is None


def test_virtual_machine_tells_little(tmp_path):
    readings = read(tree(tmp_path, {"proc/cpuinfo": VM_CPUINFO}))
    assert (readings.cpu, readings.cores) == ("Intel(R) Xeon(R) Processor", 2)
    assert (readings.clocks, readings.temperature, readings.throttled) == ((), None, None)
    assert readings.warnings() == []
    assert readings.lines() == ["clock: not told by this system", "temperature: not told; throttling: not told"]


def test_empty_machine(tmp_path):
    readings = read(tmp_path)
    assert readings.cores == 1 and readings.cpu == targets.platform.machine()


def test_sensors_that_cannot_be_read_are_left_out(tmp_path):
    root = tree(tmp_path, PI_TREE, {"sys/class/thermal/thermal_zone1/temp": "invalid\n"})
    (root / "sys/class/thermal/thermal_zone2/temp").mkdir(parents=True)
    assert read(root).temperature == 48.312


def test_description_of_this_machine_travels_as_text():
    described = describe()
    assert parse(described.json()) == described
    resolved = targets.resolve(described.target)
    assert (resolved.features, resolved.isa, resolved.threads) == (
        targets.host().features,
        targets.host().isa,
        targets.available_cpus(),
    )
    assert set(described.flags) <= targets.host_flags()


def test_description_of_a_throttled_pi_travels_as_text(tmp_path, monkeypatch):
    root = tree(tmp_path, PI_TREE, {THROTTLED: "70005\n"})
    monkeypatch.setattr(board, "read", lambda: read(root))
    described = describe()
    assert parse(described.json()) == described
    assert described.readings.throttled == ("under-voltage", "throttled")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"readings": {}}', '{"readings": {"clocks": 3}}'])
def test_what_is_no_description(text):
    with pytest.raises(ValueError):
        parse(text)


def test_later_versions_may_say_more():
    described = describe()
    text = described.json().replace('"arch"', '"colour": "green", "arch"')
    assert parse(text) == described


def test_processor_without_a_target(monkeypatch):
    def unknown():
        raise TargetError("no code is made for it")

    monkeypatch.setattr(board, "host", unknown)
    assert describe().target is None and "no code is made for it" in describe().lines()


def test_runtime_without_a_compiler(monkeypatch):
    from tvm.target import codegen

    def missing():
        raise AttributeError("no llvm_get_system_cpu")

    monkeypatch.setattr(codegen, "llvm_get_system_cpu", missing)
    assert describe().target is None and "without LLVM" in describe().reason
