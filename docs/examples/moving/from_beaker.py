"""Move the sessions of pyramid_beaker."""

from pyramid_beaker import session_factory_from_settings

from . import OldSessions, move_from

# what Beaker keeps beside the application's keys
OWN = {"_accessed_time", "_creation_time", "_domain", "_id", "_path"}


class BeakerSessions(OldSessions):
    """Beaker's sessions: ``invalidate()`` leaves the old one in the store."""

    def read(self, old):
        """What an old session holds."""
        return {key: old[key] for key in old if key not in OWN}

    def end(self, old):
        """Remove an old session from the store."""
        old.namespace.remove()


def includeme(config):
    factory = session_factory_from_settings(config.registry.settings)
    move_from(config, BeakerSessions(factory, "beaker.session.id"))
