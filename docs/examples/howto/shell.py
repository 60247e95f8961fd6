"""Names for pshell; the ini file refers to it under [pshell]."""

from pyramid.request import Request, apply_request_extensions


def setup(env):
    request = env["request"]

    def session_of(token):
        """Read the session of a token, the value of a visitor's cookie."""
        visit = Request.blank("/", headers={"Cookie": f"session={token}"})
        visit.registry = request.registry
        apply_request_extensions(visit)
        return visit.session

    env["sessions"] = request.sqlsessions
    env["session_of"] = session_of
    request.tm.begin()
    yield
    request.tm.abort()
