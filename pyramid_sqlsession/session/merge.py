"""Three-way merge of a session that two requests changed at once. Pure functions.

*Base* is what this request loaded, *mine* what it has now, *theirs* what another request stored
meanwhile. Only top-level keys are merged, never nested values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FLASH = "_f_"
"""The prefix of Pyramid's flash queues in a session."""

_MISSING = object()

Differ = Callable[[Any, Any, Any], bool]


@dataclass
class FlashQueue:
    """The operations of a request on one flash queue: equal messages may be new ones."""

    popped: bool = False
    added: list[tuple[Any, bool]] = field(default_factory=list, repr=False)
    """Messages flashed after the last pop, each with its ``allow_duplicate``."""

    def replay(self, loaded: list[Any], queue: list[Any]) -> list[Any]:
        """*queue* after these operations; *loaded* is what the request had found in it."""
        result = list(queue)
        if self.popped:
            for message in loaded:
                if message in result:
                    result.remove(message)
        for message, allow_duplicate in self.added:
            if allow_duplicate or message not in result:
                result.append(message)
        return result


@dataclass(frozen=True)
class Merged:
    """The result of a merge, and the keys that both sides had changed."""

    data: dict[Any, Any] = field(repr=False)
    conflicts: list[Any]


def changed_keys(base: Mapping[Any, Any], other: Mapping[Any, Any], differ: Differ) -> list[Any]:
    """The keys that were set, changed or deleted on the way from *base* to *other*.

    :param differ: ``(key, old, new) -> bool`` for keys that are in both.
    """
    common = (key for key in base if key in other and differ(key, base[key], other[key]))
    gone = (key for key in base if key not in other)
    new = (key for key in other if key not in base)
    return [*common, *gone, *new]


def merge(
    base: Mapping[Any, Any],
    mine: Mapping[Any, Any],
    theirs: Mapping[Any, Any],
    differ: Differ,
    flashes: Mapping[Any, FlashQueue],
) -> Merged:
    """Put *mine* on top of *theirs*.

    A key that only one side changed keeps that change; deleting is a change. Of a key that both
    changed, *mine* wins and the key is among the conflicts, even if both made the same change:
    two increments of a counter are two changes. Flash queues replay their operations.
    """
    queues = {
        key: queue
        for key, queue in flashes.items()
        if isinstance(theirs.get(key, []), list) and _explains(queue, key, base, mine)
    }
    their_changes = set(changed_keys(base, theirs, differ))
    my_changes = [key for key in changed_keys(base, mine, differ) if key not in queues]
    data = dict(theirs)
    for key in my_changes:
        if key in mine:
            data[key] = mine[key]
        else:
            data.pop(key, None)
    for key, queue in queues.items():
        replayed = queue.replay(base.get(key, []), data.get(key, []))
        data.pop(key, None)
        if replayed:
            data[key] = replayed
    return Merged(data, [key for key in my_changes if key in their_changes])


def _explains(
    queue: FlashQueue, key: Any, base: Mapping[Any, Any], mine: Mapping[Any, Any]
) -> bool:
    # a queue that was assigned or edited directly is an ordinary key
    loaded = base.get(key, [])
    if not isinstance(loaded, list):
        return False
    return bool(queue.replay(loaded, loaded) == mine.get(key, []))
