"""What a release still lacks: run by ``make release-check``, explained in RELEASING.rst."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

URLS = ["Source", "Issues", "Documentation", "Changelog"]
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
PLACEHOLDER = ".example"


def described(root: Path) -> dict[str, Any]:
    """The table ``[project]`` of ``pyproject.toml``."""
    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return project


def missing(root: Path) -> list[str]:
    """A line for each fact that has to be filled in before a release of the tree at ``root``."""
    project = described(root)
    urls = project.get("urls", {})
    lines = [
        f"pyproject.toml: [project.urls] has no {name}"
        for name in URLS
        if not urls.get(name, "").startswith("https://") or PLACEHOLDER in urls[name]
    ]
    if not any(is_address(author.get("email", "")) for author in project["authors"]):
        lines.append("pyproject.toml: no author has an email address")
    if not is_address((root / "SECURITY.rst").read_text()):
        lines.append("SECURITY.rst: no email address to report vulnerabilities to")
    if PLACEHOLDER in (root / "README.rst").read_text():
        lines.append("README.rst: links lead to a placeholder, not to the documentation")
    heading = f"{project['version']} ("
    changes = (root / "CHANGES.rst").read_text()
    if not re.search(rf"^{re.escape(heading)}\d{{4}}-\d\d-\d\d\)$", changes, re.MULTILINE):
        lines.append(f"CHANGES.rst: version {project['version']} has no heading with a date")
    return lines


def is_address(text: str) -> bool:
    """Whether an email address is in this text, and no placeholder for one."""
    found = EMAIL.search(text)
    return found is not None and PLACEHOLDER not in found[0]


def main() -> int:
    """Print what is missing; the exit status is 1 if something is."""
    lines = missing(Path(__file__).parents[2])
    sys.stdout.write("\n".join(lines or ["nothing is missing"]) + "\n")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
