"""Applications with the debug toolbar's panel, and what it shows of their requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyramid.config import Configurator
from sqlalchemy import Engine
from support.apps import Base, SessionRow, configurator, own_configurator, serve
from support.races import Flight, Site, view
from webtest import TestApp

PANEL = {
    "debugtoolbar.includes": "pyramid_sqlsession.debugtoolbar",
    # without the toolbar's own panels, which show cookies
    "debugtoolbar.panels": "sqlsession",
}
TOOLBAR = "pyramid_debugtoolbar.toolbar_tween_factory"


def with_panel(
    engine: Engine,
    settings: Mapping[str, Any] | None = None,
    way: str = "dbsession",
    **options: Any,
) -> Configurator:
    """A configuration with the toolbar and the panel.

    :param way: whose connections the sessions use.
    :param options: of :func:`support.apps.configurator`.
    """
    values = {**PANEL, **(settings or {})}
    if way == "dbsession":
        config = configurator(engine, values, **options)
    else:
        Base.metadata.create_all(engine)
        url = engine.url.render_as_string(hide_password=False)
        config = own_configurator(url, model=SessionRow)
        config.add_settings(values)
    config.include("pyramid_debugtoolbar")
    return config


def browse(config: Configurator, **views: Callable[[Any], Any]) -> TestApp:
    """A browser that the toolbar is shown to."""
    app = serve(config, **views)
    app.extra_environ["REMOTE_ADDR"] = "127.0.0.1"
    return app


class Shown:
    """What the panel shows of a request.

    :ivar html: the toolbar's page.
    :ivar glance: what stands in the tab.
    :ivar parts: the text below each heading; that of the beginning is under an empty one.
    """

    def __init__(self, page: Any) -> None:
        self.html: str = page.text
        content = page.html.find(id="pDebugPanel-sqlsession-content")
        badge = page.html.find(id="pDebugPanel-sqlsession").find(class_="badge")
        self.glance: str = badge.get_text() if badge else ""
        self.style = " ".join(badge["class"]) if badge else ""
        self.text = " ".join(content.get_text().split())
        self._content = content

    @property
    def verdict(self) -> str:
        """The sentences on the coloured ground."""
        return " ".join(self._content.find(class_="alert").get_text().split())

    def _rows(self, heading: str) -> list[list[str]]:
        """The rows of the table that follows a heading, or of the first table."""
        start = self._content
        if heading:
            start = next(it for it in start.find_all("h4") if it.get_text().startswith(heading))
        following = start.find_next(["table", "h4"]) if heading else start.find("table")
        if following is None or following.name == "h4":
            return []
        rows = following.find("tbody").find_all("tr")
        return [
            [" ".join(cell.get_text().split()) for cell in row.find_all(["th", "td"])]
            for row in rows
        ]

    @property
    def summary(self) -> dict[str, str]:
        return dict(self._rows(""))

    @property
    def row(self) -> dict[str, str]:
        return dict(self._rows("Row loaded"))

    @property
    def keys(self) -> dict[str, list[str]]:
        """For each key its use, what it was, what it is, and what was stored after a merge."""
        return {key: values for key, *values in self._rows("Keys")}

    @property
    def statements(self) -> list[list[str]]:
        """Purpose, rows, SQL and parameters."""
        return [values for _, *values in self._rows("Statements")]

    @property
    def purposes(self) -> list[str]:
        return [purpose for purpose, *_ in self.statements]

    @property
    def events(self) -> dict[str, str]:
        return dict(self._rows("Events"))

    @property
    def warnings(self) -> list[str]:
        return [it.get_text().strip() for it in self._content.find_all(class_="alert-warning")]


def shown(app: Any, before: int = 0) -> Shown:
    """What the panel shows of the last request, or of one before it."""
    browser = TestApp(getattr(app, "app", app), extra_environ={"REMOTE_ADDR": "127.0.0.1"})
    history = browser.app.registry.pdtb_history
    return Shown(browser.get(f"/_debug_toolbar/{history.last(before + 1)[-1][0]}"))


def visit(app: TestApp, path: str, **options: Any) -> Shown:
    """What the panel shows of a request."""
    app.get(path, **options)
    return shown(app)


# ---- two requests at once


def racing(config: Configurator, engine: Engine) -> Site:
    """An application for requests that are taken step by step."""
    config.add_route("view", "/")
    config.add_view(view, route_name="view", renderer="json")
    app = serve(config).app

    def local(environ: Any, start_response: Any) -> Any:
        return app(environ | {"REMOTE_ADDR": "127.0.0.1"}, start_response)

    local.registry = app.registry  # type: ignore[attr-defined]  # where the history is
    return Site(local, engine)


def race(site: Site, one: Callable[[Any], Any], other: Callable[[Any], Any]) -> Flight:
    """A request that changes a session which another one has changed meanwhile."""
    token = site.start(n=0)
    late, early = site.load(token, one, other)
    early.finish()
    return late.finish()


def history_of(site: Site, glance: str) -> Shown:
    """What the panel shows of the request that it sums up so."""
    pages = [shown(site.app, number) for number in range(len(site.app.registry.pdtb_history))]
    (page,) = (page for page in pages if page.glance.startswith(glance))
    return page
