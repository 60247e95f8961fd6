"""The save tween: between pyramid_tm's tween and the exception views'."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pyramid.exceptions import ConfigurationError
from pyramid.httpexceptions import HTTPNotFound
from pyramid.interfaces import ISessionFactory, ITweens
from pyramid.tweens import EXCVIEW, excview_tween_factory
from pyramid_tm import is_tm_active, maybe_tag_retryable, tm_tween_factory

from .exceptions import see
from .factory import SQLSessionFactory
from .included import INCLUDED, SAVE, TM, described
from .request.failure import leave_failed, watch_flushes
from .request.policy import PolicyCheck
from .request.save import flush, remember, save
from .request.visit import Phase, Visit
from .transactions import current_transaction, will_be_retried

log = logging.getLogger("pyramid_sqlsession")

Handler = Callable[[Any], Any]


def save_tween_factory(handler: Handler, registry: Any) -> Handler:
    """The save tween: it saves the session after the view, or an exception view, has run.

    ``config.include('pyramid_sqlsession')`` puts it under ``pyramid_tm.tm_tween_factory`` and over
    ``pyramid.tweens.excview_tween_factory``.
    """
    factory = registry.queryUtility(ISessionFactory)
    _tell_overriding(registry, factory)
    if not isinstance(factory, SQLSessionFactory):
        return handler
    factory.prepare(registry)
    watch_flushes()
    policy = PolicyCheck(factory.settings.userid_key)
    settings = registry.settings
    has_veto = bool(settings.get("tm.commit_veto", settings.get("pyramid_tm.commit_veto")))

    def save_tween(request: Any) -> Any:
        visit = factory.visit(request)
        transaction = _enter(visit)
        try:
            visit.store.cleaner.start()
            response = handler(request)
            policy.look(visit, transaction)
            return _leave(visit, response, has_veto)
        except Exception:
            if visit.is_used:
                remember(visit)
                # an exception view that raises has failed like the view
                visit.state.failure = None
            raise
        finally:
            # a session that was loaded has shown its engine
            if not visit.is_used or visit.state.loaded is None:
                visit.store.database.notice(request)
            if visit.phase is Phase.OPEN:
                visit.end(Phase.DETACHED)
            if transaction is not None and not visit.nested:
                transaction.set_data(visit.store, None)

    return save_tween


def _tell_overriding(registry: Any, factory: Any) -> None:
    if factory is registry.queryUtility(ISessionFactory, INCLUDED):
        return
    what = described(registry, factory)
    if isinstance(factory, SQLSessionFactory):
        log.info(
            "the session factory is overridden by %s: the sqlsession.* settings are ignored", what
        )
    else:
        log.warning(
            "the session factory is overridden by %s: pyramid_sqlsession stores no sessions", what
        )


def check_explicit_tweens(registry: Any) -> None:
    """Check that an explicit ``pyramid.tweens`` setting has the save tween in its place.

    :raises ConfigurationError: if not; the message lists the lines it needs.
    """
    explicit = [factory for _, factory in registry.getUtility(ITweens).explicit]
    if not explicit or not isinstance(registry.queryUtility(ISessionFactory), SQLSessionFactory):
        return
    wanted = [tm_tween_factory, save_tween_factory, excview_tween_factory]
    if [factory for factory in explicit if factory in wanted] not in (wanted, wanted[:2]):
        raise ConfigurationError(
            "the pyramid.tweens setting must list pyramid_sqlsession's tween, which stores the "
            f"session, between pyramid_tm's and the one for exception views:\n  {TM}\n  {SAVE}\n"
            f"  {EXCVIEW}"
        )


def _enter(visit: Visit) -> Any:
    request, store = visit.request, visit.store
    visit.phase = Phase.OPEN
    transaction = current_transaction(request)
    if transaction is not None:
        try:
            visit.nested = transaction.data(store) is not None
        except KeyError:
            visit.nested = False
        if not visit.nested:
            transaction.set_data(store, visit)
    return transaction


def _leave(visit: Visit, response: Any, has_veto: bool) -> Any:
    request = visit.request
    transaction = current_transaction(request)
    if visit.nested:
        _warn(visit, "the request is nested in another one; share the outer request's "
              "session: subrequest.session = request.session")  # fmt: skip
        visit.end(Phase.CLOSED)
    elif request.exc_info is not None:
        if visit.is_used:
            leave_failed(visit, transaction, response, has_veto=has_veto)
    elif transaction is None and is_tm_active(request):
        _warn(visit, "the view ended the request's transaction and began no other")
    else:
        return _save(visit, transaction, response, has_veto)
    return response


def _warn(visit: Visit, reason: str) -> None:
    if visit.is_changed:
        log.warning("session changes are not stored: %s %s", reason, see("trouble-lost"))


def _save(visit: Visit, transaction: Any, response: Any, has_veto: bool) -> Any:
    try:
        if flush(visit, transaction, has_veto=has_veto):
            save(visit, transaction)
    except Exception as error:  # noqa: BLE001  # rendered, or raised again
        return _render(visit, transaction, error)
    visit.end(Phase.CLOSED, transaction)
    return response


def _render(visit: Visit, transaction: Any, error: Exception) -> Any:
    """Render the error of a save with the application's exception views."""
    request, exc_info = visit.request, sys.exc_info()
    visit.end(Phase.DETACHED)
    if transaction is not None:
        maybe_tag_retryable(request, exc_info)
        # else a commit veto that accepts the rendered response would commit half
        transaction.doom()
    if will_be_retried(request, error):
        raise error
    with suppress(HTTPNotFound):
        return request.invoke_exception_view(exc_info)
    raise error
