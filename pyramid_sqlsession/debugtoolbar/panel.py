"""The panel: it observes a request, and keeps plain texts to show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pyramid_debugtoolbar.panels import DebugPanel

from .observed import Observed, observe, observed_of
from .report import report

_ATTEMPTS = "pyramid_sqlsession.debugtoolbar attempts"

Handler = Callable[[Any], Any]


class SessionRowPanel(DebugPanel):  # type: ignore[misc]  # the toolbar has no annotations
    """What a request did to the row of its session.

    The toolbar keeps its panels, so this one holds neither the request nor its session.
    """

    name = "sqlsession"
    title = "The session's row"
    nav_title = "Session row"
    template = "pyramid_sqlsession.debugtoolbar:templates/session_row.dbtmako"
    has_content = True
    data: Any

    def __init__(self, request: Any) -> None:
        self.data = {"report": None, "is_ours": observe(request) is not None}
        self._id = request.pdtb_id

    @property
    def nav_subtitle(self) -> str:
        """The whole request in a few words."""
        report = self.data["report"]
        return report["glance"] if report else ""

    @property
    def nav_subtitle_style(self) -> str:
        """Green for what was stored, red for what was lost."""
        report = self.data["report"]
        return f"progress-bar-{report['style']}" if report and report["style"] else ""

    def wrap_handler(self, handler: Handler) -> Handler:
        """Observe the application until everything is committed and sent."""

        def watched(request: Any) -> Any:
            observed = observed_of(request)
            if observed is None:
                return handler(request)
            observed.is_recording = True
            try:
                return handler(request)
            except Exception as error:
                observed.failure = error
                raise
            finally:
                observed.is_recording = False
                # after the session's own callback, which sets the cookie and records activity
                request.add_response_callback(observed.note_cookies)
                request.add_finished_callback(partial(self._finish, observed))

        return watched

    def _finish(self, observed: Observed, request: Any) -> None:
        """Finished callback."""
        # pyramid_retry runs a request again over the same environ
        number = request.environ.get("retry.attempt", 0)
        attempts = request.environ.setdefault(_ATTEMPTS, {})
        earlier = [attempts[other] for other in sorted(attempts) if other < number]
        self.data["report"] = report(observed, request) | {"earlier": earlier}
        attempts[number] = {"id": self._id, "glance": self.data["report"]["glance"]}

    def render_vars(self, request: Any) -> dict[str, Any]:
        """What the template needs from the toolbar's own request."""
        return {"route_url": request.route_url}
