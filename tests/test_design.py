"""The house on the design page is the package, and its floors are those of the imports."""

from __future__ import annotations

import ast

from support.docs.pages import DOCS, ROOT, code_blocks

PACKAGE = ROOT / "pyramid_sqlsession"


def floors() -> list[list[str]]:
    """The floors of the house in design.rst, from the ground up."""
    (drawing,) = code_blocks(DOCS / "design.rst", "text")
    return [line.split()[1:] for line in reversed(drawing.splitlines())]


def imports(module: str) -> set[str]:
    """The modules of the package that a module, or a package inside it, imports."""
    inside = PACKAGE / module
    paths, level = (inside.glob("*.py"), 2) if inside.is_dir() else ([PACKAGE / f"{module}.py"], 1)
    trees = [ast.parse(path.read_text()) for path in paths]
    nodes = [
        node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == level
    ]
    return {
        name
        for node in nodes
        for name in ([node.module] if node.module else [alias.name for alias in node.names])
    }


def test_the_house_on_the_design_page_has_a_room_for_every_module() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    modules |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(room for floor in floors() for room in floor) == sorted(modules)


def test_the_design_page_says_what_every_module_is_for() -> None:
    section = (DOCS / "design.rst").read_text().partition("Why a row in")[0]
    assert [room for floor in floors() for room in floor if f"``{room}``" not in section] == []


def test_no_module_imports_from_a_floor_above_its_own() -> None:
    below: set[str] = set()
    for floor in floors():
        for room in floor:
            assert imports(room) <= below, f"{room} imports {imports(room) - below}"
            below.add(room)
