"""Energy from counters in files that a test writes."""

import pytest

from tvm_bnn.report.compare.energy import meter, millijoules

HIGHEST = 999_999


def counter(root, name, value):
    folder = root / name
    folder.mkdir()
    (folder / "energy_uj").write_text(f"{value}\n")
    (folder / "max_energy_range_uj").write_text(f"{HIGHEST}\n")
    return folder / "energy_uj"


def test_none_where_there_is_no_counter_or_it_cannot_be_read(tmp_path):
    assert meter(tmp_path) is None
    counter(tmp_path, "intel-rapl:0", 1).unlink()
    assert meter(tmp_path) is None


def test_processors_count_and_their_parts_do_not(tmp_path):
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "intel-rapl-mmio:0"):
        counter(tmp_path, name, 5)
    assert len(meter(tmp_path).counters) == 2


def test_energy_of_a_run_also_where_a_counter_begins_anew(tmp_path):
    # 400,000 microjoules a run; the second one goes past the end
    file = counter(tmp_path, "intel-rapl:0", 500_000)
    seconds = iter(range(100))

    def run():
        file.write_text(str((int(file.read_text()) + 400_000) % (HIGHEST + 1)))

    # one run before, then two: 2 s at a second each
    assert millijoules(run, meter(tmp_path), lambda: next(seconds), 3) == pytest.approx(400)
