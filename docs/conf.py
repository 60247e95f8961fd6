"""How Sphinx builds this documentation. It needs no network."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]

project = "pyramid_sqlsession"
author = "pyramid_sqlsession contributors"
release = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
version = release

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "settings_reference",
]
exclude_patterns = ["_build", "_inventories", "demo", "examples", "performance", "reliability"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

# _inventories/README.rst says where they come from
OTHER_PROJECTS = {
    "python": "https://docs.python.org/3/",
    "pyramid": "https://docs.pylonsproject.org/projects/pyramid/en/latest/",
    "sqlalchemy": "https://docs.sqlalchemy.org/en/20/",
    "transaction": "https://transaction.readthedocs.io/en/latest/",
    "webob": "https://docs.pylonsproject.org/projects/webob/en/stable/",
}
intersphinx_mapping = {
    name: (url, f"_inventories/{name}.inv") for name, url in OTHER_PROJECTS.items()
}

# only the commands of a shell session, without their prompts
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"

html_theme = "furo"
# frames of code that can be seen, and text with a contrast of at least 4.5 : 1
html_theme_options = {
    "light_css_variables": {
        "color-background-border": "#dfe2e6",
        "color-code-background": "#f5f6f8",
        "color-foreground-muted": "#5f636a",
    },
    "dark_css_variables": {
        "color-background-border": "#303335",
        "color-code-background": "#1e2124",
        "color-foreground-muted": "#9196a0",
        "color-problematic": "#f27878",
    },
}
html_title = f"{project} {release}"
html_favicon = "_static/icon.svg"
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"


# what docstrings name in short as the code does, and where SQLAlchemy has it from
FULL_NAMES = {
    "ConfigurationError": "pyramid.exceptions.ConfigurationError",
    "NoTransaction": "transaction.interfaces.NoTransaction",
    "sqlalchemy.orm.base.Mapped": "sqlalchemy.orm.Mapped",
}


def write_out(app, env, node, contnode):
    """Refer to the name that the other project's documentation has."""
    target = node.get("reftarget")
    node["reftarget"] = FULL_NAMES.get(target, target)


def allow_breaks(app, pagename, templatename, context, doctree):
    """Break long names in tables after their dots and underscores, rather than anywhere."""

    def name(found):
        return re.sub(r"(?<=\w)([._])(?=\w)", r"\1<wbr>", found[0])

    def cell(found):
        return re.sub(r'(?<=<span class="pre">)[^<]+', name, found[0])

    if "body" in context:
        context["body"] = re.sub(r"<td>.*?</td>", cell, context["body"], flags=re.DOTALL)


def setup(app):
    """Called by Sphinx."""
    # before intersphinx
    app.connect("missing-reference", write_out, priority=400)
    app.connect("html-page-context", allow_breaks)
