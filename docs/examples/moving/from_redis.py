"""Move the sessions of pyramid_session_redis."""

from pyramid_session_redis import session_factory_from_settings

from . import OldSessions, move_from


def includeme(config):
    factory = session_factory_from_settings(config.registry.settings)
    move_from(config, OldSessions(factory))
