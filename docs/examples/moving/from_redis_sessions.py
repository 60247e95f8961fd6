"""Move the sessions of pyramid_redis_sessions, which does not run on Pyramid 2."""

import hmac
import pickle
from base64 import b64decode

from redis import Redis

from . import OldSessions, move_from


class KeySessions(OldSessions):
    """Keys in Redis. A cookie is the signature of a pickled key, and that key."""

    def __init__(self, redis, secret, **attributes):
        super().__init__(None, **attributes)
        self.redis = redis
        self.secret = secret.encode("latin-1")

    def open(self, request):
        """The key of a request's session; None if the signature is wrong."""
        cookie = self.cookies(request)[-1]
        signature, pickled = cookie[:40], b64decode(cookie[40:])
        expected = hmac.new(self.secret, pickled, "sha1").hexdigest()
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            return None
        return pickle.loads(pickled)  # noqa: S301  # signed by the old application

    def read(self, key):
        """What an old session holds."""
        value = None if key is None else self.redis.get(key)
        # pickled by the old application
        return {} if value is None else pickle.loads(value)["managed_dict"]  # noqa: S301

    def end(self, key):
        """Delete an old session's key."""
        if key is not None:
            self.redis.delete(key)


def includeme(config):
    settings = config.registry.settings
    redis = Redis.from_url(settings["redis.sessions.url"])
    move_from(config, KeySessions(redis, settings["redis.sessions.secret"]))
