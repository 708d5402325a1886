"""Rows, tables and notes of a GPU, from given times."""

import ctypes
import json
from types import SimpleNamespace

import pytest
import torch
import tvm

from tests.report.gpu import fake
from tests.report.small import SMALL
from tvm_bnn.compiler import compile_source
from tvm_bnn.console import Progress
from tvm_bnn.frontend.source import load_source
from tvm_bnn.report.commandline import select
from tvm_bnn.report.gpu import kernels, networks, peers, tables
from tvm_bnn.report.gpu.cases import KERNELS, NETWORKS, bench
from tvm_bnn.report.gpu.ceilings import Ceilings, Rate
from tvm_bnn.report.gpu.kernel_call import scheduled
from tvm_bnn.report.gpu.peers import GpuPeer, Launch, Work
from tvm_bnn.report.gpu.rows import compared, turn
from tvm_bnn.report.kernel_cases import Layer
from tvm_bnn.report.limit import Work as LimitWork
from tvm_bnn.report.rows import OURS
from tvm_bnn.report.timing import Timing
from tvm_bnn.targets import host, resolve

(LARGE,) = select(["bconv3x3-16x32x512-batch16-bits"], KERNELS)
STEADY, WILD = (1.0, 1.0, 1.0), (0.5, 1.0, 1.5)


def times(median, shape=STEADY):
    return Timing(tuple(median * each for each in shape))


def row(ours=STEADY, peer=STEADY, **more):
    """Ours takes four times what the ceiling allows, and the peer ten times as long as ours."""
    ours_s = 4 * LARGE.binary_macs / 1e14
    timings = {OURS: times(ours_s, ours), "pytorch-fp16": times(10 * ours_s, peer)}
    made = kernels.row_of(LARGE, fake.CEILINGS, timings, "bconv2d", "bconv2d-cuda-x", {}, None)
    return {**made, **more}


def cells(table):
    (line,) = zip(*(column.cells for column in table.columns), strict=True)
    return dict(zip((column.header for column in table.columns), line, strict=True))


def test_a_row_says_what_share_of_the_measured_ceiling_it_reaches():
    made = row()
    assert made["b1_fraction"] == pytest.approx(0.25) == made["ceiling_fraction"]
    assert made["binary_macs"] == 16 * 16 * 32 * 512 * 512 * 9
    assert made["ratios"] == {"pytorch-fp16": pytest.approx(10)}
    assert not made.keys() & {"threads", "scaling"} and json.loads(json.dumps(made)) == made


def test_float_layers_are_limited_by_the_ceiling_of_halves_and_maps_by_copying():
    work = LimitWork(binary_macs=10**14, float_macs=2 * 10**13, tensors={"map": 3e12})
    made = compared(work, fake.CEILINGS, {OURS: times(12.0)})
    assert (made["limit_ms"], made["bound"]) == (pytest.approx(6000), "compute")
    assert (made["ceiling_fraction"], made["b1_fraction"]) == (pytest.approx(0.5), pytest.approx(1 / 12))


def test_what_spreads_too_far_has_no_ratio_and_no_share():
    peer, ours = row(peer=WILD), row(ours=WILD)
    assert peer["ratios"] == {"pytorch-fp16": None} and peer["b1_fraction"] == pytest.approx(0.25)
    assert ours["ratios"] == {"pytorch-fp16": None} and ours["b1_fraction"] is None
    (said,) = tables.notes([peer], {})
    assert said.startswith(f"{LARGE.name}: no ratio to pytorch-fp16, since the times of pytorch-fp16 50% spread more")
    assert [note for note in tables.notes([ours], {}) if "no share of the b1 ceiling" in note]
    unsteady = Ceilings({"and": Rate(1e14, 0.3, 1)}, fake.CEILINGS.halves, fake.CEILINGS.copy)
    assert compared(LimitWork(binary_macs=1), unsteady, {OURS: times(1.0)})["b1_fraction"] is None


def test_the_table_has_the_peers_that_took_part_and_those_that_did_not():
    shown = cells(tables.rows([row()], ["pytorch-fp16", "pytorch-int8"]))
    assert (shown["of b1 ceiling"], shown["pytorch-int8"], shown["its spread"]) == ("25.0%", "-", "0%")
    assert shown["pytorch-fp16"].endswith("(10.00x)") and shown["row"] == LARGE.name
    refused = cells(tables.rows([row(ours=WILD)], ["pytorch-fp16"]))
    assert refused["of b1 ceiling"] == "-" and refused["pytorch-fp16"].endswith("(no ratio)")


def test_notes_give_every_reason():
    made = row(left_out={"torch-compile-fp16": "no compiler"}, launched="kernel by kernel, since it is no graph: x")
    made["check"] = {"outputs": [{"agreement": 0.5}, {"agreement": 1.0}, {"max_abs": 0.0}]}
    assert tables.notes([made], {"pytorch-fp16": "no CUDA"}) == [
        "left out: pytorch-fp16: no CUDA",
        f"{LARGE.name}: left out: torch-compile-fp16: no compiler",
        f"{LARGE.name}: tvm_bnn was launched kernel by kernel, since it is no graph: x",
        f"{LARGE.name}: tvm_bnn agrees with PyTorch in 50.0% of the pixels",
    ]


def test_the_ceilings_table_marks_the_best():
    table = tables.ceilings(fake.CEILINGS)
    marked = [name for name, mark in zip(table.columns[0].cells, table.columns[-1].cells, strict=True) if mark]
    assert marked == ["and by wgmma"]
    assert list(table.columns[1].cells) == ["40.0 binary Tmac/s", "100.0 binary Tmac/s", "10.0 Tmac/s", "1000 GB/s"]
    assert fake.CEILINGS.json()["best_binary"] == "and by wgmma"
    assert fake.CEILINGS.json()["copy_bytes_per_s"] == {"16": {"per_s": 1e12, "spread": 0.03, "blocks": 8}}


def test_the_rows_are_those_to_be_shown():
    names = [kernel.name for kernel in KERNELS]
    assert len(set(names)) == 16 and names[0] == "bconv3x3-128x256x64-bits" and names[-1] == LARGE.name[:-4] + "float"
    assert [network.name for network in NETWORKS[:4]] == [
        "bench-512x1024", "bench-512x1024-batch8", "bench-1024x2048", "bench-1024x2048-batch8"
    ]  # fmt: skip
    assert [network.name for network in NETWORKS[4:]] == [f"bench-k3{n.name[5:]}" for n in NETWORKS[:4]]
    model, twin, (images,) = bench(3, (64, 128), 2).make()
    assert images.shape == (2, 3, 64, 128) and not torch.equal(images[0], images[1])
    assert (model.config.branches, twin.config.branches) == (3, 1)


def test_a_row_of_sixteen_images_is_a_kernel_of_tensor_cores():
    target = resolve("cuda -arch=sm_90", gpu=True)
    built = LARGE.build()
    assert built.data[0].shape == (16, 512, 16, 32)
    made, names, timed = scheduled(built.module, built.value, target)
    assert names == timed and len(set(names)) == 1
    assert "m16n8k256" in str(made[names[0]].attrs["tvm_bnn.rule"])


def test_a_turn_is_as_many_runs_as_fit():
    asked = []
    run = turn(lambda count: asked.append(count) or 1e-3, length=5.5e-3)
    assert (run(), asked) == (1e-3, [1, 1, 5])


def test_networks_are_timed_from_the_first_launch_to_the_last_ones_end():
    clock = fake.driver()
    launched = []

    def benchmark(*arrays, repeat, number):
        launched.append((len(arrays), repeat, number))
        return [0.02]

    artifacts = dict.fromkeys((OURS, "rounded"), SimpleNamespace(benchmark=benchmark))
    found = networks.timed((torch.zeros(2),), artifacts, {"peer": Launch(lambda: None)}, clock, 3)
    assert found[OURS] == found["rounded"]
    assert found[OURS].samples == (0.02,) * 3 and set(launched) == {(1, 1, 1)}
    assert found["peer"].median < 0.01


def test_kernels_are_timed_by_the_devices_clock():
    clock = fake.driver()
    graph = clock.graph(lambda stream: copies(clock, stream, 20))
    found = kernels.timed({OURS: Launch(graph, 20), "peer": Launch(lambda: copies(clock, 0, 3))}, clock, 3)
    assert found[OURS].median == pytest.approx(16e-6, rel=1e-3)
    assert found["peer"].median == pytest.approx(48e-6, rel=1e-3)


def copies(clock, stream, count):
    buffers = [clock.buffer(16000) for _ in range(2)]
    copy = clock.kernel(clock.module(b"code"), "copy")
    for _ in range(count):
        copy(1, 256, *buffers, ctypes.c_int(1000), stream=stream)


# --- peers ---


def test_peers_that_cannot_take_part_say_why(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    taking_part, missing = peers.present()
    assert [peer.name for peer in taking_part] == ["tvm-stock-fp32"]
    assert list(missing) == ["pytorch-fp16", "pytorch-fp16-graph", "torch-compile-fp16", "pytorch-int8"]
    assert all("is built without CUDA" in reason for reason in missing.values())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delattr(torch, "_int_mm")
    assert list(peers.present()[1]) == ["pytorch-int8"] and "has no torch._int_mm" in peers.no_int8()


def test_a_peer_that_fails_on_a_layer_is_left_out_of_its_row():
    def fail(work):
        raise ValueError("first\nno such kernel")

    some = [GpuPeer("fails", lambda: None, fail), GpuPeer("runs", lambda: None, lambda work: Launch(lambda: work))]
    found, left_out = kernels._others(LARGE, some, resolve("cuda -arch=sm_90", gpu=True))
    assert left_out == {"fails": "no such kernel"} and list(found) == ["runs"]
    work = found["runs"].call()
    assert (work.layer, work.runs, work.inputs[0].shape) == (LARGE.layer, kernels.RUNS, (16, 512, 16, 32))


@pytest.mark.parametrize("layer", [Layer((4, 5, 8), 16), Layer((7, 6, 8), 8, stride=2)], ids=str)
def test_int8_products_of_windows_are_the_convolution(layer):
    data = torch.randint(-127, 128, (3, layer.size[2], *layer.size[:2]), dtype=torch.int8)
    weight = torch.randint(-127, 128, (layer.filters, layer.size[2], 3, 3), dtype=torch.int8)
    bordered = torch.nn.functional.pad(data, (1, 1, 1, 1)).permute(0, 2, 3, 1).contiguous()
    found = peers.windows_times(bordered, weight.permute(0, 2, 3, 1).reshape(layer.filters, -1), layer)
    expected = torch.nn.functional.conv2d(data.double(), weight.double(), stride=layer.stride, padding=1)
    assert torch.equal(found.double(), expected.permute(0, 2, 3, 1).reshape(found.shape))


def test_a_whole_network_has_no_int8_peer():
    with pytest.raises(RuntimeError, match=r"^PyTorch has no int8 convolutions for GPUs$"):
        peers.int8(Work(torch.nn.Identity(), (torch.zeros(1),), None))


def test_tvm_compiles_its_own_kernels_with_the_nvcc_of_this_package():
    fma, name = tvm.ir.Op.get("tirx.fma"), "cuda.FLowerIntrinsic"
    ours = fma.get_attr(name)
    with peers.own_compiler(resolve("cuda -arch=sm_90", gpu=True)):
        assert not fma.has_attr(name) or fma.get_attr(name) is None  # TVM has none of its own
        made = tvm.get_global_func("tvm_callback_cuda_compile")(
            'extern "C" __global__ void f(float* x) { x[threadIdx.x] = __expf(x[threadIdx.x]); }'
        )
    assert bytes(made).startswith(b"\x7fELF")
    assert ours is not None and fma.get_attr(name) == ours


# --- a whole row, on a driver that is not there ---


def test_a_row_of_kernels_from_its_module_to_its_times(monkeypatch):
    clock = fake.driver()
    target = resolve("cuda -arch=sm_90", gpu=True)

    class Ours:
        kernel, rule = "bconv2d", "bconv2d-cuda-x"

        def __init__(self, module, value, data, asked):
            assert asked is target and data[0].shape == (16, 512, 16, 32) and len(value) == 1

        def __call__(self):
            copies(clock, 0, 1)

        def on_stream(self, stream, times):
            copies(clock, stream, times)

    some = [GpuPeer("runs", lambda: None, lambda work: Launch(lambda: copies(clock, 0, 4), 2))]
    monkeypatch.setattr(kernels, "GpuKernelCall", Ours)
    (made,) = kernels.measure([LARGE], clock, fake.CEILINGS, some, target, 3, Progress(quiet=True))
    assert (made["name"], made["launched"], made["rule"]) == (LARGE.name, None, "bconv2d-cuda-x")
    # what launches allocate besides takes no time of the device's clock
    assert made["ours_ms"] == pytest.approx(16e-3, rel=1e-3)
    assert made["peers"] == {"runs": pytest.approx(32e-3, rel=1e-3)}
    monkeypatch.setattr(clock, "graph", lambda run: clock.module(b"nonsense"))
    (again,) = kernels.measure([LARGE], clock, fake.CEILINGS, some, target, 3, Progress(quiet=True))
    assert again["ours_ms"] == pytest.approx(16e-3, rel=1e-3)
    assert again["launched"].startswith("kernel by kernel, since it is no graph: cuModuleLoadData failed on the GPU")


def test_float_layers_are_rounded_to_what_tensor_cores_take():
    model, _, inputs = SMALL.make()
    for arch, names in (("sm_75", []), ("sm_80", ["tvm_bnn-tf32", "tvm_bnn-bf16"])):
        found = networks.rounded(compile_source(load_source(model, inputs), resolve(f"cuda -arch={arch}", gpu=True)))
        assert list(found) == names
        for name, artifact in found.items():
            rules = [row["rule"] for row in artifact.explain()]
            assert any(rule.startswith(f"conv2d-{name.rpartition('-')[2]}-cuda") for rule in rules)


def test_a_row_of_networks_from_its_model_to_its_times(monkeypatch):
    target = host(1)
    some = [GpuPeer("runs", lambda: None, lambda work: Launch(lambda: work.module(*work.inputs)))]
    (made,) = networks.measure([SMALL], fake.driver(), fake.CEILINGS, some, target, 3, Progress(quiet=True))
    assert (made["name"], made["target"], set(made["peers"])) == (SMALL.name, target.name, {"runs"})
    assert (made["binary_macs"], made["float_macs"]) == (0, 8 * 12 * (32 * 3 * 9 + 32 * 32 * 9 + 32 * 4))
    assert made["check"]["outputs"][0]["max_rel"] < 1e-4 and json.loads(json.dumps(made)) == made
