"""The pages of the documentation, for the tests that run what they show."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def named_blocks(page: Path) -> dict[str, str]:
    """The code blocks of a page by their names, dedented."""
    pattern = r"^( *)\.\. code-block:: \w+\n\1   :name: ([\w-]+)\n\n((?:\1   .*\n|\n)+)"
    found = re.findall(pattern, page.read_text(), re.MULTILINE)
    return {name: textwrap.dedent(block).strip("\n") + "\n" for _, name, block in found}
