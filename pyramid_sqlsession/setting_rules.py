"""Which settings go together."""

from __future__ import annotations

from typing import Any

_LIFETIMES = ("ttl", "anonymous_ttl", "absolute_ttl", "cookie_max_age")


def why_they_disagree(settings: Any, prefix: str) -> str | None:
    """Which of the settings contradict each other, and what to do; None if they go together.

    :param prefix: what is put before a setting's name.
    """
    if settings.dbsession is not None and settings.sqlalchemy:
        return (
            f"{prefix}dbsession and {prefix}sqlalchemy.url are both set: keep the first to use the "
            "application's database session, the second for an engine of its own"
        )
    if settings.sqlalchemy and not settings.sqlalchemy.get("url"):
        return f"{prefix}sqlalchemy.url is missing or empty"
    if settings.encryption_migrate and not (settings.encryption_keys or settings.seal):
        return (
            f"{prefix}encryption_migrate = true needs {prefix}encryption_keys or {prefix}seal = "
            "true: without them it would do nothing"
        )
    return _too_rare(settings, prefix)


def _too_rare(settings: Any, prefix: str) -> str | None:
    interval = settings.touch_interval
    for name in _LIFETIMES:
        lifetime = getattr(settings, name)
        if lifetime and interval and interval >= lifetime:
            return (
                f"{prefix}touch_interval = {interval} must be less than {prefix}{name} = "
                f"{lifetime} (seconds): activity would be recorded too late"
            )
    return None
