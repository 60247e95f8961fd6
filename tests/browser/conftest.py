"""Fixtures: the demo on PostgreSQL, and Chromium to visit it with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from sqlalchemy import Engine, create_engine, text
from support.browser.chromium import Chromium, Visit
from support.processes import copy_demo, served_demo, web_server
from support.servers import Server, find_program, free_port

PSERVE = Path(sys.executable).with_name("pserve")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option of ``make screenshots``."""
    parser.addoption(
        "--screenshots", type=Path, help="keep the pictures of the demo in this folder"
    )


@pytest.fixture(scope="session")
def running_chromium() -> Iterator[Chromium]:
    """Debian's Chromium, driven by Playwright."""
    program = find_program("chromium")
    with sync_playwright() as playwright:
        yield Chromium(program, playwright.chromium)


@pytest.fixture
def chromium(running_chromium: Chromium) -> Iterator[Chromium]:
    """The same, without complaints: none may be left at the end of a test."""
    running_chromium.complaints.clear()
    yield running_chromium
    assert running_chromium.complaints == []


@pytest.fixture(scope="session")
def opened_chromium(running_chromium: Chromium) -> Iterator[Browser]:
    """One process for all tests."""
    with running_chromium.start() as browser:
        yield browser


@pytest.fixture
def visit(chromium: Chromium, opened_chromium: Browser) -> Iterator[Visit]:
    """Open the first page of a shop in a browser of its own, which may have options."""
    contexts: list[BrowserContext] = []

    def open_page(url: str, **options: Any) -> Page:
        context = chromium.listen(opened_chromium.new_context(base_url=url, **options))
        contexts.append(context)
        page = context.new_page()
        page.goto("/")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def settings(postgresql_server: Server) -> Iterator[dict[str, str]]:
    """What every shop has in common: the database, and no toolbar on its pages."""
    with postgresql_server.database() as url:
        yield {"sqlalchemy.url": url, "debugtoolbar.enabled": "false"}


@contextmanager
def served(folder: Path, settings: dict[str, str], host: str = "127.0.0.1") -> Iterator[str]:
    """The address of the demo as its ini file serves it, but for these settings."""
    port = free_port()
    with served_demo(PSERVE, folder, port, **settings):
        yield f"http://{host}:{port}"


@pytest.fixture(scope="session")
def served_shop(
    settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The demo with what every shop has in common."""
    with served(tmp_path_factory.mktemp("shop"), settings) as address:
        yield address


@pytest.fixture
def engine(settings: dict[str, str], served_shop: str) -> Iterator[Engine]:
    """The shop's database, in which nobody has done anything yet."""
    engine = create_engine(settings["sqlalchemy.url"])
    with engine.begin() as connection:
        connection.execute(text('DELETE FROM "order"'))
        connection.execute(text("DELETE FROM sqlsession"))
    yield engine
    engine.dispose()


@pytest.fixture
def shop(served_shop: str, engine: Engine) -> str:
    """The address of the demo."""
    return served_shop


@pytest.fixture
def toolbar_shop(shop: str, settings: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The demo with the debug toolbar, as its ini file has it."""
    with served(tmp_path, {**settings, "debugtoolbar.enabled": "true"}) as address:
        yield address


@pytest.fixture
def host_shop(shop: str, settings: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The demo with another name for its cookie, on a host that browsers trust without https."""
    settings = {**settings, "sqlsession.cookie_name": "__Host-session"}
    with served(tmp_path, settings, "localhost") as address:
        yield address


@contextmanager
def served_securely(folder: Path, settings: dict[str, str], host: str) -> Iterator[str]:
    """The address of the demo as gunicorn serves it over https, to all hosts on this machine."""
    port = free_port()
    ini = copy_demo(folder, port, settings)
    certificate = self_signed(folder)
    # with a single thread, a connection that a browser has opened in advance holds up all others
    options = (
        f"--bind=127.0.0.1:{port} --threads=8 --certfile={certificate} --keyfile={certificate}"
    )
    command = [str(PSERVE.with_name("gunicorn")), "--paste", str(ini), *options.split()]
    env = {"PYTHONPATH": str(ini.parent)}
    with web_server(command, port, cwd=folder, env=env, exit_code=0):
        yield f"https://{host}:{port}"


@pytest.fixture
def secure_shop(shop: str, settings: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The demo served over https."""
    with served_securely(tmp_path, settings, "localhost") as address:
        yield address


def self_signed(folder: Path) -> Path:
    """A certificate for localhost and its key, in one file."""
    path = folder / "certificate.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path
