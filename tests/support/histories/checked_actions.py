"""What requests do to their sessions, and what has to be seen of it afterwards."""

from __future__ import annotations

from functools import partial
from typing import Any

from support.histories.meetings import QUEUE, USER, CheckedAction, Data, Parties, Party

# ---- what a view does


def put(session: Any, number: int) -> None:
    session[f"put {number}"] = f"by {number}"


def put_the_same(session: Any, number: int) -> None:
    session["same"] = f"by {number}"


def delete(session: Any, number: int) -> None:
    session.pop("kept", None)


def append(session: Any, number: int) -> None:
    session.setdefault("cart", []).append(f"by {number}")


def flash(session: Any, number: int) -> None:
    session.flash(f"by {number}")


def pop_flash(session: Any, number: int) -> Any:
    return session.pop_flash()


def read(session: Any, number: int) -> Any:
    return session.get("kept")


def sign_in(user: str, session: Any, number: int) -> None:
    session[USER] = user
    session["signed in"] = f"by {number}"


def sign_out(session: Any, number: int) -> None:
    session.pop(USER, None)


def regenerate(session: Any, number: int) -> None:
    session.regenerate()


def invalidate(session: Any, number: int) -> None:
    session.invalidate()


def go_on_anew(session: Any, number: int) -> None:
    session.invalidate()
    session["anew"] = f"by {number}"


def sign_in_anew(user: str, session: Any, number: int) -> None:
    session.invalidate()
    sign_in(user, session, number)


# ---- what has to be seen of it


def is_put(data: Data, one: Party, others: Parties) -> bool:
    return bool(data.get(f"put {one.number}") == one.value)


def is_put_or_overwritten(data: Data, one: Party, others: Parties) -> bool:
    rivals = {other.value for other in others if other.acknowledged and other.action is one.action}
    return data.get("same") in {one.value} | rivals


def is_deleted(data: Data, one: Party, others: Parties) -> bool:
    return "kept" not in data or not one.found


def is_appended(data: Data, one: Party, others: Parties) -> bool:
    is_overwritten = any(other.acknowledged and other.won("cart") for other in others)
    return one.value in data.get("cart", []) or is_overwritten


def waits_or_was_shown(data: Data, one: Party, others: Parties) -> bool:
    return one.value in data.get(QUEUE, []) or any(other.popped(one.value) for other in others)


def waits_no_longer(data: Data, one: Party, others: Parties) -> bool:
    return "old" not in data.get(QUEUE, []) or not one.found


PLAIN = (
    CheckedAction("put", put, is_put),
    CheckedAction("put the same key", put_the_same, is_put_or_overwritten),
    CheckedAction("delete", delete, is_deleted),
    CheckedAction("append", append, is_appended),
    CheckedAction("flash", flash, waits_or_was_shown),
    CheckedAction("pop_flash", pop_flash, waits_no_longer),
    CheckedAction("read", read),
)
ABOUT_THE_TOKEN = (
    *(
        CheckedAction(
            f"sign {user} in", partial(sign_in, user), user=user, renews=True, starts=("anonymous",)
        )
        for user in ("alice", "bob")
    ),
    CheckedAction(
        "step up", partial(sign_in, "alice"), user="alice", renews=True, starts=("signed in",)
    ),
    CheckedAction(
        "switch users", partial(sign_in, "bob"), user="bob", ends=True, starts=("signed in",)
    ),
    CheckedAction("sign out", sign_out, ends=True, starts=("signed in",)),
    CheckedAction("regenerate", regenerate, renews=True),
    CheckedAction("invalidate", invalidate, ends=True),
    CheckedAction("invalidate and go on", go_on_anew, ends=True),
    *(
        CheckedAction(
            f"invalidate and sign {user} in", partial(sign_in_anew, user), user=user, ends=True
        )
        for user in ("alice", "bob")
    ),
)
ACTIONS = PLAIN + ABOUT_THE_TOKEN
