"""What a first release needs: the facts that only the owner knows, bounds, GitHub's files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import release

ROOT = Path(__file__).parents[2]
PROJECT = ["pyproject.toml", "README.rst", "SECURITY.rst", "CHANGES.rst"]
OPTIONAL = {"cli", "demo", "encryption"}
"""The extras of those who use the package; the others are of those who work on it."""

FACTS = {
    "pyproject.toml": [
        ('authors = [{ name = "pyramid_sqlsession contributors" }]',
         'authors = [{ name = "Somebody", email = "somebody@pylons.test" }]'),
        ("[project.scripts]",
         "[project.urls]\n"
         + "".join(f'{name} = "https://sqlsession.test/{name}"\n' for name in release.URLS)
         + "\n[project.scripts]"),
    ],
    "README.rst": [("https://pyramid-sqlsession.example/", "https://sqlsession.test/")],
    "SECURITY.rst": [("to the maintainers.", "to security@pylons.test.")],
    "CHANGES.rst": [("(unreleased)", "(2030-01-01)")],
}  # fmt: skip


@pytest.fixture
def filled_in(tmp_path: Path) -> Path:
    """A copy of what the check reads, with every fact in its place."""
    for name in PROJECT:
        text = (ROOT / name).read_text()
        for old, new in FACTS[name]:
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_nothing_is_missing_once_the_owner_has_filled_in_the_facts(filled_in: Path) -> None:
    assert release.missing(filled_in) == []


@pytest.mark.parametrize("name", PROJECT)
def test_a_fact_that_is_not_filled_in_is_named_with_its_file(filled_in: Path, name: str) -> None:
    text = (ROOT / name).read_text()
    if name == "CHANGES.rst":
        text = re.sub(r"\(20\d\d-\d\d-\d\d\)", "(unreleased)", text, count=1)
    (filled_in / name).write_text(text)
    lines = release.missing(filled_in)
    assert lines
    assert {line.partition(":")[0] for line in lines} == {name}


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
