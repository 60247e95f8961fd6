"""How an option is declared, and how the value given for it becomes its own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, field
from typing import Any

from pyramid.exceptions import ConfigurationError


def option(
    group: str,
    default: str,
    convert: Callable[[Any], Any],
    allowed: str,
    meaning: str,
    *,
    type: str,
    example: str,
    is_secret: bool = False,
) -> Any:
    """A dataclass field that is an option; what is said of it is the field's metadata.

    :param default: the default, as it would be written in an ini file.
    :param convert: from a given value to the option's; raises ValueError or TypeError.
    :param allowed: what the option takes, for messages and the docs, in reStructuredText.
    :param type: the type of the keyword, as it is annotated in ``keywords``.
    :param example: lines of an ini file, without the prefix.
    """
    metadata = {
        "group": group,
        "default": default,
        "convert": convert,
        "allowed": allowed,
        "meaning": meaning,
        "type": type,
        "example": example,
    }
    value = convert(default)
    # dataclasses refuse a dict as a default, for which each instance gets its own
    if value == {}:
        return field(default_factory=dict, repr=not is_secret, metadata=metadata)
    return field(default=value, repr=not is_secret, metadata=metadata)


def options_in(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The options among the settings of a registry, without their prefix.

    Those of the engine are one option, ``sqlalchemy``.
    """
    options: dict[str, Any] = {}
    engine: dict[str, Any] = {}
    of_engine = f"{prefix}sqlalchemy."
    for key, value in settings.items():
        if key.startswith(of_engine):
            engine[key.removeprefix(of_engine)] = value
        elif key.startswith(prefix):
            options[key.removeprefix(prefix)] = value
    if engine:
        options.setdefault("sqlalchemy", engine)
    return options


def converted(
    options: Iterable[Field[Any]], given: Mapping[str, Any], prefix: str
) -> dict[str, Any]:
    """The values of options, from what was given for them.

    :param prefix: what messages put before an option's name.
    :raises ConfigurationError: for an unknown name, or a value that is not allowed; the message
        says what is.
    """
    known = {option.name: option for option in options}
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean {prefix}{close[0]}?" if close else "."
            names = ", ".join(sorted(known))
            raise ConfigurationError(
                f"unknown setting {prefix}{name}{hint} Known settings: {names}"
            )
    return {name: _converted(known[name], value, prefix) for name, value in given.items()}


def _converted(option: Field[Any], value: Any, prefix: str) -> Any:
    try:
        return option.metadata["convert"](value)
    except (ValueError, TypeError) as error:
        allowed = option.metadata["allowed"].replace("``", "")
        # the URL of a database holds a password
        shown = f"{prefix}{option.name} = {value!r}" if option.repr else f"{prefix}{option.name}"
        reason = "" if str(error) == str(value) else f" ({error})"
        raise ConfigurationError(f"{shown} is not valid: expected {allowed}{reason}") from error
