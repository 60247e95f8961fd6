"""Views that a page's script calls."""

import time


def news(request):
    return {"user": request.authenticated_userid, "messages": request.session.pop_flash()}


def seconds_left(request):
    """For a dialog such as "You will be signed out in a minute"."""
    return request.session.expires_at - int(time.time())


def includeme(config):
    for view in (news, seconds_left):
        config.add_route(view.__name__, f"/{view.__name__}")
        config.add_view(view, route_name=view.__name__, renderer="json", session_visit=False)
