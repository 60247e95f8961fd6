"""Who is online: a query on the application's own session model."""

import time

from accounts import Session
from sqlalchemy import select


def online(request):
    """Users who were active in the last five minutes, and perhaps some from the last ten."""
    since = int(time.time()) - 10 * 60
    users = (
        select(Session.user_id)
        .distinct()
        .where(
            Session.last_seen > since,
            Session.user_id.is_not(None),
            Session.replaced.is_(None),  # skip rows whose token was replaced
        )
        .order_by(Session.user_id)
    )
    return request.dbsession.scalars(users).all()


def includeme(config):
    config.add_route("online", "/online")
    config.add_view(online, route_name="online", renderer="json")
