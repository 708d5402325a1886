"""What a GPU is told to run an artifact: nearly all of it one graph. (None is here: see driver.c.)"""

import ctypes

import pytest
import torch

import tvm_bnn
from tests.cuda import fake_gpu
from tests.frontend.user_networks import Net


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The folder of the library that stands in for NVIDIA's."""
    return fake_gpu.built(tmp_path_factory.mktemp("driver")).parent


@pytest.fixture(scope="module")
def steps(driver, tmp_path_factory):
    """What the GPU was told, step by step; the second artifact's kernels store more between their launches."""
    folder = tmp_path_factory.mktemp("made")
    for size in (16, 40):
        image = torch.zeros(1, 3, size, size)
        tvm_bnn.compile(Net().eval(), image, target="cuda -arch=sm_90").save(folder / f"{size}.bnn")
    return fake_gpu.told(driver, folder / "16.bnn", folder / "40.bnn")


def of(events, *kinds):
    """The events of some kinds."""
    return [event for event in events if event["event"] in kinds]


def names(events, kind):
    return [event["kernel"] for event in of(events, kind)]


def test_nothing_is_told_that_a_gpu_would_refuse(steps):
    assert not of([event for events in steps.values() for event in events], "refused")


def test_the_first_run_captures_what_it_has_launched(steps):
    events = steps["first"]
    kinds = [event["event"] for event in events]
    begin, end = kinds.index("begin"), kinds.index("end")
    captured = names(events, "captured")
    assert captured and set(kinds[begin + 1 : end]) == {"captured"}
    assert [event["kernel"] for event in events[begin - len(captured) : begin]] == captured
    assert events[end]["launches"] == len(captured) and not of(events, "graph")


def test_from_the_second_on_a_run_launches_one_graph(steps):
    captured = names(steps["first"], "captured")
    outside = [name for name in names(steps["first"], "launch") if name not in captured]
    for run in ("second", "third"):
        (graph,) = of(steps[run], "graph")
        assert graph["kernels"] == captured
        # what reads the input, and what writes the result
        assert names(steps[run], "launch") == outside and len(outside) == 2
        assert not of(steps[run], "begin", "module", "free")
    kinds = [event["event"] for event in steps["third"]]
    assert kinds == ["copy", "launch", "graph", "launch", "copy", "results"]


def test_images_are_copied_there_and_results_back(steps):
    sizes = [(event["kind"], event["size"]) for event in of(steps["second"], "copy")]
    assert sizes == [(1, 4 * 3 * 16 * 16), (2, 4 * 8 * 16 * 16)]
    assert steps["second"][-1]["shape"] == [1, 8, 16, 16]


def test_a_second_artifact_and_the_same_once_more_have_graphs_of_their_own(steps):
    runs = ("second", "other", "same", "again")
    graphs = [event["graph"] for run in runs for event in of(steps[run], "graph")]
    first, other, same, *again = graphs
    assert len({first, other, same}) == 3 and set(again) == {first}
    assert steps["other"][-1]["shape"] == [1, 8, 40, 40]


def test_all_of_it_is_told_by_one_thread_on_its_own_stream(steps):
    told = [event for name, events in steps.items() for event in events if event["event"] not in ("results", "time")]
    assert {event["thread"] for event in told} == {1}
    assert {event["stream"] for event in told if "stream" in event and event["event"] != "captured"} == {0}
    assert {event["stream"] for event in of(told, "captured")} == {1}  # the default stream cannot be captured


def test_what_is_gone_leaves_the_gpu(steps):
    (graph,) = {event["graph"] for event in of(steps["other"], "graph")}
    assert [event["graph"] for event in of(steps["gone"], "destroy")] == [graph]


def test_benchmark_takes_the_time_of_graphs_when_the_gpu_is_done(steps):
    kinds = [event["event"] for event in of(steps["benchmark"], "launch", "graph", "synchronize", "time", "copy")]
    run = ["launch", "graph", "launch"]
    measured = ["synchronize", "time", *run, *run, *run, "synchronize", "time"]
    assert kinds == ["copy", *run, *run, *measured, *measured]


def test_the_driver_refuses_what_cannot_be_captured(driver):
    library = ctypes.CDLL(driver / "libcudart.so.13")
    stream, graph, address = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    assert library.cudaStreamBeginCapture(None, 0) == 900  # the default stream
    library.cudaStreamCreate(ctypes.byref(stream))
    for forbidden in (
        lambda: library.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(8)),
        lambda: library.cudaFree(None),
        lambda: library.cudaStreamSynchronize(None),
        lambda: library.cudaMemcpyAsync(None, None, ctypes.c_size_t(0), 1, None),
    ):
        assert library.cudaStreamBeginCapture(stream, 0) == 0
        assert forbidden() == 900
        assert library.cudaStreamEndCapture(stream, ctypes.byref(graph)) == 901 and not graph
    library.recorded.restype = ctypes.c_char_p
    assert library.recorded().count(b'"refused"') == 5
