"""Decisions of templates: by default, drawn, or given by a record."""

import json
import random
from typing import NamedTuple

import pytest

from tvm_bnn.schedules.decide import DecisionError, Drawn, Given, Noted, Tried, by_default


class Tile(NamedTuple):
    pixels: int
    vectors: int


TILES = [Tile(1, 1), Tile(4, 4), Tile(8, 2)]


def template(decide):
    """Two decisions, the second of which depends on the first; its default is no option of its own."""
    tile = decide("tile", TILES, TILES[1])
    return tile, decide("rows", range(1, tile.pixels + 1), 0)


def test_defaults_are_the_templates_own():
    noted = Noted()
    assert template(by_default) == template(noted) == (Tile(4, 4), 0)
    assert noted.taken == {"tile": [4, 4], "rows": 0}


@pytest.mark.parametrize("parents", [[{}], [{}, {"tile": [8, 2], "rows": 3}, {"tile": [1, 1], "rows": 7}]])
def test_every_leaf_is_drawn_once_and_can_be_given(parents):
    tried, generator, seen = Tried(), random.Random(0), []
    while not tried.all:
        drawn = Drawn(generator, tried, generator.choice(parents))
        seen.append(template(drawn))
        tried.take(drawn)
        assert template(Given(json.loads(json.dumps(drawn.taken)))) == seen[-1]
    assert len(seen) == len(set(seen)) == 2 + 5 + 9
    with pytest.raises(DecisionError, match="all was tried"):
        template(Drawn(generator, tried))


def test_a_leaf_that_is_given_back_is_drawn_again():
    tried, generator = Tried(), random.Random(0)
    leaves = [Drawn(generator, tried) for _ in range(16)]
    for drawn in leaves:
        template(drawn)
        tried.take(drawn)
    assert tried.all
    tried.give_back(leaves[5].taken)
    again = Drawn(generator, tried)
    template(again)
    assert again.taken == leaves[5].taken and not tried.all


def test_what_is_near_a_parent_differs_in_one_decision():
    parent = {"tile": [8, 2], "rows": 3}
    for seed in range(50):
        drawn = Drawn(random.Random(seed), Tried(), parent)
        template(drawn)
        assert drawn.taken["tile"] == [8, 2] or drawn.taken["rows"] == 3 or drawn.taken["tile"][0] < 3


def test_a_template_without_decisions_has_one_leaf():
    tried = Tried()
    tried.take(Noted())
    assert tried.all


def test_a_name_is_asked_once():
    noted = Noted()
    noted("rows", [1], 1)
    with pytest.raises(AssertionError, match="twice"):
        noted("rows", [1], 1)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"tile": [4, 4]}, "no decision 'rows'"),
        ({"tile": [5, 5], "rows": 1}, r"tile: found \[5, 5\], which the template does not offer"),
        ({"tile": [4, 4], "rows": 5}, "rows: found 5"),
    ],
)
def test_other_records_are_refused(record, message):
    with pytest.raises(DecisionError, match=message):
        template(Given(record))
