"""Interleaving, medians and refused ratios, by a clock that only the competitors move."""

import pytest

from tvm_bnn.report.timing import LOOK, MOST_LOOKS, Seconds, Timing, interleave, ratio, ratio_text, repeated, settle


class FakeTime:
    """A clock that the competitors advance, and a record of who ran when."""

    def __init__(self):
        self.now = 0.0
        self.events = []

    def clock(self):
        return self.now

    def settle(self):
        self.events.append("settle")
        self.now += 10.0

    def competitor(self, name, *durations):
        """Takes the given seconds, one after the other; the last one again and again."""
        left = list(durations)

        def run():
            self.events.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_competitors_take_turns_of_two_runs_when_the_last_one_has_come_to_rest():
    fake = FakeTime()
    competitors = {name: fake.competitor(name, 1.0) for name in "ABC"}
    interleave(competitors, 2, warm_up=1, clock=fake.clock, settle=fake.settle)
    assert fake.events == ["settle", "A", "A", "settle", "B", "B", "settle", "C", "C"] * 3


def test_only_the_second_run_of_a_turn_counts_and_no_round_to_warm_up():
    fake = FakeTime()
    competitors = {"slow start": fake.competitor("slow start", 4.0, 3.0, 3.0, 1.0, 3.0, 2.0), "steady": lambda: None}
    found = interleave(competitors, 2, warm_up=1, clock=fake.clock, settle=fake.settle)
    assert found["slow start"].samples == (1.0, 2.0)
    assert found["steady"].samples == (0.0, 0.0)


def test_what_takes_very_long_runs_once():
    fake = FakeTime()
    competitors = {"slow": fake.competitor("slow", 30.0), "quick": fake.competitor("quick", 1.0)}
    found = interleave(competitors, 3, warm_up=1, clock=fake.clock, settle=fake.settle)
    assert fake.events.count("slow") == 1 and fake.events.count("quick") == 8
    assert (found["slow"].samples, found["slow"].spread) == ((30.0,), 0.0)


class Spinning:
    """A process whose threads spin until `end`, at the given share of the time; it has slept for `now` seconds."""

    def __init__(self, end, share):
        self.end, self.share, self.now = end, share, 0.0

    def sleep(self, seconds):
        self.now += seconds

    def cpu_time(self):
        return self.share * min(self.now, self.end)


@pytest.mark.parametrize(("end", "share", "waited"), [(0.0, 1.0, 1), (0.065, 1.0, 8), (0.065, 2.0, 8), (9.0, 0.05, 1)])
def test_rest_begins_with_the_first_look_without_work(end, share, waited):
    process = Spinning(end, share)
    settle(process.cpu_time, lambda: process.now, process.sleep)
    assert process.now == pytest.approx(waited * LOOK)


def test_a_process_that_never_rests_is_waited_for_in_vain_and_not_for_ever():
    process = Spinning(1e9, 1.0)
    settle(process.cpu_time, lambda: process.now, process.sleep)
    assert process.now == pytest.approx(MOST_LOOKS * LOOK)


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds is 0; at least 1"):
        interleave({"A": lambda: None}, 0)


def test_median_and_spread():
    timing = Timing((4.0, 1.0, 2.0, 3.0, 100.0))
    # sorted 1 2 3 4 100: quartiles 2 and 4
    assert timing.median == 3.0
    assert timing.spread == pytest.approx(2 / 3)
    assert Timing((5.0,)).spread == 0.0


def test_one_outlier_does_not_forbid_a_ratio():
    steady, disturbed = Timing((2.0,) * 9), Timing((1.0,) * 8 + (50.0,))
    assert ratio(steady, disturbed) == 2.0
    assert ratio_text(steady, disturbed) == "2.00x"


@pytest.mark.parametrize("wide_first", [True, False])
def test_a_wide_spread_on_either_side_forbids_the_ratio(wide_first):
    wide, narrow = Timing((1.0, 1.1, 1.3, 1.5, 1.6)), Timing((2.0,) * 5)
    pair = (wide, narrow) if wide_first else (narrow, wide)
    assert ratio(*pair) is None
    assert ratio_text(*pair) == "no ratio (spread 31%)"
    assert ratio(*pair, limit=0.5) == (0.65 if wide_first else pytest.approx(2 / 1.3))


def test_a_run_that_timed_itself_is_believed():
    ticks = iter(range(100))
    timings = interleave({"itself": lambda: Seconds(0.25)}, 3, clock=lambda: next(ticks), settle=lambda: None)
    assert timings["itself"].samples == (0.25,) * 3


def test_a_repeated_run_fills_its_turn_and_gives_the_median():
    now, calls = [0.0], []
    took = iter([5.0, 2.0, 1.0, 2.0, 7.0, 4.0])  # two to begin with, four in 9 seconds

    def run():
        calls.append(now[0])
        now[0] += next(took)

    timed = repeated(run, turn=9.0, clock=lambda: now[0])
    assert len(calls) == 2
    assert timed() == 3.0
    assert len(calls) == 6


def test_a_repeated_run_that_timed_itself_is_believed():
    found = repeated(lambda: Seconds(0.5), turn=1e-9)()
    assert isinstance(found, Seconds) and found == 0.5
