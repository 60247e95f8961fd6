"""What a first release needs: the facts that only the owner knows, bounds, GitHub's files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import release

ROOT = Path(__file__).parents[2]
OPTIONAL = {"cli", "demo", "encryption"}
"""The extras of those who use the package; the others are of those who work on it."""

COMPLETE = {
    "pyproject.toml": "[project]\nversion = '2.1'\nauthors = [{email = 'me@pylons.test'}]\n"
    "[project.urls]\n" + "".join(f"{name} = 'https://it.test/{name}'\n" for name in release.URLS),
    "README.rst": "https://it.test/Documentation/settings.html",
    "SECURITY.rst": "write to security@pylons.test.",
    "CHANGES.rst": "2.1 (2030-01-01)\n----\n",
}
"""What is looked at, with every fact in its place."""

WITHOUT = {
    "no email address of an author": ("pyproject.toml", "me@pylons.test", ""),
    "a placeholder for one": ("pyproject.toml", "me@pylons.test", "me@pylons.example"),
    "no address of the code": ("pyproject.toml", "Source = ", "Code = "),
    "a placeholder for the documentation's": ("pyproject.toml", "it.test/D", "it.example/D"),
    "a placeholder in links": ("README.rst", "it.test", "it.example"),
    "no address for reports": ("SECURITY.rst", "security@pylons.test", "us"),
    "no day": ("CHANGES.rst", "2030-01-01", "unreleased"),
    "another version": ("CHANGES.rst", "2.1", "2.0"),
}


@pytest.fixture
def filled_in(tmp_path: Path) -> Path:
    """A folder in which nothing is missing."""
    for name, text in COMPLETE.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_nothing_is_missing_once_the_owner_has_filled_in_the_facts(filled_in: Path) -> None:
    assert release.missing(filled_in) == []


@pytest.mark.parametrize(("name", "old", "new"), WITHOUT.values(), ids=WITHOUT)
def test_a_fact_that_is_not_filled_in_is_named_with_its_file(
    filled_in: Path, name: str, old: str, new: str
) -> None:
    text = COMPLETE[name].replace(old, new)
    assert text != COMPLETE[name]
    (filled_in / name).write_text(text)
    (line,) = release.missing(filled_in)
    assert line.startswith(f"{name}: ")


def test_every_file_with_a_missing_fact_is_on_the_page_about_releasing() -> None:
    page = (ROOT / "RELEASING.rst").read_text()
    assert all(f"``{name}``" in page for name in COMPLETE)
    assert {line.partition(":")[0] for line in release.missing(ROOT)} <= set(COMPLETE)


def test_every_lower_bound_is_installed_by_an_environment_of_tox() -> None:
    project = release.described(ROOT)
    required = [*project["dependencies"]]
    for extra in OPTIONAL:
        required += project["optional-dependencies"][extra]
    bounds = {each.replace(">=", "==") for each in required}
    pinned = re.findall(r"^    lowest: (\S+==\S+)$", (ROOT / "tox.ini").read_text(), re.MULTILINE)
    assert all("==" in each for each in bounds)
    assert set(pinned) == bounds


@pytest.mark.parametrize(
    ("schema", "pattern"),
    [
        ("github-workflows", ".github/workflows/*.yml"),
        ("dependabot", ".github/dependabot.yml"),
        ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/[!c]*.yml"),
        ("readthedocs", ".readthedocs.yaml"),
    ],
)
def test_the_files_of_services_are_as_those_want_them(schema: str, pattern: str) -> None:
    files = [str(path) for path in ROOT.glob(pattern)]
    assert files
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    checked = subprocess.run([*checker, *files], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_workflow_runs_environments_that_tox_has() -> None:
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    names = re.findall(r"environment: (\S+) ", workflow)
    assert len(names) > 5
    factors = "lowest|sqlalchemy2[01]-pyramid2[01]"
    assert all(re.fullmatch(rf"py31[0-5]-({factors})-lean", name) for name in names)
