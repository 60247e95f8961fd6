"""What pshell offers beside the request: the ini file names it under [pshell]."""

from pyramid.request import Request, apply_request_extensions


def setup(env):
    request = env["request"]

    def session_of(token):
        """A visitor's session by the token in the cookie, to be read."""
        visit = Request.blank("/", headers={"Cookie": f"session={token}"})
        visit.registry = request.registry
        apply_request_extensions(visit)
        return visit.session

    env["sessions"] = request.sqlsessions
    env["session_of"] = session_of
    request.tm.begin()
    yield
    request.tm.abort()
