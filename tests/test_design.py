"""The drawing on the design page is the package: its modules, and the way imports run."""

from __future__ import annotations

import ast
from pathlib import Path

from support.docs.pages import DOCS, ROOT, code_blocks

PACKAGE = ROOT / "pyramid_sqlsession"


def drawn() -> list[str]:
    """The modules drawn in design.rst, each after all that it may import."""
    (drawing,) = code_blocks(DOCS / "design.rst", "text")
    found = []
    for line in reversed(drawing.splitlines()):
        folder, *names = line.split()
        found += [f"{folder}{name}" if folder.endswith("/") else name for name in names]
    return found


def drawn_name(path: Path) -> str:
    """A module's name in the drawing; what a folder exports belongs to its last module."""
    inside = path.relative_to(PACKAGE).with_suffix("")
    if inside.name == "__init__" and len(inside.parts) > 1:
        return [name for name in drawn() if name.startswith(f"{inside.parts[0]}/")][-1]
    return inside.as_posix()


def imported(path: Path) -> set[str]:
    """The modules that a module imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = path.parents[node.level - 1]
            target = start.joinpath(*node.module.split(".")) if node.module else start
            names = [target / alias.name for alias in node.names] if target.is_dir() else [target]
            found |= {name.relative_to(PACKAGE).as_posix() for name in names}
    return found


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_the_drawing_on_the_design_page_has_every_module() -> None:
    exports = set(PACKAGE.glob("*/__init__.py"))
    assert sorted(drawn()) == sorted(drawn_name(path) for path in modules() if path not in exports)


def test_the_design_page_says_what_every_module_is_for() -> None:
    section = (DOCS / "design.rst").read_text().partition("Why a row in")[0]
    names = [name.rpartition("/")[2] for name in drawn()]
    assert [name for name in names if f"``{name}``" not in section] == []


def test_no_module_imports_from_one_that_is_drawn_above_it() -> None:
    order = drawn()
    allowed = {name: {*order[: number + 1]} for number, name in enumerate(order)}
    above = {
        name: wrong
        for path in modules()
        if (wrong := imported(path) - allowed[name := drawn_name(path)])
    }
    assert above == {}


def test_the_package_is_imported_by_relative_names_only_which_the_drawing_is_held_to() -> None:
    absolute = [path for path in modules() if "from pyramid_sqlsession" in path.read_text()]
    assert absolute == []


def test_no_module_has_more_than_250_lines() -> None:
    assert [path for path in modules() if len(path.read_text().splitlines()) > 250] == []
