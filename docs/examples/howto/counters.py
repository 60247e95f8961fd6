"""Count session events in a StatsD server: config.include("counters")."""

import socket

from pyramid_sqlsession import SessionEvent


class Counters:
    """A subscriber that sends a UDP datagram for each event, without waiting."""

    def __init__(self, host, port):
        self.address = (host, port)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def __call__(self, event):
        name = type(event).__name__
        # some events say how or why
        for detail in ("outcome", "reason"):
            if hasattr(event, detail):
                name += f".{getattr(event, detail)}"
        self.socket.sendto(f"sessions.{name}:1|c".encode(), self.address)


def includeme(config):
    host, port = config.get_settings()["statsd"].split(":")
    counters = config.registry["counters"] = Counters(host, int(port))
    config.add_subscriber(counters, SessionEvent)
