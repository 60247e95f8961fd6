"""A dict-like mapping that loads its data when it is first used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from copy import deepcopy
from typing import Any

from ..frames import discreet
from .state import State

# of subclasses nobody knows what they are
_CANNOT_CHANGE = frozenset({str, int, float, bool, bytes, type(None)})


class LazyDict(MutableMapping[Any, Any]):
    """A mapping that behaves like a dict, on the state of a request's session."""

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        self._state = state

    def __getitem__(self, key: Any) -> Any:
        value = self._state.read()[key]
        if type(value) not in _CANNOT_CHANGE:
            self._state.may_have_changed = True
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._state.read()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._state.read())

    def __reversed__(self) -> Iterator[Any]:
        return iter(reversed(self._state.read()))

    def __len__(self) -> int:
        return len(self._state.read())

    @discreet
    def __setitem__(self, key: Any, value: Any) -> None:
        self._state.set(key, value)

    def __delitem__(self, key: Any) -> None:
        self._state.delete(key)

    def __or__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return self.copy() | dict(other) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(other) | self.copy() if isinstance(other, Mapping) else NotImplemented

    # unlike |, which gives a plain dict; typing.Self needs Python 3.11
    @discreet
    def __ior__(self, other: Any) -> LazyDict:  # noqa: PYI034
        self.update(other)
        return self

    def copy(self) -> dict[Any, Any]:
        """A plain dict with the same keys and values."""
        return dict(self._state.hand_out())

    __copy__ = copy

    def __json__(self, _request: Any) -> dict[Any, Any]:
        """A plain dict, for Pyramid's JSON renderer."""
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        return deepcopy(self.copy(), memo)

    def popitem(self) -> tuple[Any, Any]:
        """Remove the key that was added last, and return it with its value.

        :raises KeyError: if the session is empty.
        """
        for key in reversed(self._state.write()):
            return key, self.pop(key)
        raise KeyError("the session is empty")

    def clear(self) -> None:
        """Remove every key. The session and its row stay: compare :meth:`invalidate`.

        If somebody is signed in, this signs them out, because their key is removed too.
        """
        for key in list(self._state.write()):
            # without its user a session loses its CSRF token by itself
            self.pop(key, None)
