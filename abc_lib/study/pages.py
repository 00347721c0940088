"""Executes the notebooks into the book, each as its page's name says."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from abc_lib.ground.errors import AbcError, BadValue
from abc_lib.ground.paths import ROOT


def pages_of_the_book(root: Path = ROOT) -> dict[str, tuple[str, str | None]]:
    """The book's executed pages in its order: page to (notebook, data set or None for its own)."""
    notebooks = sorted((path.stem for path in (root / "notebooks").glob("*.ipynb")), key=len)
    pages = {}
    for page in re.findall(r"file:\s*(\S+)", (root / "_toc.yml").read_text(encoding="utf-8")):
        for stem in reversed(notebooks):
            if page == stem or page.startswith(stem + "_"):
                pages[page] = (stem, page[len(stem) + 1 :] or None)
                break
    return pages


def execute_pages(
    pages: Iterable[str] | None = None, root: Path = ROOT, say: Callable[[str], None] = print
) -> list[Path]:
    """Runs the notebooks of ``pages``, by default of all, with papermill, into the book.

    A page is replaced when its notebook has run through; one that fails leaves the page that
    is there as it is. Raises :class:`BadValue` for a page that the book does not have, and
    :class:`AbcError` with what stopped a notebook.
    """
    known, made = pages_of_the_book(root), []
    for page in known if pages is None else pages:
        if page not in known:
            raise BadValue(
                f"the book has no executed page '{page}'; choose one of {', '.join(known)}"
            )
        target = root / "book" / f"{page}.ipynb"
        temporary = target.with_name(f".{page}.tmp.ipynb")
        try:
            _execute(page, *known[page], root, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        say(str(target))
        made.append(target)
    return made


def _execute(page: str, stem: str, dataset: str | None, root: Path, path: Path) -> None:
    import nbformat
    import papermill

    try:
        papermill.execute_notebook(
            str(root / "notebooks" / f"{stem}.ipynb"),
            str(path),
            {"dataset": dataset} if dataset else {},
            kernel_name="python3",
            progress_bar=False,
        )
    # Whatever a notebook raises, or the machinery that runs it.
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        if isinstance(error, papermill.PapermillExecutionError):
            why = f"cell {error.exec_count}: {error.ename}: {' '.join(error.evalue.split())}"
        raise AbcError(
            f"{page} did not run through ({why[:400]}); run notebooks/{stem}.ipynb in Jupyter to "
            "see more"
        ) from error
    notebook = nbformat.read(path, 4)
    # A page names files of the repository, not a machine's folders.
    notebook.metadata["papermill"] |= {
        "input_path": f"notebooks/{stem}.ipynb",
        "output_path": f"book/{page}.ipynb",
    }
    nbformat.write(notebook, path)
