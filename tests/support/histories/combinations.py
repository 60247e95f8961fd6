"""Which requests meet, and in which orders of their steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product

from support.histories.checked_actions import ABOUT_THE_TOKEN, ACTIONS
from support.histories.meetings import ANONYMOUS, SIGNED_IN, CheckedAction
from support.histories.steps import (
    INTERLEAVINGS,
    INTERLEAVINGS_OF_THREE,
    Ending,
    Interleaving,
    spelled,
)
from support.places import ALL_PLACES, Place
from support.trials import Trials

ATTEMPTS = (None, 3)
STARTS = {"anonymous": ANONYMOUS, "signed in": SIGNED_IN}

SAVED_AT_ONCE = "load 1, load 2, save 1, save 2, end 1, end 2"
BLOCKED = "load 1, load 2, save 1, save 2, end 2, end 1"
LATE = "load 1, save 1, load 2, save 2, end 2, end 1"
ENDED_MEANWHILE = "load 1, load 2, save 1, end 1, save 2, end 2"
OVERTAKEN = "load 1, load 2, save 2, end 2, save 1, end 1"
ONE_BY_ONE = "load 1, load 2, load 3, save 1, end 1, save 2, end 2, save 3, end 3"

# tried at every place each time: rare ways to break a promise, and what has once been broken
ALWAYS = (
    ("anonymous, put the same key / put the same key, with retries", ENDED_MEANWHILE),
    ("anonymous, append / append, with retries", SAVED_AT_ONCE),
    ("anonymous, sign alice in / sign alice in, without retries", ENDED_MEANWHILE),
    ("anonymous, sign alice in / sign bob in, with retries", ENDED_MEANWHILE),
    ("anonymous, sign alice in / invalidate and sign alice in, without retries", ENDED_MEANWHILE),
    (
        "anonymous, invalidate and sign alice in / invalidate and sign alice in, without retries",
        ENDED_MEANWHILE,
    ),
    ("anonymous, sign bob in / invalidate, with retries", LATE),
    ("anonymous, regenerate / invalidate, with retries", ENDED_MEANWHILE),
    ("signed in, step up / step up, with retries", SAVED_AT_ONCE),
    ("signed in, step up / sign out, without retries", ENDED_MEANWHILE),
    ("signed in, step up / sign out, without retries", OVERTAKEN),
    ("signed in, regenerate / invalidate, without retries", SAVED_AT_ONCE),
    ("signed in, step up / invalidate and go on, without retries", SAVED_AT_ONCE),
    ("signed in, step up / sign out, with retries", ENDED_MEANWHILE),
    ("signed in, step up / switch users, with retries", ENDED_MEANWHILE),
    ("signed in, step up / invalidate and sign alice in, with retries", ENDED_MEANWHILE),
    ("signed in, step up / invalidate and sign alice in, without retries", BLOCKED),
    ("signed in, step up / invalidate and sign alice in, without retries", OVERTAKEN),
    ("signed in, regenerate / invalidate and sign alice in, without retries", ENDED_MEANWHILE),
    ("signed in, sign out / invalidate and sign alice in / step up, with retries", ONE_BY_ONE),
    ("signed in, sign out / invalidate and sign alice in / step up, without retries", ONE_BY_ONE),
    ("signed in, invalidate and sign alice in / sign out / step up, with retries", ONE_BY_ONE),
    ("signed in, invalidate and sign alice in / step up / regenerate, with retries", ONE_BY_ONE),
    ("signed in, step up / regenerate / sign out, without retries", ONE_BY_ONE),
    ("anonymous, sign alice in / sign alice in / invalidate, without retries", ONE_BY_ONE),
    ("anonymous, sign bob in / sign alice in / put, with retries", ONE_BY_ONE),
)


@dataclass(frozen=True, repr=False)
class Combination:
    """Requests, and the order of their steps. The last one may have to be aborted."""

    start: str
    actions: tuple[CheckedAction, ...]
    ending: Ending
    attempts: int | None
    interleaving: Interleaving

    def __repr__(self) -> str:
        ending = "" if self.ending is Ending.COMMIT else f" ({self.ending.value})"
        retried = "with" if self.attempts else "without"
        actions = " / ".join(action.name for action in self.actions)
        what = f"{self.start}, {actions}{ending}, {retried} retries"
        return f"{what}: {spelled(self.interleaving)}"


def combinations() -> Iterator[Combination]:
    """All of two requests that make a difference."""
    for (n, first), (m, second) in product(enumerate(ACTIONS), repeat=2):
        for start, attempts, aborted in product(starts(first, second), ATTEMPTS, (False, True)):
            if aborted and second.name == "read":
                # there is nothing to abort
                continue
            for number, interleaving in enumerate(INTERLEAVINGS):
                if not aborted and (n > m or (n == m and interleaving[0][0] == 2)):
                    # the same two with their numbers swapped
                    continue
                # one of both: to the other request each is the same, a rollback
                abort = (Ending.VOTE, Ending.DOOM)[(n + m + number) % 2]
                ending = abort if aborted else Ending.COMMIT
                yield Combination(start, (first, second), ending, attempts, interleaving)


def combinations_of_three() -> Iterator[Combination]:
    """Those of three requests in which no more than one leaves the token alone."""
    for actions in product(ACTIONS, repeat=3):
        if sum(action.is_about_the_token for action in actions) > 1:
            for case in product(starts(*actions), ATTEMPTS, INTERLEAVINGS_OF_THREE):
                start, attempts, interleaving = case
                yield Combination(start, actions, Ending.COMMIT, attempts, interleaving)


def starts(*actions: CheckedAction) -> tuple[str, ...]:
    """The sessions in which actions can meet, and who is signed in makes a difference."""
    common = (start for start in STARTS if all(start in action.starts for action in actions))
    return tuple(common) if set(actions) & set(ABOUT_THE_TOKEN) else ("anonymous",)


def share(place: Place, trials: Trials) -> dict[str, Combination]:
    """The combinations to try at a place.

    As many of 400 of two requests as the scale says, and of 4,000 of three.
    """
    cases = {str(case): case for case in chain(combinations(), combinations_of_three())}
    two = [name for name, case in cases.items() if len(case.actions) == 2]
    three = [name for name, case in cases.items() if len(case.actions) == 3]
    # these have no common divisor with the numbers of interleavings: each of them has its turn
    chosen = [*some(two, place, trials, 397), *some(three, place, trials, 3989)]
    always = [f"{what}: {order}" for what, order in ALWAYS]
    return {name: cases[name] for name in dict.fromkeys(chosen + always)}


def some(names: list[str], place: Place, trials: Trials, period: int) -> list[str]:
    """As many of a period as the scale says; other ones at each place, and with each seed."""
    offset = list(ALL_PLACES).index(place.name) * period // len(ALL_PLACES) + trials.seed
    return [name for n, name in enumerate(names) if (n - offset) % period < trials.scale]
