"""An older processor: every library that asks finds it, and what cannot be had is said in one line."""

import subprocess
import sys

import pytest

from tvm_bnn.errors import InputError
from tvm_bnn.report import older_cpu
from tvm_bnn.targets import host_flags

CPU = "x86-64-v3"
#: A program with a handler of its own for SIGSEGV, which must not replace the one that hides the features.
PROGRAM = """
import faulthandler, sys
import torch
faulthandler.enable()
sys.exit({"AVX2": 20, "AVX512": 30}.get(torch.backends.cpu.get_cpu_capability(), 40))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "older_cpu_program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv(older_cpu.MARK, raising=False)
    return "older_cpu_program"


@pytest.mark.skipif(not {"cpuid_fault", "avx512f"} <= host_flags(), reason="no CPUID faulting, or no AVX-512, here")
def test_libraries_find_the_older_processor(module):
    assert subprocess.run([sys.executable, "-m", module], check=False).returncode == 30
    assert older_cpu.again(CPU, module, []) == 20


def test_a_process_that_is_held_already_goes_on(monkeypatch):
    monkeypatch.setenv(older_cpu.MARK, CPU)
    assert older_cpu.again(CPU, "no_such_module", []) is None


def test_a_processor_that_cannot_hide_its_features_is_refused(module, monkeypatch):
    monkeypatch.setattr(older_cpu, "host_flags", lambda: frozenset({"avx512f"}))
    with pytest.raises(InputError, match=r"cannot hide its features \(no cpuid_fault in .*\): leave --mcpu out"):
        older_cpu.again(CPU, module, [])


@pytest.mark.skipif("cpuid_fault" not in host_flags(), reason="no CPUID faulting here")
def test_a_library_that_cannot_be_built_is_refused(module, monkeypatch, tmp_path):
    monkeypatch.setattr(older_cpu, "_SOURCE", tmp_path / "absent.c")
    with pytest.raises(InputError, match=r"cannot build absent\.c: "):
        older_cpu.again(CPU, module, [])
