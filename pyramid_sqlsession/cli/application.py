"""Opens an application for one command, and explains a failure in one line."""

from __future__ import annotations

import configparser
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any

import plaster
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

_COMPOSITES = ("composite", "composit")
_APPLICATIONS = ("app", "application", "pipeline", "filter-app")


def run(arguments: Namespace) -> int:
    """Run the command; its exit code."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except OSError as error:
        # else the interpreter flushes again at exit, and prints a traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            complain(f"cannot write the output: {error}")
        return FAILED
    except Misuse as error:
        complain(str(error))
        return MISUSED
    except SessionTableError as error:
        complain(str(error))
    except SessionConflict as error:
        complain(f"{error}; try again")
    except SQLAlchemyError as error:
        log.debug("database error", exc_info=error)
        complain(
            f"database error ({reason(error)}): check that the database is running, its URL in "
            f"{arguments.config_uri}, and the privileges of its user"
        )
    return FAILED


def _run(arguments: Namespace) -> int:
    command = getattr(commands, arguments.run)
    with ExitStack() as stack:
        try:
            opened = _open(arguments, stack)
        except (DBAPIError, Misuse):
            raise
        except Exception as error:
            log.debug("cannot load the application", exc_info=error)
            raise Misuse(f"cannot load {arguments.config_uri}: {_explained(error)}") from error
        code: int = command(opened, arguments)
    return code


def _open(arguments: Namespace, stack: ExitStack) -> Opened:
    """The sessions of the application; closing the stack closes everything that was opened.

    :raises Misuse: if a command cannot work on them.
    """
    variables = dict(arguments.config_vars)
    setup_logging(arguments.config_uri, variables)
    config_uri = _chosen(arguments, variables)
    # what the application prints is no result
    with _warnings_only(), redirect_stdout(sys.stderr):
        environment = stack.enter_context(bootstrap(config_uri, options=variables))
    # once more: the application may have set up its logging itself
    stack.enter_context(_warnings_only())
    factory = environment["registry"].queryUtility(ISessionFactory)
    if not isinstance(factory, SQLSessionFactory):
        raise ConfigurationError(
            "the application uses another session factory: call "
            "config.include('pyramid_sqlsession') and remove other calls of "
            "config.set_session_factory()"
        )
    stack.callback(factory.close)
    request = environment["request"]
    store = factory.visit(request).store
    created = _watch_creation(store, stack)
    engine = _reachable(store, request)
    # the application's own engine too: nobody else uses it in this process
    stack.callback(engine.dispose)
    return Opened(store, engine, created)


def _chosen(arguments: Namespace, variables: dict[str, str]) -> str:
    """The CONFIG_URI of the one application whose sessions are meant.

    :raises Misuse: if a composite serves several.
    """
    given: str = arguments.config_uri
    file, _, section = given.partition("#")
    section = section or "main"
    names = _applications(plaster.get_loader(given, ["wsgi"]), section, variables)
    if not names:
        return given
    if len(names) == 1:
        if not arguments.quiet:
            complain(f"using {file}#{names[0]}, the only application of [composite:{section}]")
        return f"{file}#{names[0]}"
    found = " or ".join(f"{file}#{name}" for name in names)
    raise Misuse(f"[composite:{section}] in {file} serves several applications: use {found}")


def _applications(loader: Any, section: str, variables: Mapping[str, str]) -> list[str]:
    """The sections of the applications that a composite names, each once; of others, none.

    :param loader: the plaster loader of the file.
    """
    sections = set(loader.get_sections())
    if _kind(sections, section, _COMPOSITES) is None:
        return []
    return list(dict.fromkeys(_served(loader, sections, section, variables, {section})))


def _served(
    loader: Any, sections: set[str], section: str, variables: Mapping[str, str], seen: set[str]
) -> Iterator[str]:
    full = _kind(sections, section, _COMPOSITES)
    if full is None:
        yield section
        return
    values = loader.get_settings(full, dict(variables)).values()
    for name in (name for value in values for name in value.split()):
        if name not in seen and _kind(sections, name, (*_COMPOSITES, *_APPLICATIONS)):
            yield from _served(loader, sections, name, variables, seen | {name})


def _kind(sections: set[str], name: str, kinds: tuple[str, ...]) -> str | None:
    """The full name of a section that is of one of these kinds."""
    return next((f"{kind}:{name}" for kind in kinds if f"{kind}:{name}" in sections), None)


@contextmanager
def _warnings_only() -> Iterator[None]:
    """Keep log lines below WARNING off the terminal; other handlers are left as configured.

    If the logger is set to DEBUG, the terminal shows everything.
    """
    if log.isEnabledFor(logging.DEBUG):
        yield
        return
    changed = [(handler, handler.level) for handler in _handlers() if _is_console(handler)]
    for handler, level in changed:
        handler.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        for handler, level in changed:
            handler.setLevel(level)


def _handlers() -> set[logging.Handler]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    # a placeholder in the tree has none
    return {handler for logger in loggers for handler in getattr(logger, "handlers", ())}


def _is_console(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None)
    return stream is not None and stream in (sys.stdout, sys.stderr)


def _watch_creation(store: Store, stack: ExitStack) -> list[Any]:
    """A list that receives the table if it is created from now on, by whatever code."""
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
            f"it keeps its sessions in {store.database}, which no other process can reach"
        )
    return engine


def _explained(error: Exception) -> str:
    # Pyramid wraps the error of a deferred action
    error = getattr(error, "evalue", error)
    if isinstance(error, ConfigurationError):
        return str(error)
    if isinstance(error, configparser.ParsingError):
        # not its own message, which quotes the line: that may be a URL with a password
        line = getattr(error, "lineno", None) or error.errors[0][0]
        return f"line {line} is neither [section] nor KEY = VALUE"
    if isinstance(error, configparser.InterpolationError):
        return f"{error.option} in [{error.section}] has a % that is neither %% nor %(name)s"
    if isinstance(error, plaster.LoaderNotFound):
        return "no installed package reads this kind of file: expected an ini file"
    if isinstance(error, FileNotFoundError):
        return f"no such file: {error.filename}"
    if isinstance(error, ValueError):
        # likewise: a URL without a host shows its password as an invalid port
        return "ValueError; set the logger pyramid_sqlsession to DEBUG for details"
    return f"{type(error).__name__}: {error}"
