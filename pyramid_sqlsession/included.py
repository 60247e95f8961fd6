"""Where the application includes the package, and which session factory it sets."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pyramid
from pyramid.interfaces import ITweens

TM = "pyramid_tm.tm_tween_factory"
SAVE = "pyramid_sqlsession.save_tween_factory"

_OTHERS = tuple(str(Path(file).parent) for file in (pyramid.__file__, __file__) if file)

INCLUDED = "pyramid_sqlsession"
"""The name under which the registry knows the session factory that the settings made."""


def where_included() -> tuple[str, int, str, str]:
    """The line that includes the package, for reports of conflicts and wrong settings.

    With ``pyramid.includes`` in an ini file, it is the line that makes the Configurator.
    """
    frames = traceback.extract_stack()
    theirs = [frame for frame in frames if not frame.filename.startswith(_OTHERS)]
    frame = theirs[-1]
    said = frame.line or ""
    what = said if "pyramid_sqlsession" in said else f"{said}\n(it includes pyramid_sqlsession)"
    return frame.filename, frame.lineno or 0, frame.name, what


def is_included(registry: Any) -> bool:
    """Whether the application has the save tween."""
    tweens = registry.getUtility(ITweens)
    return SAVE in dict(tweens.explicit or tweens.implicit())


def described(registry: Any, factory: Any) -> str:
    """The name of a session factory, and where the application set it."""
    name = getattr(factory, "__qualname__", None) or type(factory).__qualname__
    module = getattr(factory, "__module__", None)
    found = registry.introspector.get("session factory", None)
    if found is None or found.get("factory") is not factory:
        return f"{module}.{name}"
    info = found.action_info
    return f"{module}.{name}, set in line {info.line} of {info.file}"
