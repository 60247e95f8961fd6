"""Which applications a ``[composite:...]`` section of an ini file serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_COMPOSITES = ("composite", "composit")
_APPLICATIONS = ("app", "application", "pipeline", "filter-app")


def applications(loader: Any, section: str, variables: Mapping[str, str]) -> list[str] | None:
    """The sections of the applications that a composite names, each once.

    :param loader: the plaster loader of the file.
    :returns: None if the section is no composite.
    """
    sections = set(loader.get_sections())
    if _kind(sections, section, _COMPOSITES) is None:
        return None
    return list(dict.fromkeys(_served(loader, sections, section, variables, {section})))


def _served(
    loader: Any, sections: set[str], section: str, variables: Mapping[str, str], seen: set[str]
) -> Iterator[str]:
    full = _kind(sections, section, _COMPOSITES)
    if full is None:
        yield section
        return
    values = loader.get_settings(full, dict(variables)).values()
    for name in (name for value in values for name in value.split()):
        if name not in seen and _kind(sections, name, (*_COMPOSITES, *_APPLICATIONS)):
            yield from _served(loader, sections, name, variables, seen | {name})


def _kind(sections: set[str], name: str, kinds: tuple[str, ...]) -> str | None:
    """The full name of a section that is of one of these kinds."""
    return next((f"{kind}:{name}" for kind in kinds if f"{kind}:{name}" in sections), None)
