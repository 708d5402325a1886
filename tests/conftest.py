"""Every test runs against this checkout, and draws the same random cases each time."""

import configparser
import importlib.util
import signal
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

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
