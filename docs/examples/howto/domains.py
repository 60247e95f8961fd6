"""Choose the cookie's domain by the request."""


def cookie_domain(request):
    """All hosts of example.org share a cookie; every other host has its own."""
    host = request.domain
    if host == "example.org" or host.endswith(".example.org"):
        return "example.org"
    return None
