"""The wheel: all modules and their data, and a command that runs where nothing else is."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("symbiosis", "stages", "flows")
KINDS = (".py", ".html", ".css", ".svg", ".js", ".md")


def in_tree() -> set[str]:
    """Modules of the three packages, their templates and pictures, and what pages load with its licences."""
    everything = (path for package in PACKAGES for path in (ROOT / package).rglob("*"))
    files = (path for path in everything if path.suffix in KINDS or path.name == "LICENSE")
    return {path.relative_to(ROOT).as_posix() for path in files}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the tree stays clean."""
    copy = tmp_path_factory.mktemp("wheel") / "tree"
    copy.mkdir()
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    built = subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", str(copy.parent), "."],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (path,) = copy.parent.glob("*.whl")
    return path


def test_the_wheel_holds_the_tree(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == in_tree()
    entry = next(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("entry_points.txt"))
    assert b"symbiosis = symbiosis.cli.app:main" in zipfile.ZipFile(wheel).read(entry)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_wheel_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Minutes: all pinned packages are installed anew."""
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-r", str(ROOT / "requirements.lock")], check=True)
    subprocess.run([*install, "--no-deps", str(wheel)], check=True)
    modules = sorted(
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in in_tree()
        if name.endswith(".py") and not name.endswith("__main__.py")
    )
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    subprocess.run([str(python), "-c", code, *modules], cwd=tmp_path, check=True)
    told = subprocess.run(
        [str(python.with_name("symbiosis")), "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith("Usage: symbiosis ")
