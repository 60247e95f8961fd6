"""Move the sessions of Pyramid's SignedCookieSessionFactory."""

from pyramid.session import SignedCookieSessionFactory

from . import OldSessions, move_from


def includeme(config):
    # as it was made, but for reissue_time
    factory = SignedCookieSessionFactory(
        config.registry.settings["session.secret"], timeout=1200, reissue_time=None
    )
    move_from(config, OldSessions(factory))
