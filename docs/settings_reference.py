"""A Sphinx extension: the settings reference, made from the metadata of the package's own settings.

``.. settings-reference::`` lists them, ``:setting:`ttl``` refers to one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.roles import XRefRole
from sphinx.util.docutils import SphinxDirective

from pyramid_sqlsession.settings.options import PREFIX, Settings

# for the others, none is only how "unset" is written
NONE_IS_A_VALUE = ("anonymous_ttl", "absolute_ttl", "cookie_domain", "cookie_max_age")


def term(option: Field[Any]) -> str:
    """The name of an option in an ini file."""
    return PREFIX + option.name + (".*" if option.name == "sqlalchemy" else "")


def shown_default(option: Field[Any]) -> str:
    """The default of an option; where none is no value of its own, the option is unset."""
    default = option.metadata["default"]
    if default != "none":
        return f"``{default}``"
    return "none" if option.name in NONE_IS_A_VALUE else "unset"


def definition(option: Field[Any]) -> Iterator[str]:
    """What an option means, as lines of reStructuredText."""
    yield option.metadata["meaning"]
    yield ""
    yield f"Allowed: {option.metadata['allowed']}. Default: {shown_default(option)}."


class SettingsReference(SphinxDirective):
    """A definition list of all settings."""

    def run(self) -> list[nodes.Node]:
        entries = nodes.definition_list()
        for option in fields(Settings):
            entries += self.entry(option)
        return [entries]

    def entry(self, option: Field[Any]) -> nodes.Node:
        anchor = nodes.make_id(f"setting-{option.name}")
        name = nodes.term("", "", nodes.literal("", term(option)), ids=[anchor])
        self.env.domains.standard_domain.note_object("setting", option.name, anchor)
        text = nodes.definition()
        self.state.nested_parse(
            StringList(list(definition(option)), "pyramid_sqlsession/settings/options.py"), 0, text
        )
        return nodes.definition_list_item("", name, text)


class SettingRole(XRefRole):
    """A reference to a setting, shown with its prefix."""

    def process_link(
        self, env: Any, refnode: Any, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        known = {option.name: term(option) for option in fields(Settings)}
        return (title if has_explicit_title else known.get(target, title)), target


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_crossref_type("setting", "setting")
    app.add_role_to_domain(
        "std",
        "setting",
        SettingRole(innernodeclass=nodes.literal, warn_dangling=True),
        override=True,
    )
    app.add_directive("settings-reference", SettingsReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
