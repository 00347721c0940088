"""The house: ten rooms in one order, a thin method, lines that fit, notebooks that show their
code.
"""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import abc_lib

ROOT = Path(__file__).resolve().parent.parent
LIB = ROOT / "abc_lib"
ROOMS = "ground method metrics images training results figures exchange yardstick study".split()
SOURCES = sorted(
    path
    for folder in ("abc_lib", "tests", "benchmarks", "tools", "notebooks", "book/_ext")
    for path in (ROOT / folder).rglob("*.py")
)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEACHING = [path for path in NOTEBOOKS if re.match(r"0\d_|method", path.stem)]
HIDING = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


def test_there_are_ten_rooms_and_a_door():
    assert sorted(p.name for p in LIB.iterdir() if p.is_dir() and p.name[0] != "_") == sorted(ROOMS)
    assert sorted(p.name for p in LIB.glob("*.py")) == ["__init__.py", "__main__.py"]


@pytest.mark.parametrize("folder", sorted({p.parent for p in LIB.rglob("*.py")} - {LIB}))
def test_a_room_is_at_most_a_dozen_entries_wide(folder):
    entries = [p for p in folder.iterdir() if p.name != "__init__.py" and p.name[:2] != "__"]
    assert 0 < len(entries) <= 12, [p.name for p in entries]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for(room):
    words = ast.get_docstring(ast.parse((LIB / room / "__init__.py").read_text()))
    assert len(re.findall(r"[.:;](?:\s|$)", words)) >= 3


def test_imports_go_one_way():
    """What :mod:`importlinter` says of ``.importlinter``, imports inside functions included."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    settings = configparser.ConfigParser()
    settings.read(ROOT / ".importlinter")
    layers = settings["importlinter:contract:rooms"]["layers"]
    assert sorted(re.findall(r"abc_lib\.(\w+)", layers)) == sorted(ROOMS)


def imports(path: Path) -> list[tuple[str, str]]:
    """Module and name of everything that a file of the library imports from the library."""
    return [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("abc_lib")
        for alias in node.names
    ]


def test_no_room_takes_a_private_name_of_another():
    taken = [
        f"{path.relative_to(ROOT)}: {module}.{name}"
        for path in LIB.rglob("*.py")
        for module, name in imports(path)
        if name.startswith("_") and module.split(".")[1:2] != [path.relative_to(LIB).parts[0]]
    ]
    assert taken == []


def test_files_import_each_other_in_no_circle():
    known = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in LIB.rglob("*.py")}
    known = {name.removesuffix(".__init__"): path for name, path in known.items()}
    below = {
        name: {
            target
            for module, member in imports(path)
            for target in (f"{module}.{member}", module)
            if target in known and target != name
        }
        for name, path in known.items()
    }
    # Again and again those go that need none of the rest; what is left then is a circle.
    while gone := {name for name, needs in below.items() if not needs & set(below)}:
        below = {name: needs for name, needs in below.items() if name not in gone}
    assert sorted(below) == []


def test_the_method_is_read_in_an_afternoon():
    lines = {p.name: len(p.read_text().splitlines()) for p in (LIB / "method").glob("*.py")}
    assert sum(lines.values()) < 2000, lines


def test_few_names_are_flat_and_all_of_them_lead_somewhere():
    flat = [name for name in abc_lib.__all__ if not hasattr(getattr(abc_lib, name), "__path__")]
    flat = [name for name in flat if type(getattr(abc_lib, name)).__name__ != "module"]
    assert 20 <= len(flat) < 40
    assert sorted(set(abc_lib.__all__)) == sorted(abc_lib.__all__) == dir(abc_lib)
    with pytest.raises(AttributeError, match="no attribute 'landscape'"):
        _ = abc_lib.landscape


def test_importing_the_library_loads_nothing_heavy():
    code = "import sys, abc_lib; print(sorted({n.split('.')[0] for n in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    heavy = {"torch", "diffusers", "pandas", "scipy", "sklearn", "matplotlib", "IPython"}
    assert not heavy & set(ast.literal_eval(run.stdout))


def test_the_method_loads_torch_and_numpy_and_little_else():
    code = (
        "import sys, abc_lib.method.ensemble, abc_lib.method.landscape, abc_lib.method.radius; "
        "print(sorted({n.split('.')[0] for n in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    heavy = {"diffusers", "pandas", "sklearn", "matplotlib", "IPython", "torchvision"}
    assert not heavy & set(ast.literal_eval(run.stdout))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_line_is_over_a_hundred_columns(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    # The first line of a notebook's cell carries its metadata, a figure's words among them.
    long = [k for k, line in enumerate(lines, 1) if len(line) > 100 and line[:4] != "# %%"]
    assert long == []


def test_ruff_finds_nothing():
    ruff = str(Path(sys.executable).with_name("ruff"))
    places = ["abc_lib", "tests", "benchmarks", "tools", "notebooks", "book/_ext"]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *command, *places], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("path", sorted((LIB / "method").glob("*.py")), ids=lambda p: p.stem)
def test_the_method_writes_its_types_down(path):
    """Whether they fit is mypy's to say, below."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            bare = [each.arg for each in named if each and each.annotation is None]
            assert set(bare) <= {"self", "cls"}, f"{node.name}: {bare}"
            assert node.returns or node.name == "__init__", f"{node.name} returns what?"


@pytest.mark.slow
def test_the_types_of_the_method_fit():
    mypy = [sys.executable, "-m", "mypy", "abc_lib/method"]
    done = subprocess.run(mypy, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


# --- notebooks that show their code ---


def code_cells(path: Path) -> list:
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def visible(cell) -> bool:
    return not HIDING & set(cell.metadata.get("tags", []))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_visible_cell_could_have_been_typed(path):
    long = [c.source for c in code_cells(path) if visible(c) and len(c.source.splitlines()) > 12]
    assert long == []
    wide = [line for c in code_cells(path) for line in c.source.splitlines() if len(line) > 100]
    assert wide == []


def test_at_least_half_of_the_code_of_the_chapters_shows():
    assert len(TEACHING) >= 8
    cells = [cell for path in TEACHING for cell in code_cells(path)]
    assert 2 * sum(map(visible, cells)) >= len(cells)


def test_the_chapters_show_the_method_at_work():
    shown = "\n".join(c.source for path in TEACHING for c in code_cells(path) if visible(c))
    for call in (
        ".ablation(",
        ".sample(",
        ".draw_noise(",
        ".differentiate(",
        ".predict(",
        "fit_law(",
    ):
        assert call in shown, call


@pytest.mark.parametrize("path", TEACHING, ids=lambda p: p.stem)
def test_a_chapter_has_exercises_with_hidden_solutions(path):
    cells = nbformat.read(path, 4).cells
    assert any("## Exercises" in cell.source for cell in cells if cell.cell_type == "markdown")
    assert any("hide-cell" in cell.metadata.get("tags", []) for cell in cells)
