"""Opens an application for one command, and says what went wrong in one line."""

from __future__ import annotations

import configparser
import logging
import os
import sys
from argparse import Namespace
from contextlib import ExitStack
from typing import Any

from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import ISessionFactory
from pyramid.paster import bootstrap, setup_logging
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..driver_errors import reason
from ..exceptions import SessionConflict, SessionTableError
from ..factory import SQLSessionFactory
from ..store import Store
from . import commands
from .commands import FAILED, MISUSED, Misuse, Opened
from .terminal import complain

log = logging.getLogger("pyramid_sqlsession")

INTERRUPTED = 130


def run(arguments: Namespace) -> int:
    """Run the command; its exit code."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except OSError as error:
        # the interpreter would try again at its exit, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            complain(f"the output cannot be written: {error}")
        return FAILED
    except Misuse as error:
        complain(str(error))
        return MISUSED
    except SessionTableError as error:
        complain(str(error))
    except SessionConflict as error:
        complain(f"{error}: try again")
    except SQLAlchemyError as error:
        log.debug("the database failed", exc_info=error)
        complain(
            f"the database failed ({reason(error)}): is it running, is its URL in "
            f"{arguments.config_uri} right, and may its user do this?"
        )
    return FAILED


def _run(arguments: Namespace) -> int:
    command = getattr(commands, arguments.run)
    with ExitStack() as stack:
        try:
            opened = _open(arguments, stack)
        except DBAPIError:
            raise
        except Exception as error:
            log.debug("the application could not be loaded", exc_info=error)
            raise Misuse(
                f"{arguments.config_uri} gives no sessions to operate: {_explained(error)}"
            ) from error
        code: int = command(opened, arguments)
    return code


def _open(arguments: Namespace, stack: ExitStack) -> Opened:
    """The sessions of the application; closing the stack closes everything that was opened.

    :raises Misuse: if they cannot be operated from here.
    """
    variables = dict(arguments.config_vars)
    setup_logging(arguments.config_uri, variables)
    environment = stack.enter_context(bootstrap(arguments.config_uri, options=variables))
    factory = environment["registry"].queryUtility(ISessionFactory)
    if not isinstance(factory, SQLSessionFactory):
        raise ConfigurationError(
            "its session factory is another one, call config.include('pyramid_sqlsession')"
        )
    stack.callback(factory.close)
    request = environment["request"]
    store = factory.visit(request).store
    created = _watch_creation(store, stack)
    engine = _reachable(store, request)
    # the application's too: nobody else uses it in this process
    stack.callback(engine.dispose)
    return Opened(store, engine, created)


def _watch_creation(store: Store, stack: ExitStack) -> list[Any]:
    """A list that receives the table if it is made from now on, be it by the database itself."""
    created: list[Any] = []

    def remember(table: Any, *_: Any, **__: Any) -> None:
        created.append(table)

    watched = (store.rows.table, "after_create", remember)
    event.listen(*watched)
    stack.callback(event.remove, *watched)
    return created


def _reachable(store: Store, request: Any) -> Engine:
    engine = store.database.engine(request)
    if engine is None or engine.url.query.get("vfs") == "memdb":
        raise ConfigurationError(
            f"it keeps sessions in {store.database}, which only the process that serves them can "
            "reach"
        )
    return engine


def _explained(error: Exception) -> str:
    # a deferred action's error comes wrapped
    error = getattr(error, "evalue", error)
    if isinstance(error, ConfigurationError):
        return str(error)
    if isinstance(error, configparser.ParsingError):
        # not its own words, which quote the line: that may be a URL with a password
        line = getattr(error, "lineno", None) or error.errors[0][0]
        return f"line {line} of it is neither a [section] nor KEY = VALUE"
    if isinstance(error, configparser.InterpolationError):
        return f"{error.option} in [{error.section}] has a % that is neither %% nor %(name)s"
    if isinstance(error, ValueError):
        # likewise: a URL whose host was forgotten takes the password for the port
        return "a ValueError, see the log of pyramid_sqlsession at the level DEBUG"
    return f"{type(error).__name__}: {error}"
