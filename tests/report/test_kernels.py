"""One small kernel's row, measured with every peer that is installed; the rest from given figures."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tvm_bnn.report import kernels, tables
from tvm_bnn.report.kernel_cases import Layer, nearest, packing, to_bits, to_float
from tvm_bnn.report.kernels import UNFUSED, measure, work_of
from tvm_bnn.report.machine import MB, Limits
from tvm_bnn.report.peers import BinaryPeer, openvino_binary, pytorch_eager
from tvm_bnn.report.rows import OURS
from tvm_bnn.report.timing import MAX_SPREAD, Seconds
from tvm_bnn.targets import available_cpus

LIMITS = Limits(1, 1e12, 1e11, None, {MB: 1e11, 16 * MB: 2e10})
LAYER = Layer((6, 7, 64), 32)


def refuse(layer, residual, threads):
    raise RuntimeError("Exception from the library:\n\nno such layer here\n")


@pytest.fixture(scope="module")
def rows():
    chosen = [to_float(LAYER, "b"), packing((6, 7, 64), True)]
    always = BinaryPeer("always", (), lambda layer, residual, threads: lambda: Seconds(0.25 if residual else 0.5))
    others = [always, BinaryPeer("never", (), refuse), BinaryPeer("absent", ("no_such_module_here",), refuse)]
    return measure(chosen, {1: LIMITS}, [pytorch_eager.PEER], 3, binary_peers=others)


def test_rows_have_every_field_as_plain_data(rows):
    for row in rows:
        assert set(row) == set(kernels.Row.__annotations__)
        assert (row["suite"], row["threads"], row["rounds"]) == ("kernels", 1, 3)
    assert json.loads(json.dumps(rows)) == rows
    assert [row["name"] for row in rows] == ["b-6x7x64-float", "pack-nhwc-6x7x64"]


def test_peers_that_have_the_layer_take_part_and_the_others_say_why(rows):
    layer, pack = rows
    assert set(layer["peers"]) == set(layer["ratios"]) == {"pytorch-eager", "always"}
    assert layer["peers"]["always"] == 250.0
    assert layer["left_out"] == {"never": "no such layer here"}
    assert (pack["peers"], pack["ratios"], pack["left_out"]) == ({}, {}, {})
    assert layer["spread"] == max(layer["spreads"].values()) and set(layer["spreads"]) == {OURS, *layer["peers"]}
    said = tables.notes([layer], {})
    assert "b-6x7x64-float, 1 thread: left out: never: no such layer here" in said


def test_a_row_about_sharing_is_compared_with_ours_without_it():
    (row,) = measure([nearest((4, 6, 32), 2)], {1: LIMITS}, [], 3, binary_peers=[])
    assert set(row["peers"]) == set(row["ratios"]) == {UNFUSED}
    assert tables.rows([row], [UNFUSED]).columns[-2].header == UNFUSED


def test_rows_name_the_kernel_and_its_share_of_the_limit(rows):
    layer, pack = rows
    assert (layer["kernel"], pack["kernel"]) == ("bconv2d", "elementwise")
    for row in rows:
        assert row["ceiling_fraction"] == pytest.approx(row["limit_ms"] / row["ours_ms"])
    assert layer["valid_taps"] == pytest.approx(LAYER.valid_taps) and pack["valid_taps"] is None
    assert (layer["binary_macs"], layer["map_bytes"]) == (6 * 7 * 32 * 64 * 9, 2 * 6 * 7 * 32 * 4)


def test_the_limit_of_bits_to_bits_is_arithmetic_and_that_of_packing_bandwidth():
    assert work_of(to_bits(LAYER, "b")).seconds(LIMITS) == LAYER.macs / 1e12
    large = packing((128, 512, 64), True)
    assert work_of(large).seconds(LIMITS) == 16 * MB / 2e10
    residual = work_of(to_float(LAYER, "b")).seconds(LIMITS)
    assert residual == pytest.approx(LAYER.macs / 1e12 + 2 * 6 * 7 * 32 * 4 / 1e11)


def test_rows_whose_limit_is_bandwidth_are_named(rows):
    layer, pack = rows
    assert (layer["bound"], pack["bound"]) == ("compute", "bandwidth")
    assert "bound by bandwidth rather than by arithmetic: pack-nhwc-6x7x64" in tables.notes(rows, {})


def test_one_thread_has_no_scaling_and_more_are_compared_with_one():
    if available_cpus() < 2:
        pytest.skip("one CPU")
    limits = {count: replace(LIMITS, threads=count) for count in (1, 2)}
    one, two = measure([packing((6, 7, 64), True)], limits, [], 3)
    assert (one["scaling"], set(one["spreads"])) == (None, {OURS})
    alone = "tvm_bnn, 1 thread"
    assert set(two["spreads"]) == {OURS, alone} and two["peers"] == {}
    assert (two["scaling"] is None) == (max(two["spreads"].values()) > MAX_SPREAD)
    scaled = {**two, "scaling": 1.75}
    cells = {column.header: list(column.cells) for column in tables.rows([one, scaled], []).columns}
    assert cells["scaling"] == ["-", "1.75x"]
    assert not [note for note in tables.notes([one, scaled], {}) if "thread" in note]
    (note,) = (note for note in tables.notes([{**scaled, "scaling": 0.96}], {}) if "thread" in note)
    assert note.startswith("pack-nhwc-6x7x64, 2 threads: 0.96x as fast as one thread: its threads shared a core, if ")
    (note,) = (note for note in tables.notes([{**scaled, "scaling": None}], {}) if "scales" in note)
    assert note == "pack-nhwc-6x7x64, 2 threads: how it scales is not known, since times spread too far"


def test_the_table_shows_valid_taps_where_a_row_has_them(rows):
    table = tables.rows(rows, ["always"])
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells["valid taps"] == [f"{LAYER.valid_taps:.0%}", "-"]
    assert cells["always"][1] == "-" and cells["always"][0].startswith("250.0 (")


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("layer", [LAYER, Layer((9, 9, 33), 65, stride=2, dilation=2)], ids=str)
def test_openvinos_binary_convolution_counts_its_nodes(layer, residual):
    if (reason := openvino_binary.PEER.missing()) is not None:
        pytest.skip(reason)
    model = openvino_binary._model(layer, residual)
    height, width, filters = layer.out
    expected = [1, filters if residual else 8, height, width]
    assert list(model.output(0).shape) == expected
    names = {node.get_friendly_name() for node in model.get_ops()}
    wanted = {"layer", "scale", "shift", "residual"} if residual else {"layer", "threshold"}
    assert wanted <= names and set(openvino_binary.COUNTED) & names == wanted
    found = openvino_binary.prepare(layer, residual, 1)()
    assert isinstance(found, Seconds) and np.isfinite(found) and found > 0
