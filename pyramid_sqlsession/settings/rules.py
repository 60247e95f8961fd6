"""Which settings do not go together."""

from __future__ import annotations

from typing import Any

_LIFETIMES = ("ttl", "anonymous_ttl", "absolute_ttl", "cookie_max_age")


def why_they_clash(settings: Any) -> str | None:
    """Why these settings cannot be meant, as a sentence for whoever wrote them; None if they can.

    :param settings: the :class:`~pyramid_sqlsession.settings.options.Settings`.
    """
    if settings.dbsession is not None and settings.sqlalchemy:
        return (
            "sqlsession.dbsession and sqlsession.sqlalchemy.url are both set: keep the first to "
            "use the application's database session, the second for an engine of its own"
        )
    if settings.model is not None and settings.table is not None:
        return (
            "sqlsession.model and sqlsession.table are both set: use table with the built-in model "
            "only; your own model sets __tablename__"
        )
    if settings.sqlalchemy and not settings.sqlalchemy.get("url"):
        return "sqlsession.sqlalchemy.url is missing or empty"
    if settings.encryption_migrate and not (settings.encryption_keys or settings.seal):
        value = str(settings.encryption_migrate).lower()
        return (
            f"sqlsession.encryption_migrate = {value} needs sqlsession.encryption_keys or "
            "sqlsession.seal = true: without them it would do nothing"
        )
    return _why_too_late(settings)


def _why_too_late(settings: Any) -> str | None:
    for name in _LIFETIMES:
        lifetime, interval = getattr(settings, name), settings.touch_interval
        if lifetime and interval and interval >= lifetime:
            return (
                f"sqlsession.touch_interval = {interval} must be less than sqlsession.{name} = "
                f"{lifetime} (seconds): activity would be recorded too late"
            )
    return None
