"""The table of targets: what text resolves to, what is refused, and what may run here."""

import dataclasses
import json
from pathlib import Path

import pytest

from tvm_bnn import targets
from tvm_bnn.errors import ArtifactError, TargetError
from tvm_bnn.targets import check_runs_here, host, resolve

ZNVER4_FLAGS = frozenset(
    "pni ssse3 fma sse4_1 sse4_2 movbe popcnt avx f16c abm bmi1 avx2 bmi2 gfni avx512f avx512dq avx512ifma avx512cd "
    "avx512bw avx512vl avx512_bf16 avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq".split()
)


@pytest.fixture
def zen4(monkeypatch):
    """This machine pretends to be a Zen 4 with 6 CPUs; returns a function that hides some of its flags."""
    from tvm.target import codegen

    def machine(hidden=()):
        monkeypatch.setattr(targets, "host_flags", lambda: ZNVER4_FLAGS - set(hidden))

    monkeypatch.setattr(codegen, "llvm_get_system_cpu", lambda: "znver4")
    monkeypatch.setattr(targets.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(targets, "available_cpus", lambda: 6)
    machine()
    return machine


@pytest.mark.parametrize(
    ("text", "name", "triple", "isa", "popcount", "lanes32", "registers"),
    [
        ("llvm -mcpu=znver4", "znver4", "x86_64-linux-gnu", "avx512", "vpopcntdq", 16, 32),
        ("llvm -mcpu=sapphirerapids", "sapphirerapids", "x86_64-linux-gnu", "amx", "vpopcntdq", 16, 32),
        ("llvm -mcpu=skylake-avx512", "skylake-avx512", "x86_64-linux-gnu", "avx512", "nibble", 16, 32),
        ("llvm -mcpu=x86-64-v3", "x86-64-v3", "x86_64-linux-gnu", "avx2", "nibble", 8, 16),
        ("llvm -mcpu=x86-64", "x86-64", "x86_64-linux-gnu", "generic", "scalar", 8, 16),
        ("llvm -mcpu=cortex-a72", "cortex-a72", "aarch64-linux-gnu", "neon", "cnt", 4, 32),
        ("llvm -mcpu=cortex-a53", "cortex-a53", "aarch64-linux-gnu", "neon", "cnt", 4, 32),
        ("llvm -mcpu=neoverse-n1", "neoverse-n1", "aarch64-linux-gnu", "neon", "cnt", 4, 32),
        ("llvm -mcpu=apple-m1", "apple-m1", "aarch64-linux-gnu", "neon", "cnt", 4, 32),
        ("llvm -mtriple=aarch64-linux-gnu", "generic-aarch64", "aarch64-linux-gnu", "neon", "cnt", 4, 32),
        (
            "llvm -mtriple=armv7l-linux-gnueabihf -mcpu=cortex-a53",
            "cortex-a53-arm",
            "armv7l-linux-gnueabihf",
            "neon",
            "cnt",
            4,
            16,
        ),
        ("raspberry-pi/4", "cortex-a72", "aarch64-linux-gnu", "neon", "cnt", 4, 32),
        ("raspberry-pi/4b-aarch64", "cortex-a72", "aarch64-linux-gnu", "neon", "cnt", 4, 32),
        ('{"kind": "llvm", "mcpu": "cortex-a76"}', "cortex-a76", "aarch64-linux-gnu", "neon", "cnt", 4, 32),
    ],
)
def test_text_becomes_the_row_of_the_table(text, name, triple, isa, popcount, lanes32, registers):
    target = resolve(text)
    found = (target.name, target.triple, target.isa, target.popcount, target.lanes32, target.registers)
    assert found == (name, triple, isa, popcount, lanes32, registers)


def test_mattr_decides_the_schedules_and_is_in_the_name():
    target = resolve("llvm -mcpu=znver4 -mattr=-avx512vpopcntdq")
    assert (target.isa, target.popcount, target.name) == ("avx512", "nibble", "znver4-avx512-nibble")
    assert target.has("avx512bitalg") and not target.has("avx512vpopcntdq")
    assert "avx512_vpopcntdq" not in target.required_features
    assert resolve("llvm -mcpu=znver4 -mattr=-avx512f").isa == "avx2"
    assert resolve("llvm -mcpu=znver4 -mattr=-avx512bf16").name == "znver4"


def test_mattr_that_the_processor_has_anyway_changes_nothing():
    assert resolve("llvm -mcpu=cortex-a72 -mattr=+neon") == resolve("llvm -mcpu=cortex-a72")


def test_tvm_gets_the_same_target():
    made = resolve("llvm -mcpu=x86-64-v3 -mattr=+avxvnni,+gfni", threads=3).tvm()
    assert (made.kind.name, made.attrs["mcpu"], made.attrs["mtriple"]) == ("llvm", "x86-64-v3", "x86_64-linux-gnu")
    assert int(made.attrs["num-cores"]) == 3
    assert [str(item) for item in made.attrs["mattr"]] == ["+avxvnni", "+gfni"]


def test_target_is_frozen_and_hashable():
    target = resolve("llvm -mcpu=znver4")
    assert len({target, resolve("llvm -mcpu=znver4")}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        target.cpu = "other"


def test_threads_given_then_text_then_machine_then_board(zen4):
    assert resolve("llvm -mcpu=cortex-a72 -num-cores=2", threads=3).threads == 3
    assert resolve("llvm -mcpu=cortex-a72 -num-cores=2").threads == 2
    assert resolve("llvm -mcpu=x86-64-v3").threads == 6
    assert resolve("llvm -mcpu=apple-m1").threads == 8


def test_crypto_that_no_generated_code_uses_is_not_required():
    # the processor of a Raspberry Pi 4 lacks the AES and SHA-2 of LLVM's cortex-a72
    assert resolve("llvm -mcpu=cortex-a72").required_features == ("asimd", "fp")


def test_host_is_this_machine(zen4):
    target = host()
    assert (target.name, target.mattr, target.native, target.threads) == ("znver4", (), True, 6)
    assert set(target.required_features) == ZNVER4_FLAGS
    check_runs_here(target.manifest())


def test_features_that_a_virtual_machine_hides_are_not_used(zen4):
    zen4(hidden=[flag for flag in ZNVER4_FLAGS if flag.startswith("avx512")])
    target = host()
    assert target.isa == "avx2" and not target.has("avx512f")
    assert target.name == "znver4-avx2-nibble"
    assert target.native


@pytest.mark.skipif("amx_tile" not in Path("/proc/cpuinfo").read_text().split(), reason="this CPU has no AMX")
def test_tiles_that_the_system_does_not_grant_are_not_used(monkeypatch):
    targets.host_flags.cache_clear()
    monkeypatch.setattr(targets, "_tiles_permitted", lambda: False)
    try:
        assert host().isa == "avx512" and host().matrix == ""
        assert not any(flag.startswith("amx") for flag in host().required_features)
    finally:
        monkeypatch.undo()
        targets.host_flags.cache_clear()


@pytest.mark.skipif("amx_tile" not in Path("/proc/cpuinfo").read_text().split(), reason="this CPU has no AMX")
@pytest.mark.parametrize("virtual", [False, True])
def test_bits_are_counted_where_another_may_use_the_other_thread_of_a_core(monkeypatch, virtual):
    flags = (targets.host_flags() - {"hypervisor"}) | ({"hypervisor"} if virtual else set())
    monkeypatch.setattr(targets, "host_flags", lambda: flags)
    found = host()
    assert (found.matrix, found.multiplies_bits, found.native) == ("amx", not virtual, True)
    assert found.name == resolve("llvm -bits=tiles").name + ("-counts" if virtual else "")
    assert resolve(found.text()) == found
    assert resolve("llvm -bits=tiles").multiplies_bits and not resolve("llvm -bits=counts").multiplies_bits


def test_a_processor_that_is_named_has_its_cores_for_itself():
    found = resolve("llvm -mcpu=sapphirerapids")
    assert (found.matrix, found.multiplies_bits, found.name) == ("amx", True, "sapphirerapids")
    counting = resolve("llvm -mcpu=sapphirerapids -bits=counts")
    assert (counting.matrix, counting.multiplies_bits, counting.name) == ("amx", False, "sapphirerapids-counts")
    assert resolve(counting.text()) == dataclasses.replace(counting, threads=resolve(counting.text()).threads)
    assert resolve("llvm -mcpu=znver4 -bits=counts") == resolve("llvm -mcpu=znver4")


def test_the_real_host_runs_its_own_code():
    target = host()
    assert target.native and target.threads == targets.available_cpus()
    check_runs_here(target.manifest())


def test_manifest_is_json():
    manifest = resolve("llvm -mcpu=cortex-a72").manifest()
    assert json.loads(json.dumps(manifest)) == manifest


def test_code_for_another_architecture_is_refused():
    other = "cortex-a72" if targets.host_arch() != "aarch64" else "znver4"
    assert not resolve(f"llvm -mcpu={other}").native
    with pytest.raises(ArtifactError, match=rf"compiled for {other} .*this machine is {targets.host_arch()}"):
        check_runs_here(resolve(f"llvm -mcpu={other}").manifest())


def test_code_for_another_system_is_refused():
    cpu, arch = targets.host().cpu, targets.host_arch()
    target = resolve(f"llvm -mtriple={arch}-apple-macos -mcpu={cpu}")
    assert not target.native
    with pytest.raises(ArtifactError, match="apple-macos"):
        check_runs_here(target.manifest())


def test_missing_cpu_features_are_named(zen4):
    made = host().manifest()
    zen4(hidden={"avx512_vpopcntdq", "avx512_bitalg"})
    with pytest.raises(ArtifactError, match="this machine lacks avx512_bitalg, avx512_vpopcntdq;"):
        check_runs_here(made)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("llvm -mcpu=znver44", r"unknown processor 'znver44' \(did you mean znver4"),
        ("llvm -mcpu=cortex-72", r"did you mean cortex-a72"),
        ("llvm -mtriple=aarch64-linux-gnu -mcpu=znver4", "unknown processor 'znver4' for aarch64-linux-gnu"),
        ("lvm", r"unknown target kind 'lvm' \(did you mean llvm\?\); accepted are"),
        ("cortex-a72", r'did you mean "llvm -mcpu=cortex-a72"\?'),
        ("nvidia/nvidia-a100", "found the GPU target 'nvidia/nvidia-a100' where only processors are taken so far"),
        ("opencl", "unknown target kind 'opencl'; accepted are"),
        ("raspberry-pi/44", r"unknown target tag 'raspberry-pi/44' \(did you mean raspberry-pi/4,"),
        ("", "the target is empty; accepted are"),
        ("llvm -mtriple=zzz-linux-gnu", "the architecture 'zzz' of .*accepted are triples such as x86_64-linux"),
        ("llvm -mtriple=riscv64-linux-gnu", "no code is made for the architecture 'riscv64' of riscv64-linux"),
        ("llvm -mtriple=riscv64-linux-gnu -mattr=+v", "for the architecture 'riscv64' of riscv64-linux-gnu;"),
        ("llvm -mtriple=aarch46-linux-gnu", r"the architecture 'aarch46' of .* \(did you mean aarch64\?\)"),
        ("llvm -mcpu=sifive-u74", "unknown processor 'sifive-u74'.*knows for x86_64, aarch64, arm, or"),
        ('{"kind": "llvm", "mtriple": "mips-linux-gnu"}', "the architecture 'mips' of mips-linux-gnu; accepted"),
        ("llvm -mattr=avx2", "found 'avx2' in -mattr; every feature is written [+]name or -name"),
        ("llvm -mcpu=znver4 -mattr=+avx51f", r"unknown feature 'avx51f'.*did you mean avx512f"),
        ("llvm -mcpuu=znver4", r"unknown target option 'mcpuu' \(did you mean mcpu\?\)"),
        ("llvm mcpu=znver4", "'mcpu=znver4'.* is no option of the form -name=value"),
        ("llvm '-mcpu=znver4", "cannot be split into words"),
        ('{"kind": "llvm"', "looks like JSON and is not"),
        ('{"kind": "llvm", "mcpu": 4}', "'mcpu' must be text, found 4"),
        ("llvm -mcpu=znver4 -bits=tiles", "this processor has no matrix unit: leave it out"),
        ("llvm -bits=some", "'bits' must be one of tiles, counts, found 'some'"),
        ("llvm -num-cores=0", "'num-cores' must be a whole number from 1 up, found '0'"),
    ],
)
def test_refusals_say_what_is_accepted(text, message):
    with pytest.raises(TargetError, match=message):
        resolve(text)


def test_zero_threads_are_refused():
    with pytest.raises(TargetError, match="found 0 threads; at least 1"):
        resolve("llvm", threads=0)
