"""The README shows a program that works, and links to pages that exist."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select
from support.apps import configurator, serve
from support.docs.pages import DOCS, ROOT, code_block, code_blocks, execute
from support.docs.programs import Browser, Reply, query, serving

README = ROOT / "README.rst"
LEFT_OUT = ("Connection", "Content-Length", "Date", "Server")


def test_the_application_in_the_readme_has_15_lines() -> None:
    assert len(code_blocks(README, "python")[0].splitlines()) == 15


def test_the_package_in_the_readme_is_this_one() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    name = re.search(r'^name = "(.+)"$', project, re.MULTILINE)
    assert name
    assert code_block(README, "console", "pip install") == f"$ pip install {name[1]}\n"


def test_the_application_in_the_readme_does_what_its_transcript_shows(tmp_path: Path) -> None:
    transcript = code_block(README, "console", "curl")
    shown = [part.split("\n") for part in transcript.split("$ curl -si ")[1:]]
    with serving(code_blocks(README, "python")[0], tmp_path) as url:
        browser = Browser(url)
        for command, *lines in shown:
            sent = re.search(r"-d (\w+)=(\w+)", command)
            assert_shown(browser.request(**({sent[1]: sent[2]} if sent else {})), lines)
    ((stored, version),) = query(tmp_path / "shop.sqlite", "SELECT data, version FROM sqlsession")
    assert (stored, version) == (b'{"cart":["tea","milk"]}', 2)


def assert_shown(reply: Reply, lines: Sequence[str]) -> None:
    """A reply is what a transcript shows; the token in the cookie is another one each time."""
    status, headers, text = reply
    assert int(lines[0].split()[1]) == status
    end = lines.index("")
    shown = dict(line.split(": ", 1) for line in lines[1:end])
    got = {name: value for name, value in headers.items() if name not in LEFT_OUT}
    assert hidden(got) == hidden(shown)
    assert text == lines[end + 1]


def hidden(headers: dict[str, str]) -> dict[str, str]:
    """Headers without the token."""
    token = re.compile(r"session=[\w-]{43};")
    return {name: token.sub("session=TOKEN;", value) for name, value in headers.items()}


def test_every_link_in_the_readme_leads_to_a_page_of_the_documentation() -> None:
    text = README.read_text()
    text, _, targets = text.partition("\n\n.. _")
    links = dict(re.findall(r"^(?:\.\. _)?(.+): (https://.+)\.html$", targets, re.MULTILINE))
    assert len(links) == len(targets.splitlines())
    address = links["Installation"].removesuffix("installation")
    # it is written nowhere else, and so can be replaced where the documentation has another one
    assert "https://" not in text
    for name, link in links.items():
        assert (DOCS / f"{link.removeprefix(address)}.rst").is_file(), link
        assert f"`{name}`_" in text or f"{name}_" in text


def test_the_model_in_the_readme_keeps_the_sessions_of_an_application(
    base: Any, engine: Engine
) -> None:
    model, include = code_block(README, "python", "class Session").rsplit("\n\n", 1)
    session = execute(model, Base=base)["Session"]
    base.metadata.create_all(engine)
    config = configurator(engine, {"sqlsession.model": session}, create=False, include=False)
    execute(include, config=config)
    browser = serve(config, start=lambda request: request.session.update(cart=["tea"]))
    browser.get("/start")
    with engine.connect() as connection:
        assert connection.scalar(select(session.version)) == 1
