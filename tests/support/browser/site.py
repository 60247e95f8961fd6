"""The built documentation, served to a browser, and what a page looks like there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Write no line for each request."""


@contextmanager
def served_folder(folder: Path) -> Iterator[str]:
    """The address of the files in a folder."""
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# What sticks out of the window without a way to scroll to it inside of the page.
STICKING_OUT = """() => {
  const scrolls = (e) => e && !["ARTICLE", "BODY"].includes(e.tagName) && (
    ["auto", "scroll"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const all = document.querySelectorAll("article :not(pre *), .mobile-header *, footer *");
  const wide = [...all].filter((e) => {
    const {right, width} = e.getBoundingClientRect();
    return right > innerWidth + 1 && width && !scrolls(e);
  });
  const page = document.documentElement.scrollWidth > innerWidth ? ["the page"] : [];
  return page.concat(wide.map((e) => `${e.tagName}: ${e.textContent.slice(0, 40)}`));
}"""

# Texts whose contrast with what is behind them is too low (WCAG 1.4.3). Of texts whose elements and
# their parents have the same names and classes, the first one counts.
PALE = """(least) => {
  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((c, i) => c * a + below[i] * (1 - a));
  const behind = (e) => {
    if (!e) return [255, 255, 255];
    const colour = parse(getComputedStyle(e).backgroundColor);
    return colour[3] === 1 ? colour.slice(0, 3) : over(colour, behind(e.parentElement));
  };
  const light = (colour) => colour
    .map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const place = (e) => e ? `${place(e.parentElement)} ${e.tagName}.${e.className}` : "";
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const read = new Set(), pale = [];
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
    if (!text || read.has(place(e)) || e.closest("script, style, svg")) continue;
    if (!e.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    read.add(place(e));
    const below = behind(e), ink = over(parse(getComputedStyle(e).color), below);
    const [low, high] = [light(ink), light(below)].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < least) pale.push(`${contrast.toFixed(2)} ${e.className}: ${text.slice(0, 40)}`);
  }
  return [read.size, pale];
}"""
