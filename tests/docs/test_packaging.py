"""What is released: what is in it, and that it works where nothing else is installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from support.processes import served_demo

ROOT = Path(__file__).parents[2]

SHOP = """
from pyramid.config import Configurator

def main(global_config, **settings):
    return Configurator(settings=settings).make_wsgi_app()
"""

INI = """
[app:main]
paste.app_factory = shop:main
pyramid.includes = pyramid_sqlsession
sqlsession.sqlalchemy.url = sqlite:///%(here)s/sessions.sqlite
sqlsession.encryption_keys = MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=
"""


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the tree is built into, the wheel from the sources."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def wheel(released: Path) -> Path:
    """The wheel."""
    (path,) = released.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """What the wheel says of itself."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(opened.read(name))


def test_an_index_takes_what_is_released(released: Path) -> None:
    files = [str(path) for path in released.iterdir()]
    assert len(files) == 2
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_version_is_the_newest_one_of_the_changes(metadata: Message) -> None:
    found = re.search(r"^(\S+) \((\d{4}-\d\d-\d\d|unreleased)\)$",
                      (ROOT / "CHANGES.rst").read_text(), re.MULTILINE)  # fmt: skip
    assert found is not None
    assert metadata["Version"] == found[1]


def test_an_application_that_installs_it_gets_five_packages_and_no_extra(metadata: Message) -> None:
    required = [each for each in metadata.get_all("Requires-Dist", []) if "extra ==" not in each]
    names = sorted(re.split(r"[^\w.]", each)[0].lower() for each in required)
    assert names == ["pyramid", "pyramid_tm", "sqlalchemy", "transaction", "zope.sqlalchemy"]
    assert {"cli", "docs", "encryption", "testing"} <= set(metadata.get_all("Provides-Extra", []))


def test_the_sources_hold_all_that_the_tree_is_tested_with(released: Path) -> None:
    (path,) = released.glob("*.tar.gz")
    with tarfile.open(path) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    wanted = {"setup.py", "README.rst", "CHANGES.rst", "LICENSE", "Makefile", "tox.ini"}
    wanted |= {"CODE_OF_CONDUCT.rst", "RELEASING.rst", "SECURITY.rst"}
    wanted |= {".readthedocs.yaml", ".github/workflows/tests.yml"}
    wanted |= {"docs/index.rst", "tests/conftest.py", "tests/support/install_servers.sh"}
    assert wanted <= names
    assert not [name for name in names if name.startswith("docs/_build") or ".sqlite" in name]


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
    return installed(tmp_path_factory.mktemp("venv"), f"{wheel}[demo]")


def installed(environment: Path, *requirements: str) -> Path:
    """The folder, made a virtual environment with these packages and what they need."""
    venv.create(environment, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", *requirements], check=True, capture_output=True)
    return environment


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


def test_the_wheel_installs_a_command_that_says_what_is_wrong(environment: Path) -> None:
    command = environment / "bin" / "pyramid_sqlsession"
    ran = subprocess.run([command, "shop.ini", "stats"], capture_output=True, text=True)
    assert ran.returncode == 2
    assert "cannot load shop.ini: no such file" in ran.stderr


def test_its_extras_bring_what_they_are_for(wheel: Path, tmp_path: Path) -> None:
    requirements = f"{wheel}[cli,encryption]", "plaster_pastedeploy"
    binaries = installed(tmp_path / "environment", *requirements) / "bin"
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "shop.ini").write_text(INI)
    for command in (["create-table"], ["stats", "--json"]):
        ran = subprocess.run(
            [binaries / "pyramid_sqlsession", tmp_path / "shop.ini", *command],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(tmp_path)},
        )
        assert ran.returncode == 0, ran.stderr
    assert '"live": 0' in ran.stdout
