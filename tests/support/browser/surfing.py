"""What visitors of the demo do in a real browser."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

PAGES = ("/", "/cart", "/session", "/tabs", "/failing", "/sign-in", "/devices")
TOKEN = "session"
DESKTOP = {"viewport": {"width": 1000, "height": 720}}
PHONE = {"viewport": {"width": 375, "height": 720}, "has_touch": True, "is_mobile": True}


def sign_in(page: Page, user: str = "alice", *, keep: bool = False) -> None:
    """Fill in the form."""
    page.goto("/sign-in")
    page.get_by_label("Name").fill(user)
    page.get_by_label("Password").fill("demo")
    page.get_by_label("Keep me signed in for 30 days").set_checked(keep)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect_user(page, user.capitalize())


def expect_user(page: Page, name: str) -> None:
    """See that a page knows its visitor."""
    expect(page.get_by_role("button", name="Sign out", exact=True)).to_be_visible()
    expect(page.get_by_role("banner")).to_contain_text(name)


def expect_nobody(page: Page) -> None:
    """See that a page does not know its visitor."""
    expect(page.get_by_role("banner").get_by_role("link", name="Sign in")).to_be_visible()


def put_into_cart(page: Page, product: str = "Country bread") -> None:
    """Press a button on the shelves."""
    page.goto("/")
    page.get_by_role("button", name=f"Add to cart: {product}").click()
    expect(page.get_by_role("status")).to_contain_text(f"{product} was added")


def write_from_both_tabs(page: Page, button: str = "Ten times") -> None:
    """Press one of the buttons of the page with two tabs, and see that it says nothing is lost."""
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("status")).to_contain_text("nothing lost")


def numbers(page: Page, row: str) -> list[int]:
    """A row of a page's table."""
    return [int(number) for number in page.locator(f"#{row} td").all_inner_texts()]


def cookie(page: Page, name: str = TOKEN) -> Any:
    """A cookie as the browser has kept it; None if it has not."""
    found = [cookie for cookie in page.context.cookies() if cookie.get("name") == name]
    return found[0] if found else None
