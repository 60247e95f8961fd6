"""The settings reference in the documentation is made from the settings themselves."""

from __future__ import annotations

import re
import sys
from base64 import b64encode
from configparser import ConfigParser
from dataclasses import Field, fields
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from pyramid_sqlsession.settings.options import Settings

pytest.importorskip("sphinx")

# what Sphinx and docutils warn of is not ours
pytestmark = pytest.mark.filterwarnings("default")

DOCS = Path(__file__).resolve().parents[2] / "docs"
# lines that begin with a space go on with the one before
LINE = re.compile(r"\n(?! )")
CONF = "extensions = ['settings_reference']\nsmartquotes = False\n"
SHOWN = {"none": ("none", "unset")}
OPTIONS = [pytest.param(option, id=option.name) for option in fields(Settings)]
GROUPS = list(dict.fromkeys(option.metadata["group"] for option in fields(Settings)))


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
    groups = "".join(f".. settings-reference:: {group}\n\n" for group in GROUPS)
    html, warnings = build(folder, f"{groups}See :setting:`ttl`.")
    assert not warnings
    return html


def entry(page: str, name: str) -> str:
    """The text of one setting's entry."""
    anchor = f'<dt class="sig sig-object std" id="setting-{name.replace("_", "-")}">'
    assert page.count(anchor) == 1
    html = page.partition(anchor)[2].partition('<dt class="sig')[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())


@pytest.mark.parametrize("option", OPTIONS)
def test_every_setting_is_in_the_reference(page: str, option: Field[Any]) -> None:
    text = entry(page, option.name)
    assert text.startswith(f"sqlsession.{option.name}")
    for part in ("meaning", "allowed"):
        assert " ".join(option.metadata[part].replace("``", "").split()) in text
    default = option.metadata["default"]
    shown = SHOWN.get(default, (default,))
    assert any(f"Default: {it} Keyword: {option.name}: " in text for it in shown)
    assert f"Keyword: {option.name}: {option.metadata['type']}" in text
    assert f" sqlsession.{' '.join(option.metadata['example'].split())[:20]}" in text


def test_every_group_of_settings_has_a_section_of_its_own() -> None:
    text = (DOCS / "settings.rst").read_text()
    sections = re.findall(
        r"^(.+)\n-+\n\n(?:.+\n)+\n\.\. settings-reference:: (.+)$", text, re.MULTILINE
    )
    assert sections == [(group, group) for group in GROUPS]


def test_an_unknown_group_is_an_error(tmp_path: Path) -> None:
    assert "no group of settings called Life" in build(tmp_path, ".. settings-reference:: Life")[1]


@pytest.mark.parametrize("option", OPTIONS)
def test_the_example_of_a_setting_is_allowed(
    option: Field[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("myapp", "myapp.models", "myapp.sessions"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    lines = "\n".join(f"sqlsession.{it}" for it in LINE.split(option.metadata["example"]))
    keys = {name: b64encode(name.encode().zfill(32)).decode() for name in ("NEW_KEY", "OLD_KEY")}
    parser = ConfigParser(keys)
    parser.read_string(f"[app]\n{lines}")
    given = {name: value for name, value in parser["app"].items() if name.startswith("sqlsession.")}
    assert getattr(Settings.from_ini(given), option.name) != getattr(Settings(), option.name)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("dbsession", "unset"), ("touch_interval", "unset"), ("absolute_ttl", "none")],
)
def test_a_setting_that_is_unset_is_not_said_to_be_none(page: str, name: str, shown: str) -> None:
    assert f"Default: {shown} Keyword:" in entry(page, name)


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.id != "sqlalchemy"])
def test_every_default_in_the_reference_is_the_one_that_is_used(option: Field[Any]) -> None:
    assert option.metadata["convert"](option.metadata["default"]) == option.default
    assert getattr(Settings(), option.name) == option.default


def test_the_reference_can_be_referred_to(page: str) -> None:
    assert 'href="#setting-ttl"' in page
    assert '<span class="pre">sqlsession.ttl</span>' in page


def test_a_reference_to_an_unknown_setting_is_a_warning(tmp_path: Path) -> None:
    assert "tll" in build(tmp_path, "See :setting:`tll`.")[1]
