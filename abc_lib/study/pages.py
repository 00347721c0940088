"""Executes the notebooks into the book, each as its page's name says."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from abc_lib.ground.errors import BadValue
from abc_lib.ground.paths import ROOT


def pages_of_the_book(root: Path = ROOT) -> dict[str, tuple[str, str | None]]:
    """The book's executed pages in its order: page to (notebook, data set or None for the notebook's own)."""
    notebooks = sorted(
        (path.stem for path in (root / "notebooks").glob("*.ipynb")), key=len, reverse=True
    )
    found = {}
    for page in re.findall(r"file:\s*(\S+)", (root / "_toc.yml").read_text(encoding="utf-8")):
        stem = next(
            (name for name in notebooks if page == name or page.startswith(name + "_")), None
        )
        if stem is not None:
            found[page] = (stem, page[len(stem) + 1 :] or None)
    return found


def execute_pages(
    pages: Iterable[str] | None = None, root: Path = ROOT, say: Callable[[str], None] = print
) -> list[Path]:
    """Runs the notebooks of ``pages``, by default of all, with papermill, and puts each into the book when it has run through.

    A page that fails leaves the one that is there as it is; papermill's error says which cell.
    Raises :class:`BadValue` for a page that the book does not have.
    """
    import papermill

    known, made = pages_of_the_book(root), []
    for page in known if pages is None else pages:
        if page not in known:
            raise BadValue(
                f"the book has no executed page '{page}'; choose one of {', '.join(known)}"
            )
        stem, dataset = known[page]
        target = root / "book" / f"{page}.ipynb"
        temporary = target.with_name(f".{page}.tmp.ipynb")
        try:
            papermill.execute_notebook(
                str(root / "notebooks" / f"{stem}.ipynb"),
                str(temporary),
                {"dataset": dataset} if dataset else {},
                kernel_name="python3",
                progress_bar=False,
            )
            _name_the_book(temporary, stem, page)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        say(str(target))
        made.append(target)
    return made


def _name_the_book(path: Path, stem: str, page: str) -> None:
    """Papermill notes the paths that it was given; a page names files of the repository, not a machine's folders."""
    import nbformat

    notebook = nbformat.read(path, 4)
    notebook.metadata["papermill"] |= {
        "input_path": f"notebooks/{stem}.ipynb",
        "output_path": f"book/{page}.ipynb",
    }
    nbformat.write(notebook, path)
