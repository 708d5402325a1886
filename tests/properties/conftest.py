"""Each file of this folder with ``GRAPHS`` checks that range of random graphs, a group at a time."""

import pytest

from tests.properties.numbered import groups_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a group."""
    if "group" in metafunc.fixturenames:
        groups = groups_of(metafunc.module.GRAPHS)
        names = [f"{group.graphs[0]}-{group.graphs[-1]}" for group in groups]
        metafunc.parametrize("group", groups, ids=names)
