"""One process, several domains: sqlsession.cookie_domain."""


def cookie_domain(request):
    """All hosts of example.org share their cookie; every other host has its own."""
    host = request.domain
    if host == "example.org" or host.endswith(".example.org"):
        return "example.org"
    return None
