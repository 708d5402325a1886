"""Random graphs 1000 to 1499."""

from tests.properties.suite import check_group, check_reach

GRAPHS = range(1000, 1500)


def test_same_bits(group):
    check_group(group)


def test_everything_occurs():
    check_reach(GRAPHS)
