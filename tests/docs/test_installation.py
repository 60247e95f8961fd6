"""What the page about installing names is what can be installed."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import make_url
from support.docs.pages import DOCS, ROOT, named_blocks

from pyramid_sqlsession.database.options import _DRIVERS

PAGE = DOCS / "installation.rst"
PROJECT = (ROOT / "pyproject.toml").read_text()

IMPORTED = {"mysqldb": "MySQLdb", "mysqlconnector": "mysql", "mariadbconnector": "mariadb"}
"""The modules of drivers that SQLAlchemy calls otherwise."""


def rows_of(page: Path, title: str) -> list[list[str]]:
    """The literals in each row of the list-table below a title, by column; none is an empty one."""
    text = page.read_text().split(f"\n{title}\n---")[1]
    table = re.search(r"\.\. list-table::\n(?:   .*\n|\n)+", text)
    assert table
    rows = re.split(r"^   \* - ", table[0], flags=re.MULTILINE)[2:]
    cells = [re.split(r"^     - ", row, flags=re.MULTILINE) for row in rows]
    return [[literals(cell) for cell in row] for row in cells]


def literals(cell: str) -> str:
    return " ".join(re.findall(r"``(.+?)``", cell))


def extras() -> dict[str, str]:
    section = PROJECT.split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    return dict(re.findall(r"^(\w+) = \[(.*?)\]$", section, re.MULTILINE | re.DOTALL))


def test_each_driver_is_a_package_that_the_tests_install_and_a_url_that_loads_it() -> None:
    tested = " ".join(extras()[extra] for extra in ("testing", "mariadb", "mysqlclient"))
    rows = rows_of(PAGE, "Drivers")
    assert len(rows) == 8
    for _, package, url in rows:
        dialect = make_url(f"{url}host/name").get_dialect()
        if package:
            assert f'"{package}"' in tested
            module = IMPORTED.get(dialect.driver, dialect.driver)
            assert package == _DRIVERS.get(module, module).strip("'")
        else:
            assert dialect.driver == "pysqlite"


def test_each_driver_on_the_page_about_databases_can_be_installed_as_this_page_says() -> None:
    packages = {package for _, package, _ in rows_of(PAGE, "Drivers") if package}
    drivers = {re.sub(r"\[binary\]|-binary", "", package) for package in packages}
    table = (DOCS / "databases.rst").read_text().split("\ndriver ")[1].split("\n\n")[0]
    names = re.findall(r"^([\w-]+) ", table.split("\n", 2)[2], re.MULTILINE)
    assert {*drivers, "sqlite3"} == set(names)


def test_each_extra_on_the_page_is_one() -> None:
    names = {name for extra, _ in rows_of(PAGE, "Extras") for name in extra.split()}
    assert names == {"cli", "encryption", "mysqlclient", "mariadb"}
    assert names <= set(extras())
    assert "cryptography" in extras()["encryption"]


def test_what_is_installed_is_called_so() -> None:
    blocks = named_blocks(PAGE)
    assert blocks["install"] == "$ pip install pyramid_sqlsession\n"
    for name in "install-extras", "install-clone":
        found = re.fullmatch(r'\$ pip install "(\S+?)\[(.+)\]"\n', blocks[name])
        assert found
        assert found[1].rpartition("/")[2] == "pyramid_sqlsession"
        assert set(found[2].split(",")) <= set(extras())


def test_the_versions_on_the_pages_are_those_of_the_package() -> None:
    needed = dict(re.findall(r'"(\w+)>=([\d.]+)"', PROJECT.split("dependencies = [")[1]))
    oldest = re.search(r'^requires-python = ">=(.+)"$', PROJECT, re.MULTILINE)
    pythons = re.findall(r"Programming Language :: Python :: (3\.\d+)", PROJECT)
    assert oldest
    sentence = (
        f"Python {oldest[1]}, Pyramid {needed['pyramid']} and "
        f"SQLAlchemy {needed['SQLAlchemy']}, or later"
    )
    for page in PAGE, ROOT / "README.rst":
        assert sentence in " ".join(page.read_text().split())
    policy = (DOCS / "policy.rst").read_text()
    assert re.search(rf"^Python +{pythons[0]} to {pythons[-1]}$", policy, re.MULTILINE)
    assert f"Python {pythons[0]} to {pythons[-1]} on" in " ".join(
        (ROOT / "README.rst").read_text().split()
    )
    assert re.search(rf"^SQLAlchemy .*\bfrom {needed['SQLAlchemy']} on", policy, re.MULTILINE)
