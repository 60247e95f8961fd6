"""A Sphinx extension: the settings reference, made from the metadata of the package's own settings.

``.. settings-reference:: Lifetime`` lists those of a group, ``:setting:`ttl``` refers to one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains import ObjType
from sphinx.roles import XRefRole
from sphinx.util.docutils import SphinxDirective

from pyramid_sqlsession.settings.options import PREFIX, Settings

# for the others, none is only how "unset" is written
NONE_IS_A_VALUE = ("anonymous_ttl", "absolute_ttl", "cookie_domain", "cookie_max_age")

# The search takes "sqlsession.ttl" for two words: the object is named by the second, and the first
# has to be in its type.
OBJECT_TYPE = "sqlsession setting"


def term(option: Field[Any]) -> str:
    """The name of an option in an ini file."""
    return PREFIX + option.name + (".*" if option.name == "sqlalchemy" else "")


def shown_default(option: Field[Any]) -> str:
    """The default of an option; where none is no value of its own, the option is unset."""
    default = option.metadata["default"]
    if default != "none":
        return f"``{default}``"
    return "none" if option.name in NONE_IS_A_VALUE else "unset"


def example(option: Field[Any]) -> str:
    """Lines of an ini file."""
    lines = option.metadata["example"].splitlines()
    return "\n".join(line if line.startswith(" ") else PREFIX + line for line in lines)


def definition(option: Field[Any]) -> Iterator[str]:
    """What an option means, as lines of reStructuredText."""
    yield option.metadata["meaning"]
    yield ""
    yield f":Allowed: {option.metadata['allowed']}"
    yield f":Default: {shown_default(option)}"
    yield f":Keyword: ``{option.name}: {option.metadata['type']}``"
    yield ""
    yield ".. code-block:: ini"
    yield ""
    for line in example(option).splitlines():
        yield f"   {line}"


class SettingsReference(SphinxDirective):
    """The settings of a group, each with an anchor."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        group = self.arguments[0]
        options = [it for it in fields(Settings) if it.metadata["group"] == group]
        if not options:
            raise self.error(f"there is no group of settings called {group}")
        return [self.entry(option) for option in options]

    def entry(self, option: Field[Any]) -> nodes.Node:
        anchor = nodes.make_id(f"setting-{option.name}")
        name = addnodes.desc_name("", term(option))
        signature = addnodes.desc_signature("", "", name, ids=[anchor])
        # what the table of contents shows
        signature["_toc_name"], signature["_toc_parts"] = option.name, (option.name,)
        signature["fullname"] = option.name
        self.note(option.name, anchor)
        if option.name == "sqlalchemy":
            self.note("sqlalchemy.url", anchor)
        text = addnodes.desc_content()
        self.state.nested_parse(
            StringList(list(definition(option)), "pyramid_sqlsession/settings/options.py"), 0, text
        )
        return addnodes.desc("", signature, text, domain="std", objtype="setting")

    def note(self, name: str, anchor: str) -> None:
        self.env.domains.standard_domain.note_object("setting", name, anchor)


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
    # before pages that only name the setting
    setting = ObjType(OBJECT_TYPE, "setting", searchprio=0)
    app.registry.domain_object_types["std"]["setting"] = setting
    app.add_role_to_domain(
        "std",
        "setting",
        SettingRole(innernodeclass=nodes.literal, warn_dangling=True),
        override=True,
    )
    app.add_directive("settings-reference", SettingsReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
