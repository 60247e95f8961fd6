"""The page about the panel of the debug toolbar says what the panel shows."""

from __future__ import annotations

import configparser
import re

import pytest
from sqlalchemy import Engine
from support.apps import configurator, put
from support.docs.pages import DOCS, ROOT, code_blocks
from support.panels import browse, history_of, race, racing, visit, with_panel
from support.races import both
from support.races import put as put_key

PAGE = DOCS / "debug_toolbar.rst"


@pytest.mark.usefixtures("with_toolbar")
def test_the_setting_on_the_page_adds_the_panel(sqlite_engine: Engine) -> None:
    (block,) = code_blocks(PAGE, "ini")
    parser = configparser.ConfigParser()
    parser.read_string(f"[app]\n{block}")
    config = configurator(sqlite_engine, dict(parser["app"]))
    config.include("pyramid_debugtoolbar")
    assert visit(browse(config, put=put), "/put").glance.startswith("INSERT v1")


@pytest.mark.usefixtures("with_toolbar")
def test_the_example_on_the_page_is_what_the_panel_shows(sqlite_engine: Engine) -> None:
    site = racing(with_panel(sqlite_engine), sqlite_engine)
    race(site, put_key("mine", 1), both(put_key("theirs", 2), put_key("n", 3)))
    page = history_of(site, "UPDATE v3")
    (block,) = code_blocks(PAGE, "text")
    for part in block.split("\n\n"):
        assert untimed(part) in untimed(page.text)
    assert page.purposes == ["read", "update", "read", "update"]
    site.close()


def untimed(text: str) -> str:
    return re.sub(r"[\d.]+ ms", "0 ms", " ".join(text.split()))


def test_everything_that_the_tab_can_say_is_on_the_page() -> None:
    source = (ROOT / "pyramid_sqlsession" / "debugtoolbar" / "outcome.py").read_text()
    written = re.findall(r'^ +(?:"\w+": \()?"([A-Z]+(?: v[1{]\w*}?)?)",', source, re.MULTILINE)
    others = re.findall(r'Verdict\(f?"(.+?)"', source)
    values = {"new": 3, "version": 3, "name": "UPDATE v3"}
    documented = re.findall(r"^``(.+?)``", PAGE.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(text.format(**values) for text in (*written, *others))
