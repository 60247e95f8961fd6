"""The view option ``session_visit``: whether a request counts as a visitor's activity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import ISessionFactory

from .factory import SQLSessionFactory

View = Callable[[Any, Any], Any]


def session_visit(view: View, info: Any) -> View:
    """A view deriver for ``config.add_view(..., session_visit=False)``.

    Requests to such a view do not keep the session alive, whatever their outcome. Changes that
    they make to the session are stored, and count as activity.

    :raises ConfigurationError: if the option is neither true nor false.
    """
    option = info.options.get("session_visit")
    if option not in (None, True, False):
        raise ConfigurationError(
            f"session_visit = {option!r} of view {info.original_view!r} must be True or False"
        )
    if option is not False:
        return view

    def no_visit(context: Any, request: Any) -> Any:
        factory = request.registry.queryUtility(ISessionFactory)
        # the application may have set another one
        if isinstance(factory, SQLSessionFactory):
            factory.visit(request).counts = False
        return view(context, request)

    return no_visit


session_visit.options = ("session_visit",)  # type: ignore[attr-defined]  # Pyramid looks for it
