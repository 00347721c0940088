"""The directive ``abc-api``: the reference of a package, from its ``__all__`` and docstrings.

Functions, classes and values of the package come first, then a section for each of its
modules with the names in that module's ``__all__``. A thing that has several names is
described at the first. A new public name is on the page with the next build.
"""

import importlib
import inspect
import re
import sys
from textwrap import indent
from types import ModuleType

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode, nested_parse_with_titles


def comment(package: str, name: str, value: object) -> str:
    """What is written below a value where a module of the package sets it.

    Values have no docstrings of their own.
    """
    for module in [
        m
        for key, m in sorted(sys.modules.items())
        if key.partition(".")[0] == package and m is not None
    ]:
        if vars(module).get(name) is value and (
            written := ModuleAnalyzer.for_module(module.__name__).find_attr_docs().get(("", name))
        ):
            return "\n".join(written)
    return ""


def describe(path: str, thing: object) -> list[str]:
    """The directive for one thing, named as a user would type it."""
    package, (module, _, name) = path.partition(".")[0], path.rpartition(".")
    if inspect.isclass(thing):
        ours = [base for base in thing.__bases__ if base.__module__.partition(".")[0] == package]
        kind = "exception" if issubclass(thing, BaseException) else "class"
        return [
            f".. auto{kind}:: {path}",
            "   :members:",
            *(["   :show-inheritance:"] if ours else []),
            "",
        ]
    if inspect.isroutine(inspect.unwrap(thing)):
        return [f".. autofunction:: {path}", ""]
    value = repr(thing)
    shown = [f"   :value: {value}"] if len(value) <= 80 and "\n" not in value else []
    return [
        f".. py:data:: {name}",
        f"   :module: {module}",
        f"   :type: {type(thing).__name__}",
        *shown,
        "",
        *indent(comment(package, name, thing), "   ").splitlines(),
        "",
    ]


def names(module: ModuleType) -> list[str]:
    """A module's public names, in its own order."""
    listed = getattr(module, "__all__", None)
    return (
        list(listed)
        if listed is not None
        else [
            n
            for n in vars(module)
            if not n.startswith("_")
            and getattr(getattr(module, n), "__module__", "") == module.__name__
        ]
    )


def reference(path: str, module: ModuleType, known: dict[int, str]) -> list[str]:
    """A module as reStructuredText: its names with links, what each is, its modules as sections.

    ``known`` gathers what was described where.
    """
    things = [(name, getattr(module, name)) for name in names(module)]
    links, modules, entries, sections = [], [], [], []
    for name, thing in sorted(things, key=lambda each: isinstance(each[1], ModuleType)):
        place = f"{path}.{name}"
        # equal values may be one object, so only what is defined by a statement is known again
        once = isinstance(thing, ModuleType) or inspect.isclass(thing) or inspect.isroutine(thing)
        first = known.setdefault(id(thing), place) if once else place
        if isinstance(thing, ModuleType):
            words = inspect.getdoc(thing) or ""
            opening = " ".join(words.partition("\n\n")[0].split())
            modules.append(f"- :py:mod:`{place} <{first}>`: {opening}")
            if first == place:
                sections += [
                    f"``{place}``",
                    "-" * (len(place) + 4),
                    "",
                    f".. py:module:: {place}",
                    "",
                    words,
                    "",
                ]
                sections += reference(place, thing, known)
            continue
        links.append(f":py:obj:`{name} <{first}>`")
        if first == place:
            entries += describe(place, thing)
    return [", ".join(links), "", *modules, "", *entries, *sections]


class AbcApi(SphinxDirective):
    """``.. abc-api:: package``"""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The reference as nodes of the page."""
        package = importlib.import_module(self.arguments[0])
        self.env.note_dependency(package.__file__)
        lines = [
            f".. py:module:: {package.__name__}",
            "",
            *reference(package.__name__, package, {}),
        ]
        found = nodes.section()
        found.document = self.state.document
        nested_parse_with_titles(
            self.state, StringList("\n".join(lines).splitlines(), package.__file__), found
        )
        self.env.temp_data["py:module"] = None
        return found.children


def resolve(app: Sphinx, env, node: pending_xref, content: nodes.Element) -> nodes.Node | None:
    """On the page ``api``, docstrings name things as their own module sees them.

    The link is to what ends in that name with the fewest dots, if to anything.
    """
    if node.get("refdomain") != "py" or node.get("refdoc") != "api":
        return None
    target = node["reftarget"].lstrip(".")
    parts = target.split(".")
    objects = env.get_domain("py").objects
    for start in range(len(parts)):
        ending = "." + ".".join(parts[start:])
        found = [
            (name.count("."), entry.node_id)
            for name, entry in objects.items()
            if f".{name}".endswith(ending) and entry.docname == "api" and not entry.aliased
        ]
        if found and sum(each[0] == min(found)[0] for each in found) == 1:
            return make_refnode(app.builder, "api", "api", min(found)[1], content, target)
    return content


def plain_defaults(
    app: Sphinx,
    kind: str,
    name: str,
    thing: object,
    options,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Defaults that are not Python, such as ``<factory>``, as ``...``, which Sphinx can read."""
    return signature and re.sub(r"<[^<>]*>", "...", signature), returns


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("abc-api", AbcApi)
    app.connect("autodoc-process-signature", plain_defaults)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
