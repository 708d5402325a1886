"""Random graphs 1500 to 1999."""

from tests.properties.suite import check_group, check_reach

GRAPHS = range(1500, 2000)


def test_same_bits(group):
    check_group(group)


def test_everything_occurs():
    check_reach(GRAPHS)
