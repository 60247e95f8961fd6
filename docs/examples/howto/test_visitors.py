"""Tests for the cookiecutter's fixtures."""

import json

import pytest
import webtest
from pyramid.scripting import prepare
from sqlalchemy import select

from myapp.models import Session
from pyramid_sqlsession import save_tween_factory


@pytest.fixture
def another_browser(app, testapp):
    """A second browser in the same transaction."""
    return webtest.TestApp(app, extra_environ=testapp.extra_environ)


@pytest.fixture
def stored(dbsession):
    """The data of the only session."""

    def stored():
        return json.loads(dbsession.scalars(select(Session.data)).one())

    return stored


@pytest.fixture
def begin_with(app):
    """Give a browser a session before its first request."""

    def begin_with(browser, **data):
        with prepare(registry=app.registry) as env:
            request = env["request"]
            request.environ.update(browser.extra_environ)
            request.session.update(data)
            response = save_tween_factory(lambda request: request.response, app.registry)(request)
            for callback in request.response_callbacks:
                callback(request, response)
        name, value = response.headers["Set-Cookie"].split(";")[0].split("=", 1)
        browser.set_cookie(name, value)

    return begin_with


def test_a_view_has_put_this_into_the_session(testapp, stored):
    testapp.post("/notes", {"text": "Buy milk"})
    assert stored() == {"_f_": ["Your note is stored."]}


def test_a_message_that_was_there_before_is_shown_once(testapp, begin_with):
    begin_with(testapp, _f_=["Welcome back."])
    assert testapp.get("/notes").json["messages"] == ["Welcome back."]
    assert testapp.get("/notes").json["messages"] == []


def test_another_browser_does_not_see_the_message(testapp, another_browser):
    testapp.post("/notes", {"text": "Buy milk"})
    assert another_browser.get("/notes").json == {"notes": ["Buy milk"], "messages": []}
    assert testapp.get("/notes").json["messages"] == ["Your note is stored."]
