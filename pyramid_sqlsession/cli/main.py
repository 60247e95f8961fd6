"""The command line: ``pyramid_sqlsession CONFIG_URI COMMAND ... [KEY=VALUE ...]``."""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, NoReturn

from ..settings import converters as to

# a token of 43 characters, pasted with more or less around it
_TOKEN = re.compile(r"[\w-]{30,}")


class _Parser(argparse.ArgumentParser):
    """A parser whose messages hide anything that may be a token, pasted as a handle."""

    def error(self, message: str) -> NoReturn:
        super().error(_TOKEN.sub("(hidden: may be a token)", message))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code.

    0: done. 1: failed. 2: wrong usage or configuration. 130: interrupted. 143: terminated.

    :param argv: the arguments; by default those of the process.
    """
    # None if it was closed before the process started
    if sys.stdout is None:
        sys.stdout = io.StringIO()
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    arguments = _parser().parse_args(argv)
    arguments.check(arguments)
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
        "1 failed, 2 wrong usage or configuration, 130 interrupted, 143 terminated.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    _add_quiet(parser, default=False)
    parser.add_argument("config_uri", metavar="CONFIG_URI", help="the ini file, or FILE#SECTION")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_add_create_table, _add_purge, _add_stats, _add_list, _add_revoke):
        add(commands)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when somebody asks for it."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        sys.stdout.write(f"pyramid_sqlsession {version('pyramid_sqlsession')}\n")
        parser.exit()


def _command(commands: Any, name: str, run: str, summary: str) -> _Parser:
    command: _Parser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )
    command.set_defaults(run=run, check=lambda _: None)
    _add_quiet(command)
    return command


def _add_quiet(parser: _Parser, default: Any = argparse.SUPPRESS) -> None:
    parser.add_argument(
        "-q", "--quiet", action="store_true", default=default,
        help="print errors, and what stats, list and --dry-run show; nothing else",
    )  # fmt: skip


def _add_variables(command: _Parser) -> None:
    command.add_argument(
        "config_vars", nargs="*", type=_variable, metavar="KEY=VALUE",
        help="set %%(KEY)s in the ini file",
    )  # fmt: skip


def _add_create_table(commands: Any) -> None:
    summary = "create the table and its indexes if they are missing"
    command = _command(commands, "create-table", "create", summary)
    _add_variables(command)


def _add_purge(commands: Any) -> None:
    command = _command(commands, "purge", "purge", "delete the rows of expired sessions")
    command.add_argument(
        "--batch", metavar="N", type=_number(10_000),
        help="delete at most N rows per transaction (default: 100, or sqlsession.cleanup_batch "
        "if that is less)",
    )  # fmt: skip
    command.add_argument(
        "--limit", metavar="N", type=_number(10**12), help="delete at most N rows in all"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="count the rows instead of deleting them"
    )
    _add_variables(command)


def _add_stats(commands: Any) -> None:
    command = _command(commands, "stats", "stats", "count sessions by state, age and size")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    _add_variables(command)


def _add_list(commands: Any) -> None:
    command = _command(commands, "list", "list_sessions", "list the live sessions of a user")
    command.add_argument(
        "--user", metavar="ID", required=True, help="the value in the column user_id"
    )
    _add_variables(command)


def _add_revoke(commands: Any) -> None:
    command = _command(commands, "revoke", "revoke", "end sessions")
    command.add_argument("--user", metavar="ID", help="end all sessions of this user")
    command.add_argument(
        "handles", nargs="*", metavar="HANDLE",
        help="end the session with this handle (see list); KEY=VALUE may follow",
    )  # fmt: skip
    command.set_defaults(check=partial(_split_handles, command))


def _split_handles(command: _Parser, arguments: argparse.Namespace) -> None:
    """Separate the handles from the variables."""
    given = arguments.handles
    arguments.config_vars = [_variable(value) for value in given if "=" in value]
    arguments.handles = [value for value in given if "=" not in value]
    for position, handle in enumerate(arguments.handles, 1):
        if re.fullmatch("[0-9a-fA-F]{32}", handle) is None:
            # the value is hidden: it may be a token, which opens the session
            command.error(f"HANDLE {position} is not a valid handle: expected 32 hex digits")
    if bool(arguments.handles) == (arguments.user is not None):
        command.error("give either HANDLE or --user ID")


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError("expected KEY=VALUE")
    return name, value


def _number(high: int) -> Callable[[str], int]:
    convert = to.between(to.number, 1, high)

    def converter(text: str) -> int:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"expected a number from 1 to {high:,}") from error

    return converter
