"""The folders, setup.cfg and the wheel agree."""

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "tvm_bnn": "tvm_bnn",
    "schedules": "tvm_bnn.schedules",
    "relay_passes": "tvm_bnn.relay_passes",
    "examples": "tvm_bnn.examples",
    "tuning_logs": "tvm_bnn.tuning_logs",
}


def _modules() -> dict[str, str]:
    """Every Python file of the package, as path inside the wheel -> package it belongs to."""
    found = {}
    for folder, package in SOURCES.items():
        for path in (ROOT / folder).rglob("*.py"):
            inner = path.relative_to(ROOT / folder)
            owner = ".".join([package, *inner.parent.parts])
            found[f"{owner.replace('.', '/')}/{path.name}"] = owner
    return found


def _config() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def _options() -> configparser.SectionProxy:
    return _config()["options"]


def _data_files() -> set[str]:
    """Every file that setup.cfg declares as data of a package, as path inside the wheel."""
    found = set()
    for package, patterns in _config()["options.package_data"].items():
        owner = max((name for name in SOURCES.values() if f"{package}.".startswith(f"{name}.")), key=len)
        folder = next(folder for folder, name in SOURCES.items() if name == owner)
        place = ROOT.joinpath(folder, *package.removeprefix(owner).strip(".").split("."))
        prefix = package.replace(".", "/")
        for pattern in patterns.split():
            found |= {f"{prefix}/{path.relative_to(place).as_posix()}" for path in place.glob(pattern)}
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the checkout stays clean."""
    copy = tmp_path_factory.mktemp("source")
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ["setup.cfg", "pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, copy)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = out.glob("*.whl")
    return path


def test_setup_cfg_lists_every_package():
    assert sorted(_options()["packages"].split()) == sorted(set(_modules().values()))


def test_every_package_has_an_init_file():
    modules = _modules()
    assert sorted(set(modules.values())) == sorted(
        owner for path, owner in modules.items() if path.endswith("/__init__.py")
    )


def test_folders_are_mapped_into_the_package():
    pairs = [line.split("=") for line in _options()["package_dir"].strip().splitlines()]
    mapped = {folder.strip(): package.strip() for package, folder in pairs}
    assert mapped == {folder: package for folder, package in SOURCES.items() if folder != package}


def test_wheel_holds_modules_and_data_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == set(_modules()) | _data_files()


def test_wheel_imports_from_a_clean_folder(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[2:]:\n"
        "    module = importlib.import_module(name)\n"
        "    assert module.__file__.startswith(sys.argv[1]), (name, module.__file__)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), *sorted(set(_modules().values()))]
    result = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
