"""Move the sessions of Pyramid's SignedCookieSessionFactory."""

from pyramid.session import SignedCookieSessionFactory

from . import OldSessions, move_from


def includeme(config):
    factory = SignedCookieSessionFactory(config.registry.settings["session.secret"], timeout=1200)
    move_from(config, OldSessions(factory))
