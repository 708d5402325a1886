"""Every test runs against this checkout, and draws the same random cases each time."""

import configparser
import importlib.util
import os
import signal
from pathlib import Path

# Tests are many processes already, and threads that wait for each other's processor spin. Before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent
TESTS = Path(__file__).resolve().parent
#: Files that take longest are begun first, since each is the work of one process.
LONGEST = (
    "examples/test_conversion.py", "schedules/test_neon.py", "schedules/test_upsampled_branches.py",
    "networks/test_networks.py", "test_emulated_arm.py", "schedules/test_matrix_conv.py",
    "schedules/test_upsampled_conv.py", "properties/test_graphs_0.py", "properties/test_graphs_500.py",
    "idioms/test_idioms.py", "tuning/test_tuning.py", "tuning/test_candidates.py", "examples/test_demo.py",
    "schedules/test_masked_conv.py", "schedules/test_random_graphs.py", "emulated/test_armv7.py",
)  # fmt: skip

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def declared_packages() -> list[str]:
    """The packages that setup.cfg installs."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config["options"]["packages"].split()


def packages_from_elsewhere() -> list[str]:
    """Declared packages that Python would not import from this checkout, with the place found."""
    strays = []
    for name in declared_packages():
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec is not None else None
        if origin is None or not Path(origin).resolve().is_relative_to(ROOT):
            strays.append(f"{name}: {origin or 'not found'}")
    return strays


def pytest_sessionstart(session: pytest.Session) -> None:
    """Stop before the first test if a package would come from another place."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in a shell's background, which children inherit
        signal.signal(signal.SIGINT, signal.default_int_handler)
    strays = packages_from_elsewhere()
    if strays:
        pytest.exit(
            f"these packages do not come from {ROOT}: {'; '.join(strays)}; try `pip install --no-deps -e .`",
            returncode=4,
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of LONGEST first."""
    place = {TESTS / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
