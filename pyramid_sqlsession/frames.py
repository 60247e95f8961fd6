"""Clears the frames of errors: error trackers record local variables."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from traceback import walk_tb
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_PACKAGE = __name__.partition(".")[0]


def discreet(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function so that its errors do not carry the package's local variables.

    Inside these functions tokens and data are ordinary values, which Python shows in full.
    """

    @wraps(function)
    def called(*given: P.args, **named: P.kwargs) -> T:
        try:
            return function(*given, **named)
        except BaseException as error:
            # this frame has not ended, and so it cannot be cleared
            del given, named
            forget(error)
            raise

    return called


def forget(error: BaseException) -> None:
    """Clear the package's frames in the tracebacks of an error and of its causes."""
    chain = [error]
    for one in chain:
        known = {id(it) for it in chain}
        before = (one.__cause__, one.__context__)
        chain += [it for it in before if it is not None and id(it) not in known]
        for frame, _ in walk_tb(one.__traceback__):
            if str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE:
                # one that has not ended, which is above all that are secret
                with suppress(RuntimeError):
                    frame.clear()
