"""The pages of the documentation, and the blocks of code in them.

Every block has to be taken by a test, which runs it or compares it: see ``is_taken``.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
TESTS = ROOT / "tests"
EXAMPLES = DOCS / "examples"
PAGES = sorted(page for page in DOCS.rglob("*.rst") if "_build" not in page.parts)

BLOCK = re.compile(
    r"^(?P<indent> *)\.\. code-block:: (?P<language>\w+)\n"
    r"(?P<options>(?:(?P=indent)   :.*\n)*)\n"
    r"(?P<text>(?:(?P=indent)   .*\n|\n)+)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A code block of a page, dedented."""

    language: str
    options: dict[str, str]
    text: str


def blocks_of(page: Path) -> list[Block]:
    """The code blocks of a page, in their order."""
    return [
        Block(
            found["language"],
            dict(re.findall(r":([\w-]+): *(.*)", found["options"])),
            textwrap.dedent(found["text"]).strip("\n") + "\n",
        )
        for found in BLOCK.finditer(page.read_text())
    ]


def prose_of(page: Path) -> str:
    """A page without its code blocks."""
    return BLOCK.sub("", page.read_text())


def steps_of(page: Path) -> list[Block]:
    """The code blocks of a page, for a test that follows it from the first to the last."""
    return blocks_of(page)


def code_blocks(page: Path, language: str) -> list[str]:
    """The texts of the blocks of a page in a language."""
    return [block.text for block in blocks_of(page) if block.language == language]


def named_blocks(page: Path) -> dict[str, str]:
    """The texts of the blocks of a page that have a ``:name:``, by that."""
    return {
        block.options["name"]: block.text for block in blocks_of(page) if "name" in block.options
    }


def code_block(page: Path, language: str, part: str) -> str:
    """The text of the one block of a page in a language that holds this part."""
    (block,) = (text for text in code_blocks(page, language) if part in text)
    return block


def execute(block: str, **names: Any) -> dict[str, Any]:
    """The names after a block of Python was run with these names."""
    exec(block, names)  # noqa: S102  # an example of ours
    return names


# ---- which blocks tests take


def is_taken(page: Path, block: Block) -> bool:
    """Whether a test takes a block.

    One that has a ``:name:`` is taken where a test has that name in quotes. Of the others, ini is
    taken by one test for all; everything else by a call, somewhere in the tests, of ``code_blocks``
    or ``code_block`` with its page and language, or of ``steps_of`` with its page.
    """
    if "name" in block.options:
        return block.options["name"] in NAMES
    if block.language == "ini":
        return True
    name = page.relative_to(DOCS if DOCS in page.parents else ROOT).as_posix()
    return any(
        path.rpartition("docs/")[2] == name
        and language in ("", block.language)
        and part in block.text
        for path, language, part in CALLS
    )


def calls(module: Path) -> Iterator[tuple[str, str, str]]:
    """What a module of tests takes: a page, a language or all, and a part of the block's text."""
    tree = ast.parse(module.read_text())
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id in ("code_block", "code_blocks", "steps_of"):
            page, *rest = (literal(argument, constants) for argument in node.args)
            language, part, *_ = (*rest, "", "")
            yield page, language, part


def literal(node: ast.AST, constants: dict[str, ast.expr]) -> str:
    """The strings of an expression, joined as a path is; a constant of the module is looked up."""
    if isinstance(node, ast.Name):
        return literal(constants[node.id], constants) if node.id in constants else ""
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "/".join(
        filter(None, (literal(child, constants) for child in ast.iter_child_nodes(node)))
    )


MODULES = sorted(TESTS.rglob("*.py"))
CALLS = {call for module in MODULES for call in calls(module)}
NAMES = {name for module in MODULES for name in re.findall(r'"([\w-]+)"', module.read_text())}
