"""The built documentation in a real browser: on a phone, in light and dark, without other hosts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageStat
from playwright.sync_api import Browser, Page, expect
from support.browser.chromium import Chromium
from support.browser.site import PALE, STICKING_OUT, served_folder
from support.processes import DEMO

DOCS = DEMO.parent
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
LEAST_CONTRAST = 4.5
MIDDLE_GRAY = 128

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built pages."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", str(folder / "doctrees")]
    subprocess.run([*command, str(DOCS), str(folder / "html")], check=True, capture_output=True)
    return folder / "html"


@pytest.fixture(scope="module")
def site(html: Path) -> Iterator[str]:
    """The address that they are served at."""
    with served_folder(html) as address:
        yield address


@pytest.fixture
def look(site: str, chromium: Chromium, opened_chromium: Browser) -> Iterator[Open]:
    """Open a page in a window of a size; the system is light or dark."""
    contexts = []

    def look(name: str, size: dict[str, int], scheme: str = "light") -> Page:
        options: dict[str, Any] = {"viewport": size, "color_scheme": scheme}
        context = opened_chromium.new_context(
            base_url=site, permissions=["clipboard-read", "clipboard-write"], **options
        )
        contexts.append(chromium.listen(context))
        page = context.new_page()
        page.goto(f"/{name}.html")
        return page

    yield look
    for context in contexts:
        context.close()


def every_page(html: Path) -> list[str]:
    """The names of all pages, without those of the demo's static files."""
    return sorted(str(p.relative_to(html))[:-5] for p in html.rglob("*.html"))


def press_theme_button(page: Page, theme: str) -> None:
    """Press the button for light and dark until the page is so."""
    button = page.get_by_role("button", name="Toggle Light / Dark").locator("visible=true")
    for _ in range(3):
        if page.locator("body").get_attribute("data-theme") == theme:
            return
        button.click()
    expect(page.locator("body")).to_have_attribute("data-theme", theme)


def test_every_page_fits_a_phone_and_can_be_read_in_light_and_dark(
    site: str, html: Path, look: Open
) -> None:
    """Nothing is cut off or pale, and nothing comes from another host."""
    page = look("index", PHONE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    wrong, texts = {}, 0
    for name in every_page(html):
        page.goto(f"/{name}.html")
        page.add_style_tag(content="* { transition: none !important }")
        wrong[name, "wide"] = page.evaluate(STICKING_OUT)
        for theme in "light", "dark":
            page.evaluate("(theme) => { document.body.dataset.theme = theme }", theme)
            read, wrong[name, theme] = page.evaluate(PALE, LEAST_CONTRAST)
            texts += read
    assert {what: found for what, found in wrong.items() if found} == {}
    assert [url for url in asked if not url.startswith((site, "data:"))] == []
    assert len(wrong) > 3 * 40
    assert texts > 3_000


def test_the_pages_also_fit_a_desktop(html: Path, look: Open) -> None:
    """The sidebar with the project's name stays while the page scrolls."""
    page = look("api", DESKTOP)
    assert page.evaluate(STICKING_OUT) == []
    page.mouse.wheel(0, 3000)
    expect(page.locator(".sidebar-brand")).to_be_in_viewport()
    expect(page.locator(".sidebar-brand")).to_contain_text("pyramid_sqlsession")


def test_a_phone_has_the_menu(look: Open) -> None:
    """It opens, and leads to other pages."""
    page = look("index", PHONE)
    link = page.locator(".sidebar-tree").get_by_role("link", name="Settings", exact=True)
    expect(link).not_to_be_in_viewport()
    page.locator(".mobile-header .nav-overlay-icon").click()
    expect(link).to_be_in_viewport()
    link.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Settings")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize(("system", "theme"), [("light", "dark"), ("dark", "light")])
def test_the_picture_follows_the_button_for_light_and_dark(
    look: Open, size: dict[str, int], system: str, theme: str
) -> None:
    """Also where the system has it the other way round."""
    page = look("index", size, system)
    picture = page.locator("img.picture")
    assert shade(picture.screenshot()) == system
    press_theme_button(page, theme)
    assert shade(picture.screenshot()) == theme


def shade(picture: bytes) -> str:
    """Whether it is light or dark on the whole."""
    mean = ImageStat.Stat(Image.open(BytesIO(picture)).convert("L")).mean[0]
    return "light" if mean > MIDDLE_GRAY else "dark"


def test_what_is_copied_are_the_commands_alone(look: Open) -> None:
    """Neither their prompts nor what they print."""
    page = look("command_line", DESKTOP)
    block = page.locator(".highlight", has_text="create-table").first
    block.hover()
    block.get_by_role("button", name="Copy").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "pyramid_sqlsession production.ini create-table"
