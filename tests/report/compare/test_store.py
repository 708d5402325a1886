"""What is measured once is found again, under the very same key alone."""

import json

import pytest

from tvm_bnn.errors import OutputError
from tvm_bnn.report.compare.store import Store, source_digest


class Counting:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"value": (1.5, self.calls)}


def test_found_again_in_another_run_as_the_same_data(tmp_path):
    measure, key = Counting(), {"machine": {"cpu": "x"}, "threads": 2}
    first = Store(tmp_path).get("times", key, measure)
    again = Store(tmp_path).get("times", dict(reversed(key.items())), measure)
    assert measure.calls == 1 and first == again == {"value": [1.5, 1]}
    assert Store(tmp_path).get("times", key, lambda: pytest.fail("measured again")) == first


@pytest.mark.parametrize("other", [{"threads": 1}, {"threads": 2, "more": 1}, {}])
def test_another_key_is_another_measurement(tmp_path, other):
    measure = Counting()
    Store(tmp_path).get("times", {"threads": 2}, measure)
    Store(tmp_path).get("times", other, measure)
    Store(tmp_path).get("memory", {"threads": 2}, measure)
    assert measure.calls == 3


def test_fresh_measures_again_once(tmp_path):
    measure = Counting()
    Store(tmp_path).get("times", {}, measure)
    fresh = Store(tmp_path, fresh=True)
    assert fresh.get("times", {}, measure) == fresh.get("times", {}, measure) == {"value": [1.5, 2]}
    assert measure.calls == 2


def test_damaged_and_exchanged_files_are_measured_again(tmp_path):
    measure, store = Counting(), Store(tmp_path)
    store.get("times", {"a": 1}, measure)
    (file,) = tmp_path.glob("*.json")
    file.write_text(file.read_text()[:-20])
    store.get("times", {"a": 1}, measure)
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "key": {"a": 2}}))
    store.get("times", {"a": 1}, measure)
    assert measure.calls == 3


def test_interrupted_measurement_leaves_nothing(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).get("times", {}, interrupted)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        Store(tmp_path / "file" / "store")


def test_digest_tells_the_source():
    assert source_digest() == source_digest() and len(source_digest()) == 16
