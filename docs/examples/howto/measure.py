"""Measure requests that write their session, on several databases: measure.py URL ..."""

import sys
import time
from statistics import median

from pyramid.config import Configurator
from pyramid.request import Request

REQUESTS = 300


def count(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return {"visits": request.session["visits"]}


class Visitor:
    """A visitor whose every request writes the session."""

    def __init__(self, url):
        settings = {"sqlsession.sqlalchemy.url": url, "sqlsession.cleanup_interval": "0"}
        with Configurator(settings=settings) as config:
            config.include("pyramid_sqlsession")
            config.add_route("home", "/")
            config.add_view(count, route_name="home", renderer="json")
        self.app = config.make_wsgi_app()
        self.cookie = ""
        self.times = []

    def visit(self):
        request = Request.blank("/", headers={"Cookie": self.cookie})
        began = time.perf_counter()
        response = request.get_response(self.app)
        self.times.append(time.perf_counter() - began)
        self.cookie = self.cookie or response.headers["Set-Cookie"].split(";")[0]


def main(*urls):
    visitors = [Visitor(url) for url in urls]
    for _ in range(REQUESTS):
        # take turns, so that other load on the machine affects all alike
        for visitor in visitors:
            visitor.visit()
    for number, visitor in enumerate(visitors, 1):
        # the first request creates the table and the session
        print(f"database {number}: {median(visitor.times[1:]) * 1000:.2f} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
