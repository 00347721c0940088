"""Formulas as MathML, which browsers draw by themselves, without a script and so a network.

A renderer for Sphinx's math nodes, chosen by ``html_math_renderer: mathml``. Numbers, labels
and references are Sphinx's own. A formula with a command that latex2mathml does not
know is a warning, with its place.
"""

import html
import re
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

# latex2mathml numbers the lines of `align` by itself and does not know `aligned`; Sphinx numbers
# the whole.
ENVIRONMENTS = {
    "align": "split",
    "aligned": "split",
    "eqnarray": "split",
    "multline": "matrix",
    "gather": "matrix",
    "gathered": "matrix",
    "equation": "",
}

# How many parts these elements have: latex2mathml lets a missing one pass.
ARGUMENTS = {
    "mfrac": 2,
    "mroot": 2,
    "msub": 2,
    "msup": 2,
    "munder": 2,
    "mover": 2,
    "msubsup": 3,
    "munderover": 3,
}

# A function's name, with what it follows and the bracket after it: TeX parts it from its
# neighbours but not from a bracket.
FUNCTION = re.compile(r"(</m[in]>|)<m[io]>([a-z]{2,})</m[io]>(<mo[^>]*>&#x00028;|)")


def _function(found: re.Match) -> str:
    left, right = "0.167em" if found[1] else "0", "0" if found[3] else "0.167em"
    return f'{found[1]}<mo lspace="{left}" rspace="{right}">{found[2]}</mo>{found[3]}'


def _environment(found: re.Match) -> str:
    name = ENVIRONMENTS.get(found[2], found[2])
    return f"\\{found[1]}{{{name}}}" if name else ""


def to_mathml(latex: str, display: bool = False) -> str:
    """One formula as a ``<math>`` element; ValueError if something in it is not understood."""
    latex = re.sub(r"\\(begin|end)\{(\w+)\*?\}", _environment, latex.strip())
    # as Sphinx does it for MathJax: an empty line parts equations, and a line break needs an
    # environment
    parts = [part for part in re.split(r"\n\s*\n", latex) if part.strip()]
    latex = r" \\ ".join(parts)
    bare = re.sub(r"\\begin\{(\w+)\}.*\\end\{\1\}", "", latex, flags=re.DOTALL)
    if r"\\" in bare:
        latex = rf"\begin{{split}} {latex} \end{{split}}"
    try:
        mathml = convert(latex, display="block" if display else "inline")
        tree = ElementTree.fromstring(mathml)
    except Exception as error:
        # the library's own exceptions are many, and some carry no message
        raise ValueError(str(error) or type(error).__name__) from error
    for element in tree.iter():
        tag = element.tag.rpartition("}")[2]
        if len(element) != ARGUMENTS.get(tag, len(element)):
            raise ValueError(f"{tag} with {len(element)} of {ARGUMENTS[tag]} parts")
    unknown = [text for text in tree.itertext() if text.startswith("\\")]
    if unknown:
        raise ValueError(f"latex2mathml does not know {', '.join(unknown)}")
    # dots and slashes stand close to their neighbours; a binomial's brackets are as high as it is,
    # in a line of text too
    mathml = mathml.replace(' minsize="2.047em" maxsize="2.047em"', "")
    mathml = mathml.replace("<mo>&#x02026;</mo>", "<mi>&#x02026;</mi>").replace(
        "<mo>&#x0002F;</mo>", '<mo lspace="0" rspace="0">&#x0002F;</mo>'
    )
    return FUNCTION.sub(_function, mathml)


def _mathml(node: nodes.Element, display: bool) -> str:
    try:
        return to_mathml(node.astext(), display)
    except ValueError as error:
        logger.warning(
            "formula not understood: %s: %r", error, node.astext(), location=node, type="mathml"
        )
        return f"<code>{html.escape(node.astext())}</code>"


def visit_math(self, node: nodes.math) -> None:
    """A formula in a line of text."""
    self.body.append(
        self.starttag(node, "span", "", CLASS="math notranslate nohighlight")
        + _mathml(node, False)
        + "</span>"
    )
    raise nodes.SkipNode


def visit_math_block(self, node: nodes.math_block) -> None:
    """A formula of its own line, with its number if it has one."""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, _("Link to this equation"))
        self.body.append("</span>")
    self.body.append(_mathml(node, True) + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
