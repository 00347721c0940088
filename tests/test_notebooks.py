"""Notebooks: pairs in step, no outputs in the sources, executed copies that belong to them, and a
real run.
"""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jupytext
import nbformat
import papermill
import pytest
from jupytext.compare import compare_notebooks

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXECUTED = sorted((ROOT / "book").glob("*.ipynb"))


def source_of(executed: Path) -> Path:
    """book/03_radius_mnist_1024.ipynb was made from notebooks/03_radius.ipynb: the longest name
    that fits.
    """
    fits = [
        n for n in NOTEBOOKS if executed.stem == n.stem or executed.stem.startswith(n.stem + "_")
    ]
    return max(fits, key=lambda n: len(n.stem))


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert {"02_divergence", "03_radius", "04_differential", "method"} <= {
        n.stem for n in NOTEBOOKS
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_pair_says_the_same(path):
    compare_notebooks(jupytext.read(path), jupytext.read(path.with_suffix(".py")), fmt="py:percent")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_first_code_cell_is_the_parameters_and_nothing_has_outputs(path):
    cells = code_cells(nbformat.read(path, 4))
    assert "parameters" in cells[0].metadata.get("tags", [])
    assert not any(cell.outputs for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS + EXECUTED, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_figure_has_words_for_those_who_cannot_see_it(path):
    cells = [c for c in code_cells(nbformat.read(path, 4)) if "plt.show()" in c.source]
    words = [c.metadata.get("mystnb", {}).get("image", {}).get("alt", "") for c in cells]
    assert all(len(each) > 20 and each.endswith(".") for each in words), [
        c.source[:60] for c, each in zip(cells, words) if len(each) <= 20
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_use_only_the_public_names(path):
    text = "\n".join(cell.source for cell in code_cells(nbformat.read(path, 4)))
    assert re.findall(r"^(?:import|from) abc_lib.*", text, re.M) == ["import abc_lib as abc"]
    import abc_lib

    used = set(re.findall(r"\babc\.(\w+)", text))
    assert used <= set(abc_lib.__all__)


@pytest.mark.parametrize("path", EXECUTED, ids=lambda p: p.stem)
def test_executed_copy_is_of_the_present_source_and_without_errors(path):
    executed, source = nbformat.read(path, 4), nbformat.read(source_of(path), 4)
    cells = [c for c in executed.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    assert [c.source for c in cells] == [c.source for c in source.cells]
    outputs = [o for c in code_cells(executed) for o in c.outputs]
    assert outputs and not any(o.output_type == "error" for o in outputs)
    assert any("image/png" in o.get("data", {}) for o in outputs)


@pytest.mark.parametrize("path", EXECUTED, ids=lambda p: p.stem)
def test_executed_copy_names_no_folder_of_the_machine_it_ran_on(path):
    text = path.read_text()
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Notebook 03 on the smallest digits set, executed by papermill as a user would."""
    # The kernel inherits the tests' own empty cache, see conftest.
    out = tmp_path_factory.mktemp("run") / "03_radius_small.ipynb"
    papermill.execute_notebook(
        str(ROOT / "notebooks/03_radius.ipynb"),
        str(out),
        {"dataset": "digits_64", "num_samples": 4},
        kernel_name="python3",
        progress_bar=False,
    )
    return out


def test_notebook_03_runs_small(small_run):
    outputs = [o for c in code_cells(nbformat.read(small_run, 4)) for o in c.outputs]
    text = "\n".join(o.data.get("text/markdown", "") for o in outputs if "data" in o)
    assert "**digits_64**" in text and "published with this repository" in text
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 7


@pytest.mark.slow
def test_notebook_03_gives_the_same_outputs_again(small_run, tmp_path):
    """nbval runs the executed notebook once more and compares what every cell shows."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--nbval",
            "--nbval-current-env",
            "-p",
            "no:cacheprovider",
            "-q",
            "-c",
            os.devnull,
            str(small_run),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\b\d+ passed", done.stdout) and "failed" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "stem, parameters, says",
    [
        (
            "00_viability",
            {"count": 64, "shown": 4, "compared": 16},
            ["best first: ", "nearer than 95% of unseen images", "mean squared error"],
        ),
        (
            "02_divergence",
            {"num_samples": 4, "rate_samples": 4},
            ["the mean rank goes from", "naming a source"],
        ),
        ("04_differential", {"num_samples": 4}, ["the rank correlation is", "pays"]),
        (
            "05_unattributable",
            {"num_samples": 4},
            ["equal all 190 of their counterfactuals", "from k = 1 to k = "],
        ),
        ("gallery", {"num_samples": 4}, ["and its 64 counterfactuals"]),
    ],
)
def test_other_notebooks_run_small(stem, parameters, says, tmp_path):
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(
        str(ROOT / f"notebooks/{stem}.ipynb"),
        str(out),
        {"dataset": "digits_64", **parameters},
        kernel_name="python3",
        progress_bar=False,
    )
    outputs = [o for c in code_cells(nbformat.read(out, 4)) for o in c.outputs]
    text = "\n".join(o.data.get("text/markdown", "") for o in outputs if "data" in o)
    assert all(each in text for each in ["**digits_64**", *says])
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 3


@pytest.mark.slow
def test_what_members_remember_is_read_or_measured_now(tmp_path):
    """The page from what is published, and with an ensemble that is trained as it runs."""
    for exposure in (500, 10):
        papermill.execute_notebook(
            str(ROOT / "notebooks/memory.ipynb"),
            str(tmp_path / "out.ipynb"),
            {"dataset": "digits_64", "exposure": exposure},
            kernel_name="python3",
            progress_bar=False,
        )
        cells = code_cells(nbformat.read(tmp_path / "out.ipynb", 4))
        outputs = [o for c in cells for o in c.outputs if "data" in o]
        text = "\n".join(o.data.get("text/markdown", "") for o in outputs)
        assert "with networks that remember" in text and "by two standard errors" in text
        assert sum("image/png" in o.data for o in outputs) >= 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "stem, says, pictures", [("law", "seed matters", 5), ("networks", "twice as deep", 3)]
)
def test_pages_on_memory_are_told_from_what_is_published(stem, says, pictures, tmp_path):
    papermill.execute_notebook(
        str(ROOT / f"notebooks/{stem}.ipynb"),
        str(tmp_path / "out.ipynb"),
        {"families": ["digits_64", "mnist_256"]},
        kernel_name="python3",
        progress_bar=False,
    )
    cells = code_cells(nbformat.read(tmp_path / "out.ipynb", 4))
    outputs = [o for c in cells for o in c.outputs if "data" in o]
    text = "\n".join(o.data.get("text/markdown", "") for o in outputs)
    assert "with networks that remember" in text and says in text
    assert sum("image/png" in o.data for o in outputs) == pictures


@pytest.mark.slow
def test_signal_and_chance_are_told_from_what_is_published(tmp_path):
    papermill.execute_notebook(
        str(ROOT / "notebooks/06_signal.ipynb"),
        str(tmp_path / "out.ipynb"),
        {"dataset": "digits_64", "sample": 3},
        kernel_name="python3",
        progress_bar=False,
    )
    cells = code_cells(nbformat.read(tmp_path / "out.ipynb", 4))
    outputs = [o for c in cells for o in c.outputs if "data" in o]
    text = "\n".join(o.data.get("text/markdown", "") for o in outputs)
    assert "published with this repository" in text and "about which sources matter" in text
    assert sum("image/png" in o.data for o in outputs) == 7


@pytest.mark.slow
def test_the_cost_page_follows_its_assumptions(tmp_path):
    said = {}
    for rate in (20.0, 40.0):
        papermill.execute_notebook(
            str(ROOT / "notebooks/cost.ipynb"),
            str(tmp_path / "out.ipynb"),
            {"gpu_teraflops": rate, "samples": 3},
            kernel_name="python3",
            progress_bar=False,
        )
        outputs = [
            o
            for c in code_cells(nbformat.read(tmp_path / "out.ipynb", 4))
            for o in c.outputs
            if "data" in o
        ]
        text = "\n".join(o.data.get("text/markdown", "") for o in outputs)
        assert (
            "Laptop scale, 3 landscapes each" in text
            and sum("image/png" in o.data for o in outputs) == 1
        )
        said[rate] = float(
            re.search(r"one member of artbench: [\d,]+ PFLOP, ([\d.]+)\s(?:h|days)", text)[1]
        )
    assert said[20.0] == pytest.approx(2 * said[40.0], rel=0.05)


def test_a_users_slip_is_one_line_in_a_notebook(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError) as error:
        papermill.execute_notebook(
            str(ROOT / "notebooks/03_radius.ipynb"),
            str(tmp_path / "out.ipynb"),
            {"dataset": "digits_65"},
            kernel_name="python3",
            progress_bar=False,
        )
    assert error.value.ename == "UnknownName"
    assert error.value.traceback == [
        "UnknownName: unknown ensemble 'digits_65'; did you mean 'digits_64'?"
    ]


class Links(HTMLParser):
    """The addresses that a page links to or shows, the anchors that it has, and its pictures
    without words.
    """

    def __init__(self, page):
        super().__init__()
        self.targets, self.anchors, self.wordless = set(), set(), []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.targets |= {found[key] for key in ("href", "src") if found.get(key)}
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "img" and not found.get("alt"):
            self.wordless.append(found.get("src"))


def broken_links(folder):
    """Links of all pages in a folder to files or anchors that are not there; other sites are not
    asked.
    """
    # the theme leaves templates among its files
    pages = {
        page: Links(page)
        for page in folder.rglob("*.html")
        if not page.name.endswith("macros.html")
    }
    for page, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or target == "#":
                continue
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if (
                not file.exists()
                or parts.fragment
                and file in pages
                and unquote(parts.fragment) not in pages[file].anchors
            ):
                yield f"{page.name} -> {target}"


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here"></a> <a href="#top"></a> <a href="https://there.example/x"></a> '
        '<img src="c.png">'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="a.html"></a>')
    assert sorted(broken_links(tmp_path)) == [
        "a.html -> #top",
        "a.html -> b.html#here",
        "a.html -> c.png",
    ]


def test_the_book_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("jupyter-book")),
            "build",
            str(ROOT / "book"),
            "-W",
            "-n",
            "--keep-going",
            "--path-output",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name, figures in (("02_divergence", 3), ("03_radius", 5), ("04_differential", 8)):
        assert (tmp_path / f"_build/html/{name}.html").read_text().count("<img") >= figures
    html = tmp_path / "_build/html"
    assert sorted(broken_links(html)) == []
    pages = [path.stem for path in (ROOT / "book").glob("*.ipynb")] + [
        "intro",
        "explorer",
        "run_your_own",
        "references",
    ]
    assert {name: Links(html / f"{name}.html").wordless for name in pages} == {
        name: [] for name in pages
    }
    # without the lab, which brings members and, where it was fetched, its runtime
    weighed = [p for p in html.rglob("*") if p.is_file() and html / "lab" not in p.parents]
    assert sum(path.stat().st_size for path in weighed) < 30 * 2**20
