"""Applications whose error pages use the session, with each session factory in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyramid.authentication import SessionAuthenticationHelper
from pyramid.config import Configurator
from pyramid.interfaces import ISessionFactory
from pyramid.security import Allowed, Denied
from pyramid.session import SignedCookieSessionFactory
from sqlalchemy import Engine
from support.apps import Base, Clock, SessionRow, configurator, own_configurator, serve
from webtest import TestApp


@dataclass
class Ground:
    """A database, a session factory, and what else an application is built on.

    :ivar way: whose connections the sessions use; ``signed`` is Pyramid's own factory, the control.
    :ivar settings: further ini settings.
    :ivar retry: with pyramid_retry.
    """

    engine: Engine
    way: str
    settings: Mapping[str, Any]
    retry: bool = False

    @property
    def has_veto(self) -> bool:
        return "tm.commit_veto" in self.settings

    def configure(self, **settings: Any) -> Configurator:
        """An application that has not been made yet; *settings* are further ini settings."""
        values = {**self.settings, **settings}
        if self.way == "own":
            Base.metadata.create_all(self.engine)
            url = self.engine.url.render_as_string(hide_password=False)
            config = own_configurator(url, values, retry=self.retry, model=SessionRow)
        else:
            ours = self.way == "dbsession"
            config = configurator(self.engine, values, retry=self.retry, include=ours)
        if self.way == "signed":
            config.set_session_factory(SignedCookieSessionFactory("secret"))
        config.set_security_policy(Policy())
        return config

    def expire(self, app: TestApp) -> None:
        """Let the browser's session expire."""
        if self.way == "signed":
            # a browser forgets it by itself
            app.cookiejar.clear()
        else:
            factory = app.app.registry.getUtility(ISessionFactory)
            factory.clock = Clock(int(factory.clock()) + 365 * 86400)


class Policy:
    """Whoever is signed in may do everything."""

    def __init__(self) -> None:
        self._helper = SessionAuthenticationHelper()

    def identity(self, request: Any) -> Any:
        return self.authenticated_userid(request)

    def authenticated_userid(self, request: Any) -> Any:
        return self._helper.authenticated_userid(request)

    def permits(self, request: Any, context: Any, permission: str) -> Any:
        return Denied("sign in") if self.identity(request) is None else Allowed("signed in")

    def remember(self, request: Any, userid: Any, **options: Any) -> Any:
        return self._helper.remember(request, userid, **options)

    def forget(self, request: Any, **options: Any) -> Any:
        return self._helper.forget(request, **options)


def add_private(config: Configurator) -> None:
    """A page for whoever is signed in."""
    config.add_route("private", "/private")
    config.add_view(
        lambda request: {"user": request.authenticated_userid},
        route_name="private",
        permission="view",
        renderer="json",
    )


Page = Callable[[Any], Any]


def failing(
    config: Configurator,
    view: Page | None,
    page: Page,
    error: type[Exception] = Exception,
    status: int = 500,
    **views: Page,
) -> TestApp:
    """A browser for an application in which ``/fail`` raises after *view*; *page* is shown then."""

    def fail(request: Any) -> Any:
        if view is not None:
            view(request)
        raise error

    def show_page(request: Any) -> Any:
        request.response.status_int = status
        if status == 302:
            request.response.location = "/show"
        return page(request)

    config.add_exception_view(show_page, context=error, renderer="json")
    return serve(config, fail=fail, **views)
