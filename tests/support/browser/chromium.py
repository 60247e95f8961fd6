"""Chromium, a real browser, driven by Playwright."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, BrowserType, ConsoleMessage, Page

Visit = Callable[..., Page]

# no request but to the loopback interface, where all hosts of the domain test are: whatever else
# Chromium may look up is not found
_RULES = ("MAP *.test 127.0.0.1", "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1", "EXCLUDE localhost")
ARGUMENTS = [f"--host-resolver-rules={', '.join(_RULES)}"]
PATIENCE = 20_000


@dataclass
class Chromium:
    """The program, to be started once or for each restart.

    :ivar complaints: what was written to the consoles of its pages: errors and warnings.
    """

    program: str
    kind: BrowserType
    complaints: list[str] = field(default_factory=list)

    def start(self) -> Browser:
        """The browser, for any number of contexts that know nothing of each other."""
        return self.kind.launch(executable_path=self.program, args=ARGUMENTS)

    def start_with_profile(self, folder: Path, url: str) -> BrowserContext:
        """The browser with a profile that stays in a folder when it is closed."""
        context = self.kind.launch_persistent_context(
            folder, executable_path=self.program, args=ARGUMENTS, base_url=url
        )
        return self.listen(context)

    def listen(self, context: BrowserContext) -> BrowserContext:
        """Write down what the pages of a context complain of."""
        context.set_default_timeout(PATIENCE)
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        return context

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)
