"""A comparison on a device, a server of this machine, and on a processor that is emulated."""

import pytest

from tests import emulator
from tests.report.compare import small_networks
from tests.report.small import quick_ceilings
from tvm_bnn.console import Progress
from tvm_bnn.report.compare import config, measure
from tvm_bnn.report.compare.store import Store
from tvm_bnn.targets import host

CONFIG = f"""
title = "Small"
rounds = 2
samples = 0
[[task]]
name = "kitti-road"
images = 2
size = [32, 64]
[[network]]
name = "binary"
task = "kitti-road"
model = "{small_networks.__name__}:binary"
executors = ["tvm_bnn", "pytorch-eager"]
[[target]]
name = "there"
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    quick_ceilings(monkeypatch)


def compared(folder, where):
    (folder / "c.toml").write_text(CONFIG + where)
    return measure.measure(config.read(folder / "c.toml"), Store(folder / "measured"), Progress(quiet=True))


def test_device_is_measured_and_judged_there(device, tmp_path):
    found = compared(tmp_path, f'rpc = "{device}"\nthreads = [1]\n')
    ours, pytorch = found.measurements
    assert found.machines["there"].device == str(device) and found.machines["there"].target == host().name
    assert ours.latency.median_ms > 0 and ours.limit_ms > 0 and ours.layers
    # its inputs are sent anew for each image
    assert ours.accuracy.agreement > 0.99 and ours.memory_mb is None
    assert "only what TVM compiles" in pytorch.left_out


def test_emulated_processor_counts_and_times_nothing(tmp_path):
    emulator.need()
    found = compared(tmp_path, 'emulated = "cortex-a72"\n')
    (ours,) = found.measurements
    assert ours.instructions > 10_000 and ours.latency is None and ours.accuracy is None
    assert found.machines["there"].emulated and not found.machines["there"].limits
