"""The README shows a program that works, and the settings as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from support.docs.pages import ROOT, code_block, code_blocks, execute
from support.docs.programs import Browser, Reply, query, serving

from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.model import SQLSessionRow

README = ROOT / "README.rst"
LEFT_OUT = ("Connection", "Content-Length", "Date", "Server")


def test_the_application_in_the_readme_has_25_lines() -> None:
    assert len(code_blocks(README, "python")[0].splitlines()) == 25


def test_the_application_in_the_readme_does_what_its_transcript_shows(tmp_path: Path) -> None:
    (transcript,) = code_blocks(README, "console")
    shown = [part.split("\n") for part in transcript.split("$ curl -si ")[1:]]
    with serving(code_blocks(README, "python")[0], tmp_path) as url:
        browser = Browser(url)
        for command, *lines in shown:
            sent = re.search(r"-d (\w+)=(\w+)", command)
            reply = browser.request(**({sent[1]: sent[2]} if sent else {}))
            assert_shown(reply, lines, complete="head" not in command)
    ((stored, version),) = query(tmp_path / "shop.sqlite", "SELECT data, version FROM sqlsession")
    assert (stored, version) == (b'{"cart":["tea","milk"]}', 2)


def assert_shown(reply: Reply, lines: Sequence[str], *, complete: bool) -> None:
    """A reply is what a transcript shows; the token in the cookie is another one each time."""
    status, headers, text = reply
    assert int(lines[0].split()[1]) == status
    if not complete:
        return
    end = lines.index("")
    shown = dict(line.split(": ", 1) for line in lines[1:end])
    got = {name: value for name, value in headers.items() if name not in LEFT_OUT}
    assert hidden(got) == hidden(shown)
    assert text == lines[end + 1]


def hidden(headers: dict[str, str]) -> dict[str, str]:
    """Headers without the token."""
    token = re.compile(r"session=[\w-]{43};")
    return {name: token.sub("session=TOKEN;", value) for name, value in headers.items()}


def test_the_settings_in_the_readme_have_these_defaults() -> None:
    known = {option.name: option.metadata["default"] for option in fields(Settings)}
    rows = re.findall(r"^``sqlsession\.(\w+)`` +(``.+?``|none) ", README.read_text(), re.MULTILINE)
    assert len(rows) == 11
    for name, default in rows:
        assert known[name] == default.strip("`"), name


def test_the_model_in_the_readme_is_one(base: Any) -> None:
    model = execute(code_block(README, "python", "class Session"), Base=base)["Session"]
    assert set(model.__table__.columns.keys()) == set(SQLSessionRow.__table__.columns.keys())
