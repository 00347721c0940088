"""Links to built pages, such as ``03_radius.html``, in what a notebook's cells print.

MyST knows pages by their sources only.
"""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx


def link_pages(app: Sphinx, page: nodes.document) -> None:
    """Makes plain links of the references whose target is a page of the book with ``.html``."""
    for node in list(page.findall(pending_xref)):
        target = node["reftarget"]
        if (
            node["reftype"] == "myst"
            and target.endswith(".html")
            and target.removesuffix(".html") in app.env.found_docs
        ):
            node.replace_self(nodes.reference("", "", *node.children, refuri=target))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", link_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
