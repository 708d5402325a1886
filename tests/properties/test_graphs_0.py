"""Random graphs 0 to 499."""

from tests.properties.suite import check_group, check_reach

GRAPHS = range(0, 500)


def test_same_bits(group):
    check_group(group)


def test_everything_occurs():
    check_reach(GRAPHS)
