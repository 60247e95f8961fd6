"""The command line: ``pyramid_sqlsession CONFIG_URI COMMAND ... [KEY=VALUE ...]``."""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, NoReturn

from ..settings import converters as to

# a token of 43 characters, pasted with more or less around it
_TOKEN = re.compile(r"[\w-]{30,}")


class _Parser(argparse.ArgumentParser):
    """A parser whose messages show nothing that may be a token, pasted for a handle."""

    def error(self, message: str) -> NoReturn:
        super().error(_TOKEN.sub("(not shown, it may be a token)", message))


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of one command: 0 done, 1 failed, 2 usage or configuration, 130 interrupted.

    :param argv: the arguments, else those of the process.
    """
    # a stream that was closed is None
    if sys.stdout is None:
        sys.stdout = io.StringIO()
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    parser = _parser()
    arguments = parser.parse_args(argv)
    arguments.check(arguments)
    if find_spec("rich") is None:
        parser.exit(2, f"{parser.prog}: install what the command line needs with "
                       "pip install 'pyramid_sqlsession[cli]'\n")  # fmt: skip
    try:
        from .application import run
    except KeyboardInterrupt:
        return 130
    return run(arguments)


def _parser() -> _Parser:
    parser = _Parser(
        prog="pyramid_sqlsession",
        description="Operate the sessions of a Pyramid application.",
        epilog="KEY=VALUE after a command sets %(KEY)s in the ini file. Exit codes: 0 done, "
        "1 failed, 2 wrong usage or configuration, 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument("config_uri", metavar="CONFIG_URI", help="the ini file, or FILE#SECTION")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_add_create_table, _add_purge, _add_stats, _add_list, _add_revoke):
        add(commands)
    return parser


def _command(commands: Any, name: str, run: str, summary: str) -> _Parser:
    command: _Parser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )
    command.set_defaults(run=run, check=lambda _: None)
    return command


def _add_variables(command: _Parser) -> None:
    command.add_argument(
        "config_vars", nargs="*", type=_variable, metavar="KEY=VALUE", help="for the ini file"
    )


def _add_create_table(commands: Any) -> None:
    summary = "create the table and its indexes unless they are there"
    _add_variables(_command(commands, "create-table", "create", summary))


def _add_purge(commands: Any) -> None:
    command = _command(commands, "purge", "purge", "delete the rows of expired sessions")
    command.add_argument(
        "--batch", metavar="N", type=_number(10_000),
        help="how many rows one transaction deletes at most (default: sqlsession.cleanup_batch)",
    )  # fmt: skip
    command.add_argument(
        "--limit", metavar="N", type=_number(10**12), help="delete so many rows at most"
    )
    command.add_argument("--dry-run", action="store_true", help="only say how many there are")
    _add_variables(command)


def _add_stats(commands: Any) -> None:
    command = _command(commands, "stats", "stats", "count sessions by state, age and size")
    command.add_argument("--json", action="store_true", help="as JSON, instead of as a table")
    _add_variables(command)


def _add_list(commands: Any) -> None:
    command = _command(commands, "list", "list_sessions", "list the live sessions of a user")
    command.add_argument("--user", metavar="ID", required=True, help="the value of user_id")
    _add_variables(command)


def _add_revoke(commands: Any) -> None:
    command = _command(commands, "revoke", "revoke", "end sessions at once")
    command.add_argument("--user", metavar="ID", help="end all sessions of this user")
    command.add_argument(
        "handles", nargs="*", metavar="HANDLE",
        help="end the session with this handle, as list shows it; KEY=VALUE may follow",
    )  # fmt: skip
    command.set_defaults(check=partial(_split_handles, command))


def _split_handles(command: _Parser, arguments: argparse.Namespace) -> None:
    """Tell handles from variables, of both of which there may be many."""
    given = arguments.handles
    arguments.config_vars = [_variable(value) for value in given if "=" in value]
    arguments.handles = [value for value in given if "=" not in value]
    for position, handle in enumerate(arguments.handles, 1):
        if re.fullmatch("[0-9a-fA-F]{32}", handle) is None:
            # it is not shown: a token opens the session
            command.error(f"HANDLE number {position} is no handle: it takes 32 hexadecimal digits")
    if bool(arguments.handles) == (arguments.user is not None):
        command.error("give either handles or --user ID")


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError("a variable is KEY=VALUE")
    return name, value


def _number(high: int) -> Callable[[str], int]:
    convert = to.between(to.number, 1, high)

    def converter(text: str) -> int:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"it takes a number from 1 to {high:,}") from error

    return converter
