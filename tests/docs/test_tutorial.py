"""The tutorial, followed from its first block to its last, with real Alembic and a real server."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.docs.pages import DOCS, EXAMPLES, Block, steps_of
from support.docs.programs import Browser, environ, python, query, run
from support.processes import web_server
from support.servers import free_port

PAGE = DOCS / "tutorial.rst"

# They take the network, or make what the tests have already: the starter stands in for them.
STOOD_IN_FOR = ("pip install cookiecutter", "cookiecutter", "cd", "python3 -m venv", "source")

COMMAND = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


class Reader:
    """Somebody who does what the page says, in a folder that the cookiecutter has made."""

    def __init__(self, folder: Path, servers: ExitStack) -> None:
        self.folder = folder
        self._servers = servers
        self.visitor: Browser | None = None

    def do(self, step: Block) -> None:
        """Write a block into its file, or run its commands."""
        if step.language == "console":
            for command, shown in COMMAND.findall(step.text):
                self.run(command, shown)
            return
        names, _, line = step.options["caption"].replace("``", "").partition(", after the line ")
        for name in names.split(" and "):
            file = self.folder / name
            file.write_text(inserted(file.read_text(), line, step.text) if line else step.text)

    def run(self, command: str, shown: str) -> None:
        """Run a command, which prints what is shown."""
        program, *arguments = shlex.split(command)
        if command.startswith(STOOD_IN_FOR):
            return
        if program == "pip":
            # what is left of it without the network: the package is found by its name
            python("-c", "from setuptools import setup; setup()", "-q", "egg_info", cwd=self.folder)
        elif program == "pserve":
            self.serve(*arguments)
        else:
            printed = varying(run(program, *arguments, cwd=self.folder)).splitlines()
            assert [line for line in varying(shown).splitlines() if line not in printed] == []

    def serve(self, name: str) -> None:
        """Serve the application until the page ends, and visit it."""
        port, ini = free_port(), self.folder / name
        ini.write_text(ini.read_text().replace("localhost:6543", f"127.0.0.1:{port}"))
        command = [sys.executable, "-m", "pyramid.scripts.pserve", name]
        env = environ(self.folder)
        self._servers.enter_context(web_server(command, port, cwd=self.folder, env=env))
        self.visitor = Browser(f"http://127.0.0.1:{port}")


def inserted(text: str, line: str, block: str) -> str:
    """A text with a block under the line that begins so, indented as that is."""
    lines = text.splitlines(keepends=True)
    (at,) = (n for n, old in enumerate(lines) if plain(old).startswith(plain(line)))
    indent = re.match(" *", lines[at])
    assert indent
    return "".join((*lines[: at + 1], textwrap.indent(block, indent[0]), *lines[at + 1 :]))


def plain(line: str) -> str:
    """A line without the differences in style that do not matter."""
    return line.strip().replace("'", '"')


def varying(text: str) -> str:
    """A text without what is different each time: handles, times, and how many warnings."""
    text = re.sub(r"\b[0-9a-f]{32}\b", "HANDLE", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    return re.sub(r"(?:, \d+ warnings?)? in \d+\.\d+s", "", text)


def send(browser: Browser, path: str, **form: str) -> tuple[int, str]:
    """Send a form with the CSRF token of the page that it is on."""
    site = browser.url
    browser.url = site + ("/sign_in" if path == "/sign_in" else "/cart")
    token = re.search(r'name="csrf_token" value="(.+?)"', browser.request()[2])
    assert token
    browser.url = site + path
    status, _, page = browser.request(csrf_token=token[1], **form)
    browser.url = site
    return status, page


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    """What the cookiecutter makes."""
    folder, ignored = tmp_path / "myapp", shutil.ignore_patterns("__pycache__", "*.sqlite")
    shutil.copytree(EXAMPLES / "starter", folder, ignore=ignored)
    same = EXAMPLES / "quickstart" / "myapp"
    shutil.copytree(same / "alembic", folder / "myapp" / "alembic", ignore=ignored)
    shutil.copy(same / "models" / "meta.py", folder / "myapp" / "models")
    return folder


@pytest.mark.timeout(300)
def test_the_tutorial_can_be_followed_to_its_end(starter: Path) -> None:
    database = starter / "myapp.sqlite"
    with ExitStack() as servers:
        reader = Reader(starter, servers)
        for step in steps_of(PAGE):
            visitor = reader.visitor
            if visitor and "list --user" in step.text:
                shop(visitor)
                assert query(database, "SELECT product, userid FROM orders ORDER BY id") == [
                    ("tea", "alice"), ("milk", "alice"), ("salt", "alice")
                ]  # fmt: skip
            reader.do(step)
        assert visitor
        assert "<h1>Your cart</h1>" in send(visitor, "/cart", product="tea")[1]
    assert "No new upgrade operations detected" in run(
        "alembic", "-c", "development.ini", "check", cwd=starter
    )


def shop(browser: Browser) -> None:
    """What the page says that a visitor does."""
    for product in ("tea", "milk", "salt"):
        status, page = send(browser, "/cart", product=product)
        assert (status, f"{product} is in your cart." in page) == (200, True)
    assert send(browser, "/cart", product="soap")[0] == 400
    assert "Please sign in." in send(browser, "/order")[1]
    tokens = {cookie.value for cookie in browser.jar if cookie.name == "session"}
    _, page = send(browser, "/sign_in", userid="alice", password="wonderland")
    assert re.findall(r"<li>(.+)</li>", page) == ["tea", "milk", "salt"]
    assert tokens.isdisjoint(cookie.value for cookie in browser.jar)
    _, page = send(browser, "/order")
    assert "Your order is on its way." in page
    assert re.findall(r"<li>(.+)</li>", page) == []
