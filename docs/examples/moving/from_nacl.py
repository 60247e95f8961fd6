"""Move the sessions of pyramid_nacl_session."""

from pyramid_nacl_session import session_factory_from_settings

from . import OldSessions, move_from


def includeme(config):
    factory = session_factory_from_settings(config.registry.settings)
    move_from(config, OldSessions(factory))
