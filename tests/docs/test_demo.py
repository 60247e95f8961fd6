"""The demo in docs/demo: its pages through WebTest, and once in a real server."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pyramid.paster import get_appsettings
from support.processes import DEMO, served_demo
from webtest import Form, TestApp, TestResponse

pytestmark = pytest.mark.usefixtures("with_toolbar")

TOKEN = "session"

Make = Callable[[], TestApp]
Query = Callable[[str], list[Any]]


@pytest.fixture(scope="module")
def main() -> Iterator[Any]:
    """The demo's ``main``; its modules and its models are forgotten afterwards."""
    sys.path.insert(0, str(DEMO))
    yield import_module("shop").main
    # other tests look for "the one model that uses SessionMixin"
    import_module("shop.models").Base.registry.dispose()
    for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
        del sys.modules[name]
    sys.path.remove(str(DEMO))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the shop's database goes."""
    return tmp_path / "demo.sqlite"


@pytest.fixture
def visitor(main: Any, database: Path) -> Iterator[Make]:
    """Return new visitors of one shop, each with a browser of their own."""
    settings = get_appsettings(str(DEMO / "development.ini"))
    app = main({}, **{**settings, "sqlalchemy.url": f"sqlite:///{database}"})
    yield lambda: TestApp(app)
    app.registry["dbsession_factory"].kw["bind"].dispose()


@pytest.fixture
def browser(visitor: Make) -> TestApp:
    """One visitor of the shop."""
    return visitor()


@pytest.fixture
def query(database: Path) -> Query:
    """Ask the shop's database directly, beside the shop."""

    def ask(sql: str) -> list[Any]:
        connection = sqlite3.connect(database)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    return ask


def form_of(page: TestResponse, action: str) -> Form:
    """Return the first form that is sent to an address."""
    return next(form for form in page.forms.values() if form.action == action)


def add(browser: TestApp, product: str) -> TestResponse:
    """Press one of the buttons on the shelves."""
    form = form_of(browser.get("/"), "/add")
    answer = {"csrf_token": form["csrf_token"].value, "product": product}
    return browser.post("/add", answer).follow()


def sign_in(browser: TestApp, user: str = "alice", *, keep: bool = False) -> TestResponse:
    """Fill in the sign-in form."""
    form = form_of(browser.get("/sign-in"), "/sign-in")
    form["user"], form["password"], form["keep"] = user, "demo", keep
    return form.submit().follow()


def row_of(page: TestResponse) -> dict[str, str]:
    """Read the row that "What is in my session" shows."""
    columns = page.html.select(".row > div")
    return {c.dt.get_text(strip=True): c.dd.get_text(strip=True) for c in columns}


def numbers(page: TestResponse) -> dict[str, list[int]]:
    """Read the pieces, the messages and the orders that the failing page counts, by their row."""
    rows = page.html.select("tbody tr")
    return {row["id"]: [int(cell.text) for cell in row.select("td")] for row in rows}


# ---- shelves and cart


def test_the_shelves_show_the_products(browser: TestApp) -> None:
    """The tables are made and filled at start-up."""
    page = browser.get("/")
    names = [heading.text for heading in page.html.select(".product h2")]
    assert names[:2] == ["Country bread", "Meadow honey"]
    assert len(names) == 6


def test_a_visitor_fills_a_cart_without_signing_in(browser: TestApp) -> None:
    """The cart is remembered for an anonymous visitor, and the next page tells so once."""
    page = add(browser, "1")
    assert page.html.select_one(".flash").text == "Country bread was added to your cart."
    add(browser, "1")
    add(browser, "4")
    page = browser.get("/cart")
    assert page.html.select_one(".badge").text == "3"
    assert [n.text for n in page.html.select(".lines .name")] == [
        "Country bread",
        "Mountain cheese",
        "Total",
    ]
    assert "16.50 €" in page.text
    assert browser.get("/").html.select_one(".flash") is None


def test_two_visitors_have_two_carts(visitor: Make) -> None:
    """A session belongs to one browser."""
    ann, ben = visitor(), visitor()
    add(ann, "1")
    assert "Country bread" in ann.get("/cart").text
    assert "Country bread" not in ben.get("/cart").text


def cart_form(browser: TestApp) -> Form:
    """Return the form on the cart's page."""
    return form_of(browser.get("/cart"), "/cart")


def check_out_form(browser: TestApp) -> Form:
    """Return the same form, to be sent with its other button."""
    form = cart_form(browser)
    form.action = "/check-out"
    return form


def test_the_quantities_in_the_cart_can_be_changed(browser: TestApp) -> None:
    """Zero pieces leave the cart, and what is not a quantity changes nothing."""
    for product in "1", "2", "3":
        add(browser, product)
    form = cart_form(browser)
    form["quantity-1"], form["quantity-2"], form["quantity-3"] = "12", "0", "a few"
    page = form.submit().follow()
    assert page.html.select_one(".badge").text == "13"
    assert "Meadow honey" not in page.text


def test_a_product_can_be_removed_from_the_cart(browser: TestApp) -> None:
    """The button beside a product takes it out."""
    add(browser, "1")
    add(browser, "2")
    page = cart_form(browser).submit("remove", value="1").follow()
    assert [n.text for n in page.html.select(".lines .name")] == ["Meadow honey", "Total"]


# ---- checking out


def test_checking_out_writes_the_orders_and_empties_the_cart(
    browser: TestApp, query: Query
) -> None:
    """The orders and the session are there together afterwards."""
    add(browser, "2")
    sign_in(browser)
    form = check_out_form(browser)
    form["quantity-2"] = "3"
    page = form.submit().follow()
    assert page.html.select_one(".flash").text == "Thank you. Your order is on its way."
    assert "Your cart is empty." in page.text
    assert "Meadow honey" in page.html.select_one(".orders").text
    assert query('select user_id, product_id, quantity, price from "order"') == [
        ("alice", 2, 3, 2250)
    ]
    [(data,)] = query("select data from sqlsession where replaced is null")
    assert json.loads(data)["cart"] == {}


def test_checking_out_asks_for_a_sign_in_and_the_cart_comes_along(
    browser: TestApp, query: Query
) -> None:
    """An anonymous cart is still there after signing in."""
    add(browser, "5")
    page = check_out_form(browser).submit().follow()
    assert page.request.path == "/sign-in"
    assert "Your cart comes with you." in page.text
    assert query('select * from "order"') == []
    page = sign_in(browser)
    assert page.request.path == "/cart"
    assert "Breakfast tea" in page.text


def test_an_empty_cart_orders_nothing(browser: TestApp, query: Query) -> None:
    """A second click on "Check out" finds nothing to order."""
    add(browser, "1")
    sign_in(browser)
    form = check_out_form(browser)
    form.submit()
    page = form.submit().follow()
    assert "Your cart is empty." in page.text
    assert len(query('select * from "order"')) == 1


def test_nobody_sees_the_orders_of_another_customer(visitor: Make) -> None:
    """The list below the cart is one's own."""
    alice, bob = visitor(), visitor()
    add(alice, "1")
    sign_in(alice, "alice")
    check_out_form(alice).submit()
    sign_in(bob, "bob")
    assert "Your orders" in alice.get("/cart").text
    assert "Your orders" not in bob.get("/cart").text


# ---- signing in and out


def test_a_wrong_password_signs_nobody_in(browser: TestApp) -> None:
    """Neither does a name that is not known."""
    form = form_of(browser.get("/sign-in"), "/sign-in")
    for user, password in ("alice", "guess"), ("eve", "demo"):
        form["user"], form["password"] = user, password
        page = form.submit()
        assert page.html.select_one("[role=alert]") is not None
    assert "Sign out" not in browser.get("/").text


def test_signing_in_changes_the_token(visitor: Make) -> None:
    """A token that was known before the sign-in is not signed in by it."""
    browser, thief = visitor(), visitor()
    add(browser, "1")
    before = browser.cookies[TOKEN]
    thief.set_cookie(TOKEN, before)
    sign_in(browser)
    assert browser.cookies[TOKEN] != before
    assert "Sign out" in browser.get("/").text
    page = thief.get("/")
    assert "Sign out" not in page.text
    assert page.html.select_one(".badge") is None


def test_signing_in_as_another_customer_leaves_the_cart_behind(browser: TestApp) -> None:
    """What Alice has chosen is not Bob's."""
    add(browser, "1")
    sign_in(browser, "alice")
    assert browser.get("/").html.select_one(".badge").text == "1"
    page = sign_in(browser, "bob")
    assert "Bob" in page.html.select_one(".who").text
    assert page.html.select_one(".badge") is None


def test_how_long_the_sign_in_lasts_is_asked_each_time(browser: TestApp, query: Query) -> None:
    """To stay signed in for a month does not hold for the sign-in after that."""
    lifetime = "select max_age from sqlsession where replaced is null"
    sign_in(browser, keep=True)
    assert query(lifetime) == [(30 * 24 * 60 * 60,)]
    sign_in(browser)
    assert query(lifetime) == [(None,)]


def test_signing_out_leaves_nothing_behind(browser: TestApp) -> None:
    """The name and the cart are gone, and so is the old token."""
    add(browser, "1")
    sign_in(browser)
    before = browser.cookies[TOKEN]
    page = form_of(browser.get("/"), "/sign-out").submit().follow()
    assert page.html.select_one(".flash").text == "You are signed out."
    assert page.html.select_one(".badge") is None
    assert browser.cookies[TOKEN] != before
    browser.reset()
    browser.set_cookie(TOKEN, before)
    assert "Sign out" not in browser.get("/").text


# ---- your devices


def is_signed_in(browser: TestApp) -> bool:
    """Look whether the pages know who it is."""
    return "Sign out" in browser.get("/").text


def handle_of(query: Query, user: str) -> str:
    """Return the handle of the only session of a user."""
    live = query("select user_id, lower(hex(lineage)) from sqlsession where replaced is null")
    [handle] = [handle for user_id, handle in live if user_id == user]
    return str(handle)


def test_your_devices_lists_every_sign_in_and_marks_this_one(visitor: Make, query: Query) -> None:
    """Neither another customer's nor an anonymous session is among them, nor an old token."""
    phone, laptop, bob, anonymous = visitor(), visitor(), visitor(), visitor()
    add(anonymous, "1")
    sign_in(bob, "bob")
    add(phone, "1")
    sign_in(phone)
    handle = handle_of(query, "alice")
    sign_in(laptop)
    for browser, marked in (phone, True), (laptop, False):
        entries = browser.get("/devices").html.select(".devices li")
        assert len(entries) == 2
        shown = {entry.code.text: entry for entry in entries}
        entry = shown[handle[:8]]
        assert ("This device" in entry.text) is marked
        assert (entry.button is None) is marked
        assert re.search(r"Signed in \d\d \w+ 20\d\d, \d\d:\d\d UTC", entry.text)
        assert re.search(r"Last seen \d\d \w+ 20\d\d, \d\d:\d\d UTC", entry.text)
        assert re.search(r"Expires \d\d \w+ 20\d\d unless used", entry.text)
    assert len(bob.get("/devices").html.select(".devices li")) == 1


def test_a_device_is_signed_out_from_another_one(visitor: Make) -> None:
    """The other browser is anonymous with its next request, this one stays signed in."""
    phone, laptop = visitor(), visitor()
    sign_in(phone)
    sign_in(laptop)
    form = form_of(laptop.get("/devices"), "/devices")
    page = form.submit("handle").follow()
    assert page.html.select_one(".flash").text == "The device is signed out."
    assert len(page.html.select(".devices li")) == 1
    assert is_signed_in(laptop)
    assert not is_signed_in(phone)
    assert phone.get("/devices").follow().request.path == "/sign-in"
    page = form.submit("handle").follow()
    assert page.html.select_one(".flash").text == "That device was signed out already."


def test_everywhere_else_is_signed_out_at_once(visitor: Make) -> None:
    """Only this browser stays, and other customers are left alone."""
    phone, tablet, laptop, bob = visitor(), visitor(), visitor(), visitor()
    for browser in phone, tablet, laptop:
        sign_in(browser)
    sign_in(bob, "bob")
    form = form_of(laptop.get("/devices"), "/devices")
    page = form.submit("others").follow()
    assert page.html.select_one(".flash").text == "You are signed out everywhere else."
    assert "Sign out everywhere else" not in page.text
    assert is_signed_in(laptop)
    assert not is_signed_in(phone)
    assert not is_signed_in(tablet)
    assert is_signed_in(bob)
    page = form.submit("others").follow()
    assert page.html.select_one(".flash").text == "You are not signed in anywhere else."


def test_every_device_is_signed_out_at_once_this_one_included(visitor: Make, query: Query) -> None:
    """Whoever has lost a device begins anew, and other customers are left alone."""
    phone, laptop, bob = visitor(), visitor(), visitor()
    sign_in(phone)
    sign_in(laptop)
    sign_in(bob, "bob")
    page = form_of(laptop.get("/devices"), "/devices").submit("everywhere").follow()
    assert page.html.select_one(".flash").text == "You are signed out everywhere."
    assert not is_signed_in(laptop)
    assert not is_signed_in(phone)
    assert is_signed_in(bob)
    assert query("select * from sqlsession where user_id = 'alice' and replaced is null") == []


@pytest.mark.parametrize(("agent", "name"), [
    ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
    ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0.0.0 Mobile Safari/537.36",
     "Chrome on Android"),
    ("Mozilla/5.0 (Windows NT 10.0; Win64) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
     "Edge on Windows"),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1",
     "Safari on iPhone"),
    ("", "A browser"),
    ("curl" + "x" * 999, "A browser"),
], ids=["Firefox", "Chrome", "Edge", "Safari", "none", "long"])  # fmt: skip
def test_a_device_is_called_by_its_browser(
    browser: TestApp, query: Query, agent: str, name: str
) -> None:
    """What the browser calls itself is a column that the shop has added to the row."""
    browser.extra_environ["HTTP_USER_AGENT"] = agent
    sign_in(browser)
    entry = browser.get("/devices").html.select_one(".devices .name")
    assert entry.get_text(" ", strip=True).startswith(f"{name} This device")
    assert query("select agent from sqlsession where replaced is null") == [(agent[:200],)]


def test_a_device_of_another_customer_cannot_be_signed_out(visitor: Make, query: Query) -> None:
    """Its handle is no secret, and is of no use."""
    alice, bob = visitor(), visitor()
    sign_in(alice, "alice")
    sign_in(bob, "bob")
    token = form_of(bob.get("/devices"), "/devices")["csrf_token"].value
    answer = {"csrf_token": token, "handle": handle_of(query, "alice")}
    page = bob.post("/devices", answer).follow()
    assert page.html.select_one(".flash").text == "That device was signed out already."
    assert is_signed_in(alice)


def test_a_device_that_signs_itself_out_is_asked_to_sign_in(browser: TestApp, query: Query) -> None:
    """The page has no button for it, but a form may send any handle."""
    sign_in(browser)
    token = form_of(browser.get("/devices"), "/devices")["csrf_token"].value
    answer = {"csrf_token": token, "handle": handle_of(query, "alice")}
    page = browser.post("/devices", answer).follow().follow()
    assert page.request.path == "/sign-in"
    assert page.html.select_one(".flash").text == "The device is signed out."
    assert query("select * from sqlsession where user_id is not null and replaced is null") == []


def test_another_site_signs_no_device_out(visitor: Make, query: Query) -> None:
    """The buttons need the CSRF token, as all the others."""
    phone, laptop = visitor(), visitor()
    sign_in(phone)
    handle = handle_of(query, "alice")
    sign_in(laptop)
    for answer in {"handle": handle}, {"others": "1"}, {"everywhere": "1"}:
        laptop.post("/devices", answer, status=400)
    assert is_signed_in(phone)


def test_nobody_has_no_devices(visitor: Make, query: Query) -> None:
    """Visitors see no link to the page, and it signs nobody out for them."""
    alice, browser = visitor(), visitor()
    sign_in(alice)
    assert alice.get("/").html.select_one('a[href="/devices"]') is not None
    page = browser.get("/sign-in")
    assert page.html.select_one('a[href="/devices"]') is None
    assert browser.get("/devices").follow().request.path == "/sign-in"
    token = form_of(page, "/sign-in")["csrf_token"].value
    for answer in {"handle": handle_of(query, "alice")}, {"others": "1"}, {"everywhere": "1"}:
        browser.post("/devices", {"csrf_token": token, **answer}).follow()
    assert is_signed_in(alice)


def test_your_devices_says_that_it_needs_a_sign_in_and_is_shown_after_it(browser: TestApp) -> None:
    """Also after a wrong password, and when the page is loaded again."""
    page = browser.get("/devices").follow()
    for _ in range(2):
        assert page.html.select_one(".flash").text == "Sign in to see your devices."
        page = browser.get(page.request.url)
    form = form_of(page, "/sign-in")
    form["user"], form["password"] = "alice", "guess"
    page = form.submit()
    assert page.html.select_one("[role=alert]").text == "Unknown name or wrong password."
    assert page.html.select_one(".flash").text == "Sign in to see your devices."
    form = form_of(page, "/sign-in")
    form["user"], form["password"] = "alice", "demo"
    page = form.submit().follow()
    assert page.request.path == "/devices"
    assert len(page.html.select(".devices li")) == 1


def test_an_empty_cart_is_shown_again_after_a_sign_in_that_it_asked_for(browser: TestApp) -> None:
    """The button was there, so that is where the visitor wants to be."""
    add(browser, "1")
    form = check_out_form(browser)
    form["quantity-1"] = "0"
    form = form_of(form.submit().follow(), "/sign-in")
    form["user"], form["password"] = "alice", "demo"
    assert form.submit().follow().request.path == "/cart"


@pytest.mark.parametrize("page", ["https://example.com/", "//example.com", "sign_out", ""])
def test_a_sign_in_leads_to_no_other_address(browser: TestApp, page: str) -> None:
    """Whatever a link says, it stays within the shop."""
    asked = browser.get("/sign-in", {"page": page})
    assert asked.html.select_one(".flash") is None
    form = form_of(asked, "/sign-in")
    assert "page" not in form.fields
    form["user"], form["password"] = "alice", "demo"
    assert form.submit().follow().request.path == "/"


def test_the_page_that_fails_says_what_it_is_for(browser: TestApp) -> None:
    """Before the button is pressed, and after it."""
    before = browser.get("/failing")
    assert "See what happens to your session when a request fails." in before.text
    error = form_of(before, "/failing").submit(status=500)
    assert "The error rolls back the request's transaction" in error.text
    assert "What happens here" in error.text


# ---- what is in my session


def test_a_visitor_who_did_nothing_has_no_session(browser: TestApp, query: Query) -> None:
    """Looking at it makes neither a row nor a cookie."""
    page = browser.get("/session")
    assert "Nothing is stored for you" in page.text
    assert "What happens here" not in page.text
    assert "Set-Cookie" not in page.headers
    assert query("select * from sqlsession") == []


def test_the_session_is_shown_beside_its_row(browser: TestApp, query: Query) -> None:
    """What the page shows is what the table holds, every column of it."""
    add(browser, "1")
    sign_in(browser, keep=True)
    browser.get("/cart")
    page = browser.get("/session")
    row = row_of(page)
    # the row from before the sign-in is a marker
    stored = query("select * from sqlsession where replaced is null")
    names = [name for _, name, *_ in query("pragma table_info(sqlsession)")]
    assert list(row) == names
    [values] = [dict(zip(names, values, strict=True)) for values in stored]
    assert row["id"] == values["id"].hex()
    assert row["lineage"] == values["lineage"].hex()
    assert row["data"] == values["data"].decode()
    assert f"{len(values['data'])} bytes" in page.text
    assert row["version"] == str(values["version"])
    assert row["max_age"] == str(30 * 24 * 60 * 60)
    assert row["user_id"] == "alice"
    assert row["replaced"] == "NULL"
    for name in "created", "last_seen", "purge_after":
        assert row[name].endswith(f"UTC ({values[name]})")
    assert json.loads(page.html.pre.text)["cart"] == {"1": 1}


def test_the_token_of_the_cookie_is_not_in_the_table(browser: TestApp, database: Path) -> None:
    """The page proves it: the row is found by a hash, and no row holds the token."""
    add(browser, "1")
    page = browser.get("/session")
    token = browser.cookies[TOKEN]
    hashed = hashlib.sha256(token.encode()).hexdigest()
    assert row_of(page)["id"] == hashed
    assert [dd.text for dd in page.html.select(".proof dd")] == [hashed, "1", "0"]
    assert token not in page.text
    assert token.encode() not in database.read_bytes()


def test_looking_at_the_session_does_not_write_it(browser: TestApp, query: Query) -> None:
    """The page says so, and the row says so too."""
    add(browser, "1")
    before = query("select * from sqlsession")
    page = browser.get("/session")
    assert "Set-Cookie" not in page.headers
    assert query("select * from sqlsession") == before


# ---- a page that fails


def test_a_failure_undoes_the_order_and_the_session_together(
    browser: TestApp, query: Query
) -> None:
    """The failing request saw what it had written; nothing of it is left."""
    add(browser, "2")
    before = browser.get("/failing")
    assert numbers(before) == {"now": [1, 0, 0]}
    error = form_of(before, "/failing").submit(status=500)
    assert numbers(error) == {"before": [1, 0, 0], "seen": [2, 1, 1]}
    after = error.click("See what is left")
    assert numbers(after) == {"seen": [2, 1, 1], "now": [1, 0, 0]}
    assert "Your order is on its way" not in error.text + after.text
    cart = browser.get("/cart")
    assert "Meadow honey" in cart.text
    assert "Country bread" not in cart.text
    assert query('select * from "order"') == []


@pytest.mark.parametrize("address", ["?pieces=1&messages=1", "?pieces=1&messages=<b>&orders=-1"])
def test_an_address_without_numbers_shows_only_what_there_is(
    browser: TestApp, address: str
) -> None:
    """Whatever stands in it."""
    assert numbers(browser.get("/failing" + address)) == {"now": [0, 0, 0]}


# ---- two tabs


def test_two_tabs_that_write_at_once_lose_nothing(visitor: Make, query: Query) -> None:
    """The one that is too late is run again, and finds what the other one wrote."""
    rounds, tabs = 3, {"a": visitor(), "b": visitor()}
    token = form_of(tabs["a"].get("/tabs"), "").fields["csrf_token"][0].value
    cookie = tabs["a"].cookies[TOKEN]
    tabs["b"].set_cookie(TOKEN, cookie)
    before = tabs["a"].get("/tabs/row").json

    def write(tab: str) -> dict[str, int]:
        return dict(tabs[tab].post(f"/tabs/{tab}", headers={"X-CSRF-Token": token}).json)

    with ThreadPoolExecutor(len(tabs)) as threads:
        answers = [answer for _ in range(rounds) for answer in threads.map(write, tabs)]
    assert sorted(answer["found"] for answer in answers) == list(range(2 * rounds))
    # a busy machine may serve some of them one after the other
    assert {answer["attempt"] for answer in answers} == {1, 2}
    after = tabs["a"].get("/tabs/row").json
    assert after.pop("version") == before.pop("version") + 2 * rounds
    assert before == {"tab a": 0, "tab b": 0, "both tabs": 0, "messages": 0}
    both = 2 * rounds
    assert after == {"tab a": rounds, "tab b": rounds, "both tabs": both, "messages": both}
    assert f"{both} messages were waiting for this page." in tabs["b"].get("/tabs").text
    assert "Nothing sent yet." in tabs["a"].get("/tabs").text
    assert len(query("select * from sqlsession")) == 1


def test_the_row_of_a_visitor_who_did_nothing_is_all_zeros(browser: TestApp, query: Query) -> None:
    """To ask for it makes none."""
    assert set(browser.get("/tabs/row").json.values()) == {0}
    assert query("select * from sqlsession") == []


def test_another_site_writes_from_no_tab(browser: TestApp) -> None:
    """What the script sends needs the CSRF token, as the forms do."""
    browser.get("/tabs")
    browser.post("/tabs/a", status=400)
    assert browser.get("/tabs/row").json["tab a"] == 0


# ---- what can go wrong


def test_a_form_of_another_site_is_refused(browser: TestApp) -> None:
    """Every form needs the CSRF token of the session."""
    add(browser, "1")
    page = browser.post("/add", {"product": "1"}, status=400)
    assert "This form has expired" in page.text
    assert browser.get("/cart").html.select_one(".badge").text == "1"


@pytest.mark.parametrize("path", ["/nowhere", "/add", "/tabs/c"])
def test_a_page_that_is_not_there_says_so(browser: TestApp, path: str) -> None:
    """Unknown addresses get a page of the shop's own."""
    assert "Page not found" in browser.get(path, status=404).text


@pytest.mark.parametrize("product", ["7", "bread", "9" * 30])
def test_a_product_that_is_not_there_cannot_be_bought(browser: TestApp, product: str) -> None:
    """Whatever a form sends, it is answered."""
    form = form_of(browser.get("/"), "/add")
    answer = {"csrf_token": form["csrf_token"].value, "product": product}
    browser.post("/add", answer, status=404)


def test_nothing_is_fetched_from_elsewhere() -> None:
    """Pages, style, script and pictures name no other host."""
    for path in DEMO.joinpath("shop").rglob("*"):
        if path.suffix in {".jinja2", ".css", ".svg", ".js"}:
            text = path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
            assert not re.search(r"https?:|//[a-z]", text), path


# ---- for real


def test_pserve_runs_it_from_its_ini_file_alone(tmp_path: Path) -> None:
    """A copy of the folder makes its database there."""
    with served_demo(Path(sys.executable).with_name("pserve"), tmp_path) as fetch:
        assert "What would you like today?" in fetch("/")
    assert (tmp_path / "demo" / "demo.sqlite").exists()
