"""Take the live sessions of another session factory over, each of them once."""

import json
import logging
import re
from copy import deepcopy

from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import ISessionFactory
from pyramid.tweens import EXCVIEW
from pyramid_tm import is_tm_active

from pyramid_sqlsession import cookie_values

from .plain import plain

log = logging.getLogger(__name__)

CSRF = "_csrft_"
FLASH = "_f_"
# what the old stores make cookies of
COOKIE = re.compile(r"[\w.%+/=-]{1,4096}", re.ASCII)


class OldSessions:
    """The sessions of another factory, which are read and ended, and never written.

    The keywords are attributes of its cookie. A cookie is removed with those it was set with.
    """

    def __init__(self, factory, cookie_name="session", *, path="/", domain=None):
        self.factory = factory
        self.cookie_name = cookie_name
        self.cookie_attributes = {"path": path, "domain": domain}

    def cookies(self, request):
        """The old cookies of a request: as a rule there is one."""
        return list(filter(COOKIE.fullmatch, cookie_values(request, self.cookie_name)))

    def open(self, request):
        """The old session of a request.

        It gets a copy of the request, whose callbacks never run: so it stores nothing, records no
        activity and sends no cookie. In other cookies than its own it would find what is none.
        """
        copy = request.copy_get()
        copy.registry = request.registry
        own = [f"{self.cookie_name}={value}" for value in self.cookies(request)]
        copy.environ["HTTP_COOKIE"] = "; ".join(own)
        return self.factory(copy)

    def read(self, old):
        """What an old session holds."""
        return dict(old)

    def end(self, old):
        """End an old session in its store, so that nobody can take it over again."""
        old.invalidate()


def move_from(config, old_sessions):
    """Take sessions over from now on. Call it beside ``config.include("pyramid_sqlsession")``."""
    config.registry.old_sessions = old_sessions
    # pyramid_tm would ask who is signed in before the session has been taken over
    config.add_settings({"tm.annotate_user": "false"})
    config.add_tween(
        f"{__name__}.moving_tween_factory",
        under="pyramid_sqlsession.save_tween_factory",
        over=EXCVIEW,
    )


def moving_tween_factory(handler, registry):
    """A tween just under the one that saves the session."""
    old_sessions = registry.old_sessions
    settings = registry.getUtility(ISessionFactory).settings
    if settings.cookie_name == old_sessions.cookie_name:
        raise ConfigurationError("give the new cookie another name: sqlsession.cookie_name = sid")

    def moving_tween(request):
        if not old_sessions.cookies(request):
            return handler(request)
        if cookie_values(request, settings.cookie_name):
            # the browser has the new cookie, so that nobody needs the old session any more
            response = handler(request)
            end(request, response)
            return response
        try:
            taken = storable(old_sessions.read(old_sessions.open(request)), settings.max_size)
        except Exception:
            log.warning("an old session cannot be read, and is not moved", exc_info=True)
            return handler(request)
        known = deepcopy(taken)
        request.session.update(taken)
        response = handler(request)
        is_left = leave_behind(request.session, taken, known, settings.userid_key)
        transaction = request.tm.get() if is_tm_active(request) else None

        def finish(request, response):
            is_committed = transaction is None or transaction.status == "Committed"
            # this request has signed out, or there was nothing to move
            if is_committed and (is_left or not request.session):
                end(request, response)

        request.add_response_callback(finish)
        return response

    def end(request, response):
        try:
            old_sessions.end(old_sessions.open(request))
        except Exception:
            log.warning("an old session cannot be ended", exc_info=True)
        response.set_cookie(
            old_sessions.cookie_name,
            None,
            secure=request.scheme == "https",
            **old_sessions.cookie_attributes,
        )
        # from a shared cache it would remove other visitors' cookies
        response.cache_control.no_store = True

    return moving_tween


def storable(data, max_size):
    """What can be stored of a session."""
    taken = {}
    for key, value in data.items():
        taken |= _plain_item(key, value)
    # a serializer of your own may store more than JSON can hold
    if len(json.dumps(taken, default=str)) > max_size:
        raise ValueError("it is longer than sqlsession.max_size")
    return taken


def leave_behind(session, taken, known, userid_key):
    """Drop what must not outlive a sign-in or a sign-out; tell whether a user was left.

    The store does that by itself for a session that it has loaded. This one is new to it. *known*
    is what *taken* was before the view ran.
    """
    user = taken.get(userid_key)
    if session.get(userid_key) == user:
        return False
    for key, value in taken.items():
        # after a sign-in the CSRF token, which was known before; of another user everything
        if (user is not None or key == CSRF) and session.get(key) is value:
            del session[key]
            if key.startswith(FLASH):
                # messages of this request came to the end of the same list
                for message in value[len(known[key]) :]:
                    session.flash(message, key.removeprefix(FLASH))
    return user is not None


def _plain_item(key, value):
    try:
        return plain({key: value})
    except ValueError as error:
        log.warning("the key %r of an old session is not moved: %s", key, error)
        return {}
