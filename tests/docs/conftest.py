"""Fixtures: the applications on the how-to pages."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyramid.paster import get_app
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from support.docs.howto import EXAMPLES, Example, Opened, written
from support.servers import Backend
from webtest import TestApp


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    """Imports one of the examples; its models are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    imported: list[Any] = []

    def example(name: str) -> Any:
        imported.append(importlib.import_module(name))
        return imported[-1]

    yield example
    for module in imported:
        sys.modules.pop(module.__name__, None)
        if hasattr(module, "Base"):
            # other tests look for "the one model that uses SessionMixin"
            module.Base.registry.dispose()


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """A browser for the application of an ini file on a page."""

    def opened(ini: str, **settings: str) -> TestApp:
        """
        :param settings: what is to be another value here; ``__`` is a dot.
        """
        return TestApp(get_app(str(written(tmp_path, ini, **settings))))

    return opened


@pytest.fixture
def accounts(example: Example, opened: Opened, sqlite: Backend) -> Callable[..., TestApp]:
    """Opens the application with accounts by a block of settings; alice and bob have one."""
    module = example("accounts")

    def accounts(ini: str, **settings: str) -> TestApp:
        settings = {"sqlalchemy__url": sqlite.url, **settings}
        browser = opened(ini, **settings)
        engine = create_engine(settings["sqlalchemy__url"])
        with sessionmaker(engine).begin() as dbsession:
            for name in ("alice", "bob"):
                user = module.User(name=name)
                user.set_password("demo")
                dbsession.add(user)
        engine.dispose()
        return browser

    return accounts
