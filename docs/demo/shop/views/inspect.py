"""What is in my session: the session beside its row in the table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any, NamedTuple

from pyramid.request import Request
from pyramid.view import view_config
from sqlalchemy import select

from pyramid_sqlsession import cookie_values

from ..models import Session

MEANINGS = {
    "id": "The SHA-256 of the token in your cookie. It finds the row; the token cannot be computed"
    " from it.",
    "lineage": "The same from the session's start to its end, whatever token it has. It is the"
    " handle by which your devices are listed and signed out. Signing in starts a new one.",
    "user_id": "Who is signed in. NULL means nobody.",
    "data": "All that the session holds, as JSON: {size} bytes.",
    "version": "Goes up with every write of the data. It tells a request that another one was"
    " faster.",
    "created": "When the session started. Signing in starts a new one.",
    "last_seen": "When you were last seen. Pages that only read record it once a minute at most."
    " The session expires when you have been away longer than its lifetime.",
    "max_age": "This session's own lifetime in seconds, set by “Keep me signed in”. Otherwise"
    " sqlsession.ttl applies, two weeks here.",
    "purge_after": "After this time the row is deleted, if the session has expired.",
    "replaced": "When this row's token was replaced. Signing in gives you a new token and a new"
    " row; the old row then only serves late requests and opens no session.",
    "agent": "How your browser identifies itself: a column that the shop adds for “Your devices”.",
}


class Column(NamedTuple):
    """One column of the session's row, made readable."""

    name: str
    value: str
    meaning: str


@view_config(route_name="session", renderer="shop:templates/session.jinja2")
def show_session(request: Request) -> dict[str, Any]:
    """Show the session, its row, and that the cookie's token is nowhere in the table."""
    holds = json.dumps(dict(request.session), indent=2, ensure_ascii=False)
    row = find_row(request)
    if row is None:
        return {"holds": holds, "row": None}
    name = request.registry.settings.get("sqlsession.cookie_name", "session")
    # of several cookies of that name, which other programs on this host may have set, the row's
    token = max(cookie_values(request, name), key=lambda it: hash_of(it) == row.id)
    rows = request.dbsession.execute(select(Session.__table__)).all()
    return {
        "holds": holds,
        "row": describe(row),
        "token": token,
        "token_hash": hash_of(token).hex(),
        "rows_searched": len(rows),
        "rows_with_token": sum(holds_text(row, token) for row in rows),
    }


def hash_of(token: str) -> bytes:
    """Return the id of a token's row."""
    return hashlib.sha256(token.encode()).digest()


def find_row(request: Request) -> Session | None:
    """Return the row of the session; another request may have deleted it meanwhile."""
    handle = request.session.id
    if handle is None:
        return None
    # the rows of tokens that were replaced have the same lineage
    live = select(Session).filter_by(lineage=bytes.fromhex(handle), replaced=None)
    return request.dbsession.scalars(live).first()


def describe(row: Session) -> list[Column]:
    """Return the columns of a row, as they are in the table while this page is made."""
    names = [column.key for column in Session.__table__.columns]
    size = len(row.data)
    return [
        Column(name, readable(name, getattr(row, name)), MEANINGS[name].format(size=size))
        for name in names
    ]


def readable(name: str, value: Any) -> str:
    """Return the value of a column as people write it."""
    if value is None:
        return "NULL"
    if name in ("id", "lineage"):
        return str(value.hex())
    if name == "data":
        return str(value.decode())
    if name in ("created", "last_seen", "purge_after"):
        moment = datetime.fromtimestamp(value, timezone.utc)
        return f"{moment:%d %B %Y, %H:%M:%S} UTC ({value})"
    return str(value)


def holds_text(row: Iterable[Any], text: str) -> bool:
    """Tell whether a text stands anywhere in a row."""
    values = (v.decode("latin-1") if isinstance(v, bytes) else str(v) for v in row)
    return any(text in value for value in values)
