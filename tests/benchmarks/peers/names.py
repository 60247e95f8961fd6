"""What those who are measured are called in the tables."""

from __future__ import annotations

PLAIN = "Pyramid"
TRANSACTIONAL = "Pyramid, pyramid_tm"
ASKING = "Pyramid, pyramid_tm, dbsession, a query"
FLASK_PLAIN = "Flask, Flask-SQLAlchemy"
DJANGO_PLAIN = "Django without sessions"

OWN = "pyramid_sqlsession, own engine"
SHARED = "pyramid_sqlsession, dbsession"
CORE = "Core statements, dbsession"
FLOOR = "the driver alone"
CALLED = "the driver, called by a view"
BEGUN = "the driver, in a transaction"
REDIS = "pyramid_session_redis"
REDIS_GET = "pyramid_session_redis, no EXPIRE"
BEAKER = "pyramid_beaker, ext:database"
FLASK = "Flask-Session, SQLAlchemy"
DJANGO = "Django, database sessions"
COOKIE = "Pyramid's signed cookie"

OURS = (OWN, SHARED)
BARE = (FLOOR, CALLED, BEGUN, CORE)
"""Statements without a session store."""


def marked(name: str) -> str:
    """A name as tables show it: what is ours stands out."""
    return f"**{name}**" if name in OURS else name
