"""How Sphinx builds this documentation. It needs no network."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pylons_sphinx_themes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]

project = "pyramid_sqlsession"
author = "pyramid_sqlsession contributors"
release = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
version = release

extensions = ["sphinx.ext.autodoc", "settings_reference"]
exclude_patterns = ["_build", "demo", "examples", "performance", "reliability"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "pyramid"
html_theme_path = pylons_sphinx_themes.get_html_themes_path()
html_theme_options = {"in_progress": False, "outdated": False}
html_title = f"{project} {release}"
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_sidebars = {"**": ["searchbox.html", "localtoc.html", "globaltoc.html"]}
