"""Random graphs 500 to 999."""

from tests.properties.suite import check_group, check_reach

GRAPHS = range(500, 1000)


def test_same_bits(group):
    check_group(group)


def test_everything_occurs():
    check_reach(GRAPHS)
