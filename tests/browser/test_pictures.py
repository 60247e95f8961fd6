"""The pictures in docs/demo.rst can be taken, and are those that the page shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from support.browser.chromium import Chromium, Visit
from support.browser.surfing import DESKTOP, PHONE, put_into_cart, sign_in, write_from_both_tabs
from support.processes import DEMO

DOCS = DEMO.parent
COLOURS = 128
LARGEST = 60_000

Take = Callable[[Page, str], None]


@pytest.fixture
def take(request: pytest.FixtureRequest, tmp_path: Path) -> Take:
    """Take a picture of what a window shows, to be kept if the command line says where."""
    folder = request.config.getoption("--screenshots") or tmp_path

    def take(page: Page, name: str) -> None:
        path = folder / f"{name}.png"
        picture = Image.open(BytesIO(page.screenshot()))
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        assert path.stat().st_size < LARGEST
        assert f".. image:: pictures/{name}.png\n" in (DOCS / "demo.rst").read_text()

    return take


def test_the_shelves_on_a_desktop(shop: str, visit: Visit, take: Take) -> None:
    """Everything fits into the window."""
    take(visit(shop, **DESKTOP), "home")


def test_the_shelves_on_a_phone(shop: str, visit: Visit, take: Take) -> None:
    """In one column, at night."""
    page = visit(shop, color_scheme="dark", **PHONE)
    put_into_cart(page)
    take(page, "phone")


def test_two_tabs(shop: str, visit: Visit, take: Take) -> None:
    """After they have written three times."""
    page = visit(shop, viewport={"width": 1000, "height": 850})
    page.goto("/tabs")
    for _ in range(3):
        write_from_both_tabs(page, "Write from both")
    take(page, "tabs")


def test_the_devices_of_a_customer(shop: str, visit: Visit, take: Take) -> None:
    """A phone and a computer beside this one."""
    for agent in "Windows NT 10.0) Firefox/140.0", "Linux; Android 15) Chrome/140.0.0.0":
        sign_in(visit(shop, user_agent=f"Mozilla/5.0 ({agent}"), keep=True)
    page = visit(shop, **DESKTOP)
    sign_in(page)
    page.goto("/devices")
    take(page, "devices")


def test_what_is_left_of_a_failure(shop: str, visit: Visit, take: Take, chromium: Chromium) -> None:
    """Nothing."""
    page = visit(shop, **DESKTOP)
    put_into_cart(page)
    page.goto("/failing")
    page.get_by_role("button", name="Place an order that fails").click()
    page.get_by_role("link", name="See what is left").click()
    take(page, "failure")
    chromium.complaints.clear()


def test_the_panel_of_the_toolbar(
    toolbar_shop: str, visit: Visit, take: Take, chromium: Chromium
) -> None:
    """What it knows of a request that was run again, and of the attempt before."""
    page = visit(toolbar_shop, viewport={"width": 1100, "height": 1035})
    page.goto("/tabs")
    # a busy machine may serve the two one after the other
    while "1 retried" not in page.get_by_role("status").inner_text():
        write_from_both_tabs(page, "Write from both")
    with page.expect_popup() as popup:
        page.get_by_title("Show Toolbar").click()
    toolbar = popup.value
    undone = toolbar.get_by_role("link", name="500 POST").inner_text()
    toolbar.get_by_role("link", name=undone.replace("500", "200")).first.click()
    tab = toolbar.get_by_role("link", name="Session row")
    tab.click()
    expect(toolbar.get_by_text("Attempt 2 of at most 5. Before it: CONFLICT")).to_be_visible()
    tab.blur()
    take(toolbar, "panel")
    # the toolbar has no icon, and so the browser asks the shop for one
    assert all("404" in complaint for complaint in chromium.complaints)
    chromium.complaints.clear()


def test_every_picture_on_the_page_is_there_and_says_what_it_shows() -> None:
    """Whoever does not see it reads a text instead."""
    page = (DOCS / "demo.rst").read_text()
    shown = re.findall(r"^\.\. image:: (\S+)\n   :alt: .{20,}\n", page, re.MULTILINE)
    assert sorted(shown) == sorted(str(p.relative_to(DOCS)) for p in DOCS.glob("pictures/*.png"))
    assert len(shown) == page.count(".. image::")
