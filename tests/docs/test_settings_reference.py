"""The settings reference in the documentation is made from the settings themselves."""

from __future__ import annotations

import re
import sys
from dataclasses import Field, fields
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from pyramid_sqlsession.settings.options import Settings

pytest.importorskip("sphinx")

# what Sphinx and docutils warn of is not ours
pytestmark = pytest.mark.filterwarnings("default")

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONF = "extensions = ['settings_reference']\nsmartquotes = False\n"
SHOWN = {"none": ("none", "unset")}
OPTIONS = [pytest.param(option, id=option.name) for option in fields(Settings)]


def build(folder: Path, text: str) -> tuple[str, str]:
    """A page as HTML, and the warnings of its build."""
    from sphinx.application import Sphinx

    (folder / "conf.py").write_text(CONF)
    (folder / "index.rst").write_text(f"Settings\n========\n\n{text}\n")
    warnings = StringIO()
    sys.path.insert(0, str(DOCS))
    try:
        out, trees = folder / "out", folder / "trees"
        Sphinx(folder, folder, out, trees, "html", status=None, warning=warnings).build()
    finally:
        sys.path.remove(str(DOCS))
    return (out / "index.html").read_text(), warnings.getvalue()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference on a page of its own."""
    folder = tmp_path_factory.mktemp("reference")
    html, warnings = build(folder, ".. settings-reference::\n\nSee :setting:`ttl`.")
    assert not warnings
    return html


def entry(page: str, name: str) -> str:
    """The text of one setting's entry."""
    anchor = f'<dt id="setting-{name.replace("_", "-")}">'
    found = re.search(re.escape(anchor) + r"(.*?</dd>)", page, re.DOTALL)
    assert found, f"{name} is not on the page"
    return " ".join(unescape(re.sub(r"<[^>]+>", "", found[1])).split())


@pytest.mark.parametrize("option", OPTIONS)
def test_every_setting_is_in_the_reference(page: str, option: Field[Any]) -> None:
    text = entry(page, option.name)
    assert text.startswith(f"sqlsession.{option.name}")
    for part in ("meaning", "allowed"):
        assert " ".join(option.metadata[part].replace("``", "").split()) in text
    default = option.metadata["default"]
    assert any(f". Default: {shown}." in text for shown in SHOWN.get(default, (default,)))


@pytest.mark.parametrize(
    ("name", "shown"),
    [("dbsession", "unset"), ("touch_interval", "unset"), ("absolute_ttl", "none")],
)
def test_a_setting_that_is_unset_is_not_said_to_be_none(page: str, name: str, shown: str) -> None:
    assert entry(page, name).endswith(f"Default: {shown}.")


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.id != "sqlalchemy"])
def test_every_default_in_the_reference_is_the_one_that_is_used(option: Field[Any]) -> None:
    assert option.metadata["convert"](option.metadata["default"]) == option.default
    assert getattr(Settings(), option.name) == option.default


def test_the_reference_can_be_referred_to(page: str) -> None:
    assert 'href="#setting-ttl"' in page
    assert '<span class="pre">sqlsession.ttl</span>' in page


def test_a_reference_to_an_unknown_setting_is_a_warning(tmp_path: Path) -> None:
    assert "tll" in build(tmp_path, "See :setting:`tll`.")[1]
