"""An audit trail: one row for each sign-in and each end of a user's session."""

import time

from accounts import Base
from pyramid_tm import is_tm_active
from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from pyramid_sqlsession import SessionCreated, SessionEnded, SessionRegenerated


class Audit(Base):
    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    user: Mapped[str] = mapped_column(String(255))
    session: Mapped[str] = mapped_column(String(32))
    what: Mapped[str] = mapped_column(String(20))
    address: Mapped[str | None] = mapped_column(String(45))


def what(event):
    if isinstance(event, SessionEnded):
        return event.reason
    if isinstance(event, SessionRegenerated) and event.handle == event.old_handle:
        # the same user signed in again, or session.regenerate() was called
        return "renewed"
    return "sign-in"


def audit(event):
    request = event.request
    if event.user_id is None:
        return
    entry = Audit(
        at=int(time.time()),
        user=event.user_id,
        session=event.handle,
        what=what(event),
        address=request.client_addr,
    )
    if is_tm_active(request):
        request.dbsession.add(entry)
    else:
        # there is no transaction of the request
        request.add_finished_callback(lambda request: store(request, entry))


def store(request, entry):
    with request.registry["dbsession_factory"].begin() as dbsession:
        dbsession.add(entry)


def includeme(config):
    for event in (SessionCreated, SessionRegenerated, SessionEnded):
        config.add_subscriber(audit, event)
