"""Blocks whose errors are looked at."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any


class Watch(AbstractContextManager[None]):
    """Calls a function with the error that leaves a block.

    The function may raise another error; if it returns, the error leaves the block. A generator
    would do the same and take several times as long, in each request.

    :param handle: called with the error and the *given* values.
    """

    __slots__ = ("_given", "_handle")

    def __init__(self, handle: Callable[..., None], *given: Any) -> None:
        self._handle = handle
        self._given = given

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._handle(error, *self._given)
