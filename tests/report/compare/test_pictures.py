"""Pictures: that they are made, hold what they should, and can be read on a phone and in grey."""

import io
import warnings
from itertools import combinations, pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Annotation, Text
from PIL import Image

from tests.report.compare import made
from tvm_bnn.report.compare import pictures
from tvm_bnn.report.compare.content import Buffer, MemoryPlan
from tvm_bnn.report.compare.pareto import points
from tvm_bnn.report.compare.pictures import accuracy, layers, memory, roofline, style

#: Width of a phone's column in inches, and the smallest letters there in points.
PHONE, SMALLEST = 360 / 96, 9
#: The least of which there is a picture: two points, of one sample each.
PAIR = made.small(*(made.measurement("k3", name, made.latency(1.0), 80.0) for name in ("tvm_bnn", "pytorch-eager")))


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A folder with the files of the samples."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "samples").mkdir()
    classes = np.full((16, 32, 3), (128, 64, 128), np.uint8)
    classes[4:8] = (0, 0, 142)
    for name in ("image", "truth", "float", "k3", "difference"):
        Image.fromarray(classes).save(folder / "samples" / f"3-{name}.png")
    return folder


@pytest.fixture(scope="module")
def drawn(samples):
    """All pictures of a report, laid out."""
    found = list(pictures.pictures(made.whole(), samples))
    for each in found:
        each.figure.draw_without_rendering()
    return found


def letters(figure):
    return [each for each in figure.findobj(Text) if each.get_visible() and each.get_text().strip()]


def test_every_kind_is_drawn_under_a_name_of_its_own(drawn):
    names = [each.name for each in drawn]
    assert len(set(names)) == len(names)
    kinds = {"latency", "sample", "layers", "roofline", "memory", "branches", "training", "losses"}
    assert {name.split("-")[0] for name in names} == kinds
    # two numbers of threads and another task; neither the emulated machine nor what stands alone
    assert sum(name.startswith("latency") for name in names) == 3
    assert all(each.alt for each in drawn)


def test_the_insides_of_a_network_are_drawn_once_a_machine(tmp_path):
    times = {1: 9.0, 2: 5.0, 4: 6.0}
    ours = [made.measurement("k3", "tvm_bnn", ms, threads=n, layers=made.calls()) for n, ms in times.items()]
    board = made.measurement("k3", "tvm_bnn", 90.0, machine=made.BOARD, layers=made.calls())
    machines = {made.HERE: made.machine(), made.BOARD: made.machine()}
    report = made.small(*ours, board).model_copy(update={"machines": machines})
    names = [each.name for each in pictures.pictures(report, tmp_path) if each.name.startswith("layers")]
    assert names == ["layers-k3-in-tvm-bnn-desk-zen-2-threads", "layers-k3-in-tvm-bnn-cortex-a72-2-threads"]


def test_letters_are_large_enough_on_a_phone(drawn):
    for each in drawn:
        width = each.figure.get_size_inches()[0]
        assert {text.get_fontsize() * PHONE / width >= SMALLEST for text in letters(each.figure)} == {True}, each.name


def test_nothing_is_cut_off(drawn):
    for each in drawn:
        width, height = each.figure.get_size_inches()
        used = each.figure.get_tightbbox()
        assert -0.01 < used.x0 < used.x1 < width + 0.01, each.name
        assert -0.01 < used.y0 < used.y1 < height + 0.01, each.name


def test_numbers_of_axes_do_not_overlap(drawn):
    for each in drawn:
        for axis in (axis for axes in each.figure.axes if axes.axison for axis in (axes.xaxis, axes.yaxis)):
            low, high = sorted(axis.get_view_interval())
            shown = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            boxes = [label.get_window_extent() for label in shown if label.get_visible() and label.get_text()]
            assert not any(one.overlaps(other) for one, other in combinations(boxes, 2)), each.name


def test_names_of_networks_do_not_overlap():
    members = [made.measurement(f"net{n}", "tvm_bnn", 1.0 + n, 80 + 0.01 * n) for n in range(8)]
    figure = accuracy.accuracy(
        made.task(), points(made.task(), members), accuracy.marks_of(["tvm_bnn"]), "eight of nearly equal accuracy"
    )
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(each) for each in figure.findobj(Annotation)]
    assert len(boxes) == 8
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_each_executor_has_a_marker_and_a_colour_of_its_own():
    marks = accuracy.marks_of([f"executor {number}" for number in range(12)])
    assert len(set(marks.values())) == 12
    assert len({marker for _, marker in marks.values()}) == 12


def test_lower_is_better_is_up():
    members = [made.measurement("shape", "tvm_bnn", 1.0, value, of=made.SALIENT) for value in (0.1, 0.2)]
    found = points(made.salient(), members)
    bottom, top = accuracy.accuracy(made.salient(), found, accuracy.marks_of(["tvm_bnn"]), "").axes[0].get_ylim()
    assert top < 0.1 < 0.2 < bottom


def test_bars_of_layers_add_up_to_all_time():
    calls = made.calls(binary=20)
    total, bars = layers.layers(calls, "many").axes
    everything = sum(each.ms for each in calls)
    assert sum(each.get_width() for each in total.patches) == pytest.approx(everything)
    assert sum(each.get_width() for each in bars.patches) == pytest.approx(everything)
    assert len(bars.patches) == layers.TOP + 1


def test_kernels_are_binary_where_words_of_bits_outweigh_float():
    call = made.calls()[0]
    kinds = {
        "float": {"binary_macs": 640, "float_macs": 11},
        "binary": {"binary_macs": 640, "float_macs": 9},
        "other": {"binary_macs": 0, "float_macs": 0},
    }
    assert [style.kind_of(call.model_copy(update=macs)) for macs in kinds.values()] == list(kinds)


def test_roofline_shows_kernels_that_multiply_at_their_rates():
    calls = roofline.counted(made.calls())
    assert [each.kernel for each in calls] == ["conv2d", "bconv2d0", "bconv2d1", "bconv2d2", "bconv2d3"]
    figure = roofline.roofline(calls, made.machine().limits["2"], "")
    offsets = np.concatenate([each.get_offsets() for each in figure.axes[0].collections])
    stem = [88e6 / 410e3, 88e6 / 0.41e-3]
    assert any(np.allclose(each, stem) for each in offsets)
    assert len(offsets) == 5


@given(
    st.lists(st.tuples(st.integers(1, 100), st.integers(0, 8), st.integers(0, 4)), min_size=1, max_size=12)
)
def test_buffers_in_use_together_are_drawn_apart(drawings):
    buffers = [Buffer(bytes=size, first=first, last=first + length) for size, first, length in drawings]
    places = list(zip(buffers, memory.stacked(buffers), strict=True))
    for (one, low), (other, other_low) in combinations(places, 2):
        if one.first <= other.last and other.first <= one.last:
            assert low + one.bytes <= other_low or other_low + other.bytes <= low


def test_memory_reaches_from_the_first_to_the_last_call():
    plan = MemoryPlan(calls=["a", "b"], buffers=[Buffer(bytes=10, first=0, last=1)], planned_bytes=10, peak_bytes=10)
    (axes,) = memory.memory(plan, "").axes
    (box,) = axes.patches
    assert (box.get_x(), box.get_x() + box.get_width()) == axes.get_xlim() == (-0.5, 1.5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.01, 0.3))
def test_labels_keep_their_distance_and_their_order(wanted, gap):
    found = style.apart(wanted, gap, 0.0, 1.0)
    order = sorted(range(len(wanted)), key=lambda number: wanted[number])
    room = min(gap, 1 / max(1, len(wanted) - 1))
    assert all(found[b] - found[a] >= room - 1e-9 for a, b in pairwise(order))
    assert all(-1e-9 <= each <= 1 + 1e-9 for each in found)


def test_long_texts_keep_both_ends():
    assert style.shortened("encoder.stages.0.0.conv", 11) == "encod….conv"
    assert style.shortened("short", 11) == "short"
    assert all(len(line) <= 20 for line in style.wrapped("one " * 20 + "x" * 50, 20))


def test_samples_without_files_are_left_out(tmp_path):
    assert not any(each.name.startswith("sample") for each in pictures.pictures(made.whole(), tmp_path))


@pytest.mark.parametrize(
    "report",
    [
        made.empty(),
        made.small(),
        made.small(made.measurement("k3", "tvm_bnn", 1.0, layers=made.calls()[-1:])),
        PAIR,
        made.empty().model_copy(update={"ablations": [{}, {"runs": [{}]}]}),
    ],
)
def test_little_content_is_drawn_too(report, tmp_path):
    for each in pictures.pictures(report, tmp_path):
        each.figure.draw_without_rendering()


def test_the_same_figure_gives_the_same_files(tmp_path):
    report = PAIR
    one, other = (pictures.svg(next(pictures.pictures(report, tmp_path)).figure) for _ in range(2))
    assert one == other
    assert b"<svg" in one


@pytest.mark.parametrize("name", ["道路", "$x^2$ and $", "a\\b {c} %d", "_hidden", "<&>"])
def test_any_name_can_be_drawn(name, tmp_path):
    report = made.small(*(made.measurement("k3", each, 1.0, 80.0, layers=made.calls()) for each in (name, "tvm_bnn")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for each in pictures.pictures(report, tmp_path):
            ElementTree.fromstring(pictures.svg(each.figure))
            assert name == "道路" or any(name in text.get_text() for text in letters(each.figure))


def test_files_are_whole_and_of_both_kinds(tmp_path):
    figure = next(pictures.pictures(PAIR, tmp_path)).figure
    content = pictures.save(figure, tmp_path / "k=1.5")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["k=1.5.png", "k=1.5.svg"]
    assert (tmp_path / "k=1.5.svg").read_bytes() == content
    width, _ = Image.open(io.BytesIO((tmp_path / "k=1.5.png").read_bytes())).size
    assert width == style.WIDTH * pictures.RESOLUTION
