"""Keep CSRF tokens in a cookie, so that showing a form stores no session."""

from pyramid.csrf import CookieCSRFStoragePolicy, new_csrf_token

from pyramid_sqlsession import SessionCreated, SessionRegenerated


def renew(event):
    """Renew the token at a sign-in, as pyramid_sqlsession does if the session holds it."""
    if event.user_id is not None:
        new_csrf_token(event.request)


def includeme(config):
    policy = CookieCSRFStoragePolicy(cookie_name="__Host-csrf", secure=True, httponly=True)
    config.set_csrf_storage_policy(policy)
    config.add_subscriber(renew, SessionCreated)
    config.add_subscriber(renew, SessionRegenerated)
