"""The wheel: what is in it, and that it works where nothing else is installed."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from processes import served_demo

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the tree."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    package = ROOT / "pyramid_sqlsession"
    sources = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == sources
    assert "pyramid_sqlsession/py.typed" in names


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and what the demo needs."""
    path = tmp_path_factory.mktemp("venv") / "environment"
    venv.create(path, with_pip=True)
    subprocess.run(
        [path / "bin" / "python", "-m", "pip", "install", "--quiet", f"{wheel}[demo]"],
        check=True,
        capture_output=True,
    )
    return path


def test_the_wheel_serves_the_demo_in_an_empty_environment(
    environment: Path, tmp_path: Path
) -> None:
    python = environment / "bin" / "python"
    program = "import pyramid_sqlsession; print(pyramid_sqlsession.__file__)"
    where = subprocess.run(
        [python, "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout
    assert str(environment) in where
    with served_demo(environment / "bin" / "pserve", tmp_path) as fetch:
        assert "What would you like today?" in fetch("/")


def test_the_wheel_installs_a_command_that_says_what_else_it_needs(environment: Path) -> None:
    command = environment / "bin" / "pyramid_sqlsession"
    ran = subprocess.run([command, "shop.ini", "stats"], capture_output=True, text=True)
    assert ran.returncode == 2
    assert "pip install 'pyramid_sqlsession[cli]'" in ran.stderr
