"""A panel of pyramid_debugtoolbar: what a request did to the row of its session.

::

    debugtoolbar.includes = pyramid_sqlsession.debugtoolbar

It is for development, like the toolbar. Without that line nothing of it is imported.
"""

from __future__ import annotations

from typing import Any

from pyramid.exceptions import ConfigurationError

try:
    import pyramid_debugtoolbar  # noqa: F401  # said better than by the module that needs it
except ImportError as error:
    raise ImportError(
        "pyramid_sqlsession.debugtoolbar is a panel of the debug toolbar, which is not installed: "
        "pip install pyramid_debugtoolbar"
    ) from error
from .listeners import listen, listen_in
from .panel import SessionRowPanel

__all__ = ["SessionRowPanel", "includeme"]


def includeme(config: Any) -> None:
    """Add the panel to the toolbar's own application.

    :raises ConfigurationError: if *config* is that of the main application.
    """
    if not hasattr(config, "add_debugtoolbar_panel"):
        raise ConfigurationError(
            "pyramid_sqlsession.debugtoolbar is a panel: instead of including it, set "
            "debugtoolbar.includes = pyramid_sqlsession.debugtoolbar"
        )
    config.add_debugtoolbar_panel(SessionRowPanel)
    config.inject_parent_action(listen_in)
    listen()
