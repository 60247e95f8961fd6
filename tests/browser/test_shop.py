"""The demo in a real browser: what its visitors see, and what the browser keeps of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect
from sqlalchemy import Engine, text
from support.browser.chromium import Chromium, Visit
from support.browser.surfing import (
    DESKTOP,
    PAGES,
    PHONE,
    cookie,
    expect_nobody,
    expect_user,
    numbers,
    put_into_cart,
    sign_in,
    write_from_both_tabs,
)

MONTH = 30 * 24 * 60 * 60


# ---- messages and signing in


def test_a_message_is_shown_once_after_the_redirect(shop: str, visit: Visit) -> None:
    """The page after the form shows it, and the one after that does not."""
    page = visit(shop)
    put_into_cart(page)
    assert page.url == f"{shop}/"
    page.reload()
    expect(page.get_by_role("heading", name="What would you like today?")).to_be_visible()
    expect(page.get_by_role("status")).to_have_count(0)


def test_signing_in_keeps_the_cart_and_signing_out_leaves_nothing(shop: str, visit: Visit) -> None:
    """Who it is and what was chosen is on every page until then."""
    page = visit(shop)
    expect_nobody(page)
    put_into_cart(page)
    sign_in(page)
    expect(page.get_by_role("status")).to_have_text("Welcome, Alice.")
    expect(page.get_by_role("listitem").filter(has_text="Country bread")).to_be_visible()
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect_nobody(page)
    expect(page.locator(".badge")).to_have_count(0)


def test_a_token_that_was_planted_before_the_sign_in_is_signed_out(shop: str, visit: Visit) -> None:
    """Session fixation: the attacker knows the token, and it opens nothing of the victim's."""
    attacker, victim = visit(shop), visit(shop)
    planted = cookie(attacker)["value"]
    victim.context.add_cookies([{"name": "session", "value": planted, "url": shop}])
    put_into_cart(victim)
    assert cookie(victim)["value"] == planted
    sign_in(victim)
    assert cookie(victim)["value"] != planted
    attacker.goto("/cart")
    expect_nobody(attacker)
    expect(attacker.locator(".empty")).to_be_visible()
    assert cookie(attacker)["value"] == planted


# ---- closing the browser


@pytest.mark.parametrize("keep", [True, False], ids=["remembered", "not remembered"])
def test_a_sign_in_outlives_the_browser_if_it_is_to_be_remembered(
    shop: str, chromium: Chromium, tmp_path: Path, keep: bool
) -> None:
    """The browser is closed, and started again with the same profile."""
    with chromium.start_with_profile(tmp_path, shop) as browser:
        page = browser.new_page()
        sign_in(page, keep=keep)
        expires = cookie(page)["expires"]
    assert abs(expires - time.time() - MONTH) < 60 if keep else expires == -1
    with chromium.start_with_profile(tmp_path, shop) as browser:
        page = browser.new_page()
        assert (cookie(page) is not None) == keep
        page.goto("/cart")
        expect_user(page, "Alice") if keep else expect_nobody(page)


# ---- other devices


def test_a_device_is_signed_out_from_another_browser(shop: str, visit: Visit) -> None:
    """The one that is revoked is anonymous with its next click, the other one stays signed in."""
    phone, laptop = visit(shop), visit(shop)
    sign_in(phone)
    sign_in(laptop)
    laptop.goto("/devices")
    expect(laptop.locator(".devices li")).to_have_count(2)
    laptop.get_by_role("button", name="Sign out device").click()
    expect(laptop.get_by_role("status")).to_have_text("The device is signed out.")
    expect(laptop.locator(".devices li")).to_have_count(1)
    expect(laptop.locator(".devices .name")).to_contain_text("Chrome on Linux")
    phone.get_by_role("link", name="Cart").click()
    expect_nobody(phone)
    expect_user(laptop, "Alice")


def test_signing_out_everywhere_reaches_every_browser(shop: str, visit: Visit) -> None:
    """This one too; another customer stays."""
    alices, bob = [visit(shop) for _ in range(3)], visit(shop)
    for alice in alices:
        sign_in(alice)
    sign_in(bob, "bob")
    alices[0].goto("/devices")
    alices[0].get_by_role("button", name="Sign out everywhere", exact=True).click()
    expect(alices[0].get_by_role("status")).to_have_text("You are signed out everywhere.")
    for alice in alices:
        alice.goto("/cart")
        expect_nobody(alice)
    bob.goto("/cart")
    expect_user(bob, "Bob")


# ---- two tabs


def test_two_tabs_that_write_at_once_lose_nothing(shop: str, visit: Visit) -> None:
    """Twenty requests, two at a time: whichever comes late is run again."""
    page = visit(shop)
    page.goto("/tabs")
    write_from_both_tabs(page)
    for key, count in ("tab a", "10"), ("tab b", "10"), ("both tabs", "20"), ("messages", "20"):
        expect(page.locator(f'[data-sent="{key}"]')).to_have_text(count)
        expect(page.locator(f'[data-stored="{key}"]')).to_have_text(count)
    before, after = page.locator("[data-version]").inner_text().split(" → ")
    assert int(after) - int(before) == 20
    lines = page.locator(".tab li").all_inner_texts()
    assert sorted(line.split()[-1] for line in lines) == sorted(str(n + 1) for n in range(20))
    # a busy machine may serve some of them one after the other
    assert 0 < sum(line.startswith("Retry") for line in lines) <= 10
    page.reload()
    expect(page.get_by_role("status")).to_have_text("20 messages were waiting for this page.")


def test_two_windows_with_two_tabs_each_lose_nothing_either(
    shop: str, visit: Visit, engine: Engine
) -> None:
    """Four requests at a time."""
    first = visit(shop)
    second = first.context.new_page()
    for page in first, second:
        page.goto("/tabs")
    for page in first, second:
        page.get_by_role("button", name="Ten times").click()
    for page in first, second:
        expect(page.get_by_role("status")).to_contain_text("nothing lost")
    row = first.request.get("/tabs/row").json()
    del row["version"]
    assert row == {"tab a": 20, "tab b": 20, "both tabs": 40, "messages": 40}


def test_a_tab_whose_session_has_ended_says_so(shop: str, visit: Visit, chromium: Chromium) -> None:
    """The shop refuses what it sends, because the CSRF token was that session's."""
    page = visit(shop)
    sign_in(page)
    page.goto("/tabs")
    other = page.context.new_page()
    other.goto("/devices")
    other.get_by_role("button", name="Sign out everywhere", exact=True).click()
    expect_nobody(other)
    page.get_by_role("button", name="Ten times").click()
    expect(page.get_by_role("status")).to_have_text("The shop answered 400. Reload this page.")
    assert all("status of 400" in complaint for complaint in chromium.complaints)
    chromium.complaints.clear()


# ---- a page that fails


def test_the_page_that_fails_leaves_nothing_behind(
    shop: str, visit: Visit, chromium: Chromium, engine: Engine
) -> None:
    """Its numbers show what the request had written, and that nothing of it is there."""
    page = visit(shop)
    put_into_cart(page, "Meadow honey")
    page.goto("/failing")
    assert numbers(page, "now") == [1, 0, 0]
    page.get_by_role("button", name="Place an order that fails").click()
    expect(page.get_by_role("alert")).to_have_text("Error: the card machine does not answer.")
    assert (numbers(page, "before"), numbers(page, "seen")) == ([1, 0, 0], [2, 1, 1])
    page.get_by_role("link", name="See what is left").click()
    expect(page.locator("#now")).to_be_visible()
    assert (numbers(page, "seen"), numbers(page, "now")) == ([2, 1, 1], [1, 0, 0])
    with engine.connect() as connection:
        assert connection.scalar(text('SELECT count(*) FROM "order"')) == 0
    (complaint,) = chromium.complaints
    assert "status of 500" in complaint
    chromium.complaints.clear()


# ---- the cookie


def test_no_script_can_read_the_cookie(shop: str, visit: Visit) -> None:
    """The browser has it, for this host and every path, until it is closed."""
    page = visit(shop)
    kept = cookie(page)
    assert len(kept.pop("value")) == 43
    assert kept == {
        "name": "session",
        "domain": "127.0.0.1",
        "path": "/",
        "expires": -1,
        "httpOnly": True,
        "secure": False,
        "sameSite": "Lax",
    }
    assert page.evaluate("document.cookie") == ""


def test_a_form_of_another_site_is_sent_without_the_cookie(
    shop: str, visit: Visit, chromium: Chromium
) -> None:
    """SameSite=Lax: even with the right CSRF token it signs nobody out."""
    page = visit(shop)
    sign_in(page)
    token = page.locator("[name=csrf_token]").first.input_value()
    other = page.context.new_page()
    other.goto(shop.replace("127.0.0.1", "localhost"))
    other.evaluate(
        """([action, token]) => {
            const form = document.createElement("form");
            form.method = "post";
            form.action = action;
            form.innerHTML = `<input name="csrf_token" value="${token}">`;
            document.body.append(form);
            form.submit();
        }""",
        [f"{shop}/sign-out", token],
    )
    expect(other.get_by_role("heading", name="This form has expired")).to_be_visible()
    page.reload()
    expect_user(page, "Alice")
    chromium.complaints.clear()


def test_the_cookie_is_sent_over_https_only_where_the_shop_is_served_so(
    secure_shop: str, visit: Visit
) -> None:
    """``sqlsession.cookie_secure = auto``, behind a real certificate."""
    page = visit(secure_shop, ignore_https_errors=True)
    sign_in(page)
    kept = cookie(page)
    assert kept["secure"]
    assert kept["httpOnly"]
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect_nobody(page)


def test_a_cookie_whose_name_says_host_is_kept(host_shop: str, visit: Visit) -> None:
    """The browser takes such a cookie only if it is secure, for one host, and for every path."""
    page = visit(host_shop)
    sign_in(page)
    kept = cookie(page, "__Host-session")
    assert (kept["secure"], kept["path"], kept["domain"]) == (True, "/", "localhost")
    page.goto("/cart")
    expect_user(page, "Alice")


# ---- every page


@pytest.mark.parametrize("options", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_no_page_is_wider_than_the_screen(shop: str, visit: Visit, options: dict[str, Any]) -> None:
    """Whether somebody is signed in or not, a full cart included."""
    page = visit(shop, **options)
    put_into_cart(page)
    for _ in range(2):
        for path in PAGES:
            page.goto(path)
            # not window.innerWidth: a phone makes that as large as a page that does not fit
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width == options["viewport"]["width"], path
        sign_in(page)


def test_whatever_is_pressed_on_a_phone_is_as_large_as_a_finger(shop: str, visit: Visit) -> None:
    """44 pixels; links in a sentence are as large as its letters."""
    page = visit(shop, **PHONE)
    put_into_cart(page)
    sign_in(page)
    for path in PAGES:
        page.goto(path)
        for target in page.locator("header a, header button, main button, main .button").all():
            box = target.bounding_box()
            if box and box["width"] > 1:
                assert box["height"] >= 44, (path, target.inner_text())


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_under_the_button_of_the_toolbar(
    toolbar_shop: str, visit: Visit, width: int
) -> None:
    """It has room of its own on every page, whether somebody is signed in or not."""
    page = visit(toolbar_shop, viewport={"width": width, "height": 844})
    put_into_cart(page)
    for _ in range(2):
        for path in PAGES:
            page.goto(path)
            button = page.get_by_title("Show Toolbar")
            assert button.evaluate(UNDER) == [], path
            assert page.evaluate("document.documentElement.scrollWidth") == width, path
        sign_in(page)


# text and pictures, and what can be pressed, that share some of a button's place
UNDER = """button => {
    const place = button.getBoundingClientRect();
    const others = document.querySelectorAll("a, button, input, p, h1, h2, span, img, svg, td");
    return [...others].filter(it => !it.closest("#pDebug")).filter(it => {
        const box = it.getBoundingClientRect();
        return box.width > 1 && box.left < place.right && box.right > place.left
            && box.top < place.bottom && box.bottom > place.top;
    }).map(it => it.outerHTML);
}"""


def test_every_page_can_be_used_without_seeing_it(shop: str, visit: Visit) -> None:
    """It has a language, a title and one heading, and every field and button has a name."""
    page = visit(shop)
    put_into_cart(page)
    sign_in(page)
    titles = set()
    for path in PAGES:
        page.goto(path)
        titles.add(page.title())
        assert page.locator("html").get_attribute("lang") == "en"
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        for field in page.locator("input:not([type=hidden])").all():
            assert field.evaluate("field => field.labels.length") == 1, path
        for button in page.get_by_role("button").all():
            assert button.inner_text() or button.get_attribute("aria-label"), path
    assert len(titles) == len(PAGES)


def test_every_page_works_under_a_strict_content_security_policy(shop: str, visit: Visit) -> None:
    """Nothing is inline and nothing is fetched from elsewhere."""
    page = visit(shop)

    def forbid(route: Route) -> None:
        answer = route.fetch(max_redirects=0)
        policy = {"Content-Security-Policy": "default-src 'self'"}
        route.fulfill(response=answer, headers={**answer.headers, **policy})

    sign_in(page)
    page.route("**/*", forbid)
    for path in PAGES:
        page.goto(path)
    page.goto("/tabs")
    write_from_both_tabs(page, "Write from both")
