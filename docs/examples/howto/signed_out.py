"""End all sessions of some users: signed_out.py INI USER ..."""

import sys

from pyramid.paster import bootstrap, setup_logging


def main(config_uri, *users):
    setup_logging(config_uri)
    with bootstrap(config_uri) as env:
        sessions = env["request"].sqlsessions
        for user in users:
            for session in sessions.of_user(user):
                seen = f"{session.last_seen:%Y-%m-%d %H:%M}"
                print(f"{user} was seen at {seen}, session {session.handle[:8]}")
            print(f"{user}: {sessions.revoke_user(user)} ended")


if __name__ == "__main__":
    main(*sys.argv[1:])
