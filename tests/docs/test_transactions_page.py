"""The views on the page about transactions do what it says."""

from __future__ import annotations

from typing import Any

import pytest
from pyramid.httpexceptions import HTTPFound
from sqlalchemy import Engine, String
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column
from support.apps import configurator
from support.docs.pages import DOCS, execute, named_blocks
from support.failing import warnings
from webtest import TestApp

BLOCKS = named_blocks(DOCS / "transactions.rst")


@pytest.mark.parametrize(("block", "is_lost"), [("caught", True), ("caught-in-savepoint", False)])
def test_a_name_that_is_taken_is_told_and_the_request_goes_on(
    engine: Engine, base: Any, block: str, is_lost: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class User(base):  # type: ignore[misc]  # a base made for the test
        __tablename__ = "named_user"
        name: Mapped[str] = mapped_column(String(20), primary_key=True)

    names = {"User": User, "IntegrityError": IntegrityError, "HTTPFound": HTTPFound}

    def register(request: Any) -> Any:
        if block == "caught":
            return execute(BLOCKS[block], **names)["register"](request)
        execute(BLOCKS[block], request=request, **names)
        return HTTPFound("/")

    base.metadata.create_all(engine)
    config = configurator(engine)
    config.add_route("home", "/")
    config.add_view(lambda request: request.session.pop_flash(), route_name="home", renderer="json")
    config.add_route("register", "/register")
    config.add_view(register, route_name="register")
    browser = TestApp(config.make_wsgi_app())
    messages = [browser.post("/register", {"name": "alice"}).follow().json for _ in range(2)]
    base.metadata.drop_all(engine)
    assert messages == [[], ["This name is taken."]]
    assert bool(warnings(caplog)) is is_lost
