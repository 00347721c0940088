"""The study: its plan, a dry run of the very path at tiny size, its parcels and its pages."""

import dataclasses
import io
import shutil
import subprocess
import sys
import tarfile

import pytest
import torch
from forks import ROOT
from small import tiny_classes, tiny_recipe

from abc_lib.ground.errors import ArtefactError, BadValue, DataMissing
from abc_lib.ground.store import Store
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.method.recipe import Code
from abc_lib.results.jacobians import find_jacobians
from abc_lib.results.landscapes import find_landscapes
from abc_lib.results.retraining import find_retraining_landscapes
from abc_lib.results.unattributable import stored_unattributable
from abc_lib.study import plan as plan_module
from abc_lib.study import run as run_module
from abc_lib.study.pages import execute_pages, pages_of_the_book
from abc_lib.study.parcels import PARCEL, Parcels, unpack, write_archive
from abc_lib.study.plan import plan_study, seconds_per_evaluation, study_names
from abc_lib.study.run import estimate_study, run_study
from abc_lib.training.members import find_ensemble, get_ensemble


@pytest.fixture
def small(tiny, monkeypatch):
    """The registry's names stand for tiny recipes; each kind of piece has one."""
    recipes = {
        "digits_64": tiny,
        "digits_classes": tiny_classes(4),
        "digits_384": tiny_recipe(6),
        "digits_binary_190": tiny_recipe(6).replace(
            data={"num_sources": 6, "sources": "group", "binarise": True}, code=Code(6, 1)
        ),
    }
    recipes = {
        name: dataclasses.replace(recipe, name=name) if name != "digits_64" else recipe
        for name, recipe in recipes.items()
    }
    for where in ("abc_lib.study.plan.get_recipe", "abc_lib.unattributable.get_recipe"):
        monkeypatch.setattr(
            where, lambda name, scale="laptop": recipes.get(name) or get_recipe(name, scale)
        )
    monkeypatch.setattr("abc_lib.tasks.available_cores", lambda: 1)
    return recipes


def states(outcomes):
    return [outcome.state for outcome in outcomes]


def test_the_plan_follows_the_studys_order():
    names = study_names()
    assert set(names) <= set(recipe_names()) and names[:5] == [
        f"digits_{size}" for size in (64, 128, 256, 512, 1024)
    ]
    assert (
        names.index("mnist_8192")
        < names.index("fashion_256")
        < names.index("mnist_384")
        < names.index("cifar10_500")
    )
    pieces = plan_study()
    landscapes = [
        (piece.recipe.name, piece.samples) for piece in pieces if piece.what == "landscapes"
    ]
    # a few samples of every ensemble before more of any
    assert [k for _, k in landscapes] == sorted(k for _, k in landscapes)
    assert {k for _, k in landscapes} == {4, 20, 100} and len(landscapes) == 3 * len(
        {name for name, _ in landscapes}
    )
    first = {}
    for number, piece in enumerate(pieces):
        first.setdefault(piece.recipe.name, []).append(piece.what)
    assert all(
        kinds[0] == "members" and kinds.count("members") == 1 for kinds in first.values()
    ) and set(first) == set(names)
    assert (
        "class counts by ablation and retraining" in first["mnist_classes"]
        and "landscapes" not in first["mnist_classes"]
    )
    assert (
        "unattributable samples" in first["mnist_binary_190"]
        and "landscapes by retraining" in first["mnist_384"]
    )
    assert all(piece.evaluations > 0 for piece in pieces)


def test_costs_add_up_over_rounds():
    pieces = [piece for piece in plan_study(["digits_64"]) if piece.what == "landscapes"]
    recipe = get_recipe("digits_64")
    n, w = recipe.code.n, recipe.code.weight
    assert sum(piece.evaluations for piece in pieces) == 100 * 50 * (n + 64 * (n - w))
    assert [
        piece.samples for piece in plan_study(["digits_64"], 7) if piece.what == "landscapes"
    ] == [4, 7]


def test_a_dry_run_of_the_whole_path(small, trained, store, tmp_path):
    pieces = plan_study(list(small), 2)
    parcels, lines = Parcels(tmp_path / "out"), []
    outcomes = run_study(pieces, None, store, "cpu", parcels, lines.append)
    assert states(outcomes) == ["done"] * len(pieces), [str(o) for o in outcomes]
    assert len(lines) == len(pieces) and all("estimated" in line for line in lines)
    published = Store(store.cache / "nothing", store.published)
    ensemble = find_ensemble(small["digits_64"], published)
    assert ensemble.identity == trained.ensemble.identity
    assert (
        find_landscapes(ensemble, 0, published).indices.tolist()
        == [0, 1]
        == find_jacobians(ensemble, 0, published).indices.tolist()
    )
    assert len(find_retraining_landscapes(small["digits_384"], store=published)) == 22
    assert len(stored_unattributable(small["digits_binary_190"], store=published)) == 76
    # a second call has nothing to do
    assert states(run_study(pieces, None, store, "cpu", None, lines.append)) == ["at hand"] * len(
        pieces
    )
    # nor has one that finds results without the models that made them
    shutil.move(published.published / "ensemble", tmp_path / "ensemble")
    found = run_study(
        [piece for piece in pieces if piece.what != "members"],
        None,
        published,
        "cpu",
        None,
        lines.append,
    )
    assert states(found) == ["at hand"] * len(found) and not published.cache.exists()
    assert all(artefact.published for outcome in found for artefact in outcome.artefacts)
    shutil.move(tmp_path / "ensemble", published.published / "ensemble")
    # what came back is what was made
    there = Store(tmp_path / "elsewhere", tmp_path / "repository")
    made = unpack(parcels.files, there)
    made_here = {
        a.relative_to(store.published): a.read_bytes()
        for a in store.published.rglob("*")
        if a.is_file()
    }
    assert {
        a.relative_to(there.published): a.read_bytes()
        for a in there.published.rglob("*")
        if a.is_file()
    } == made_here
    assert len(made) == len({path.parent for path in made_here})
    assert unpack(parcels.files, there) and all(
        path.stat().st_size <= PARCEL for path in parcels.files
    )


def test_a_budget_leaves_out_what_does_not_fit_and_goes_on_with_what_does(
    small, store, monkeypatch
):
    pieces = plan_study(["digits_64"], 2)
    monkeypatch.setattr(run_module, "seconds_per_evaluation", lambda *_: 1.0)
    lines = []
    outcomes = run_study(pieces, 1e-9, store, "cpu", None, lines.append)
    assert (
        states(outcomes) == ["left out"] * len(pieces)
        and "minutes" in lines[0]
        and not store.published.exists()
    )
    # only the members are too dear
    monkeypatch.setattr(run_module, "seconds_per_evaluation", lambda *_: 1e-12)
    slow = [piece for piece in pieces]
    slow[0] = plan_module.Piece(
        slow[0].recipe, slow[0].what, 0, 1e30, slow[0].at_hand, slow[0].make
    )
    assert states(run_study(slow, 0.5, store, "cpu", None, lines.append)) == [
        "left out",
        "done",
        "done",
    ]


def test_an_estimate_computes_and_publishes_nothing(small, store):
    lines = []
    assert estimate_study(plan_study(["digits_64"], 2), store, "cpu", lines.append) > 0
    assert (
        not store.cache.exists()
        and not store.published.exists()
        and sum("minutes" in line for line in lines) == 3
    )
    # members that are only in the cache are at hand, and stay there
    get_ensemble(small["digits_64"], store, "cpu", progress=False)
    before, lines = sorted(store.cache.rglob("*")), []
    estimate_study(plan_study(["digits_64"], 2), store, "cpu", lines.append)
    assert (
        "members: at hand" in lines[0]
        and sorted(store.cache.rglob("*")) == before
        and not store.published.exists()
    )


def test_a_killed_study_goes_on(small, store):
    pieces = plan_study(["digits_64"], 2)

    def stop(*_):
        raise KeyboardInterrupt

    halted = [
        pieces[0],
        plan_module.Piece(pieces[1].recipe, "landscapes", 2, 1.0, lambda store: None, stop),
    ]
    with pytest.raises(KeyboardInterrupt):
        run_study(halted, None, store, "cpu", None, lambda line: None)
    assert states(run_study(pieces, None, store, "cpu", None, lambda line: None)) == [
        "at hand",
        "done",
        "done",
    ]


def test_what_cannot_be_done_here_is_passed_over(small, store, one_line, monkeypatch):
    def missing(*_):
        raise DataMissing("no images; put them there")

    monkeypatch.setattr(plan_module, "publish_ensemble", missing)
    monkeypatch.setattr(plan_module, "get_ensemble", missing)
    lines = []
    outcomes = run_study(plan_study(["digits_64"], 2), None, store, "cpu", None, lines.append)
    assert states(outcomes) == ["impossible"] * 3 and all(
        "no images; put them there" in line and "\n" not in line for line in lines
    )


def test_a_large_ensemble_stays_in_the_cache(small, store, monkeypatch):
    monkeypatch.setattr(plan_module, "SHIPPED", 10)
    (outcome,) = run_study(
        plan_study(["digits_64"], 2)[:1], None, store, "cpu", None, lambda line: None
    )
    assert outcome.state == "done" and outcome.artefacts == [] and not store.published.exists()
    assert find_ensemble(small["digits_64"], store) is not None


def test_the_measured_pace_is_a_time():
    pace = seconds_per_evaluation(tiny_recipe(), torch.device("cpu"), 8)
    assert 1e-9 < pace < 1


# --- parcels ---


@pytest.fixture
def artefacts(store):
    return [
        store.write(
            "landscape",
            "digits_64-laptop",
            {"number": k},
            {"data.safetensors": {"x": torch.rand(2000)}},
            {"seconds": 1},
        )
        for k in range(4)
    ]


def test_parcels_are_filled_one_after_another(artefacts, tmp_path):
    parcels = Parcels(tmp_path / "out", 32 * 1024)
    places = [parcels.add(artefact).name for artefact in artefacts]
    assert places == ["parcel-000.tar"] * 2 + ["parcel-001.tar"] * 2
    assert all(path.stat().st_size <= 32 * 1024 for path in parcels.files)
    before = [path.read_bytes() for path in parcels.files]
    assert (
        parcels.add(artefacts[0]).name == "parcel-000.tar"
        and [path.read_bytes() for path in parcels.files] == before
    )
    with pytest.raises(BadValue, match="more than the 0.0 MiB of a parcel"):
        Parcels(tmp_path / "small", 1024).add(artefacts[0])


def broken(kind, whole):
    """A parcel with something wrong, from a whole one."""
    contents = {}
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        for info in tar:
            contents[info.name] = tar.extractfile(info).read()
    name = next(name for name in contents if name.endswith("data.safetensors"))
    if kind == "cut short":
        return whole[:4000]
    if kind == "no tar":
        return b"x" * 2000
    if kind == "changed":
        contents[name] = contents[name][:-1] + b"!"
    if kind == "no manifest":
        contents = {name: contents[name]}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for each, data in contents.items():
            info = tarfile.TarInfo(
                {"climbs": "landscape/../" + each.split("/")[-1], "absolute": "/tmp/a/b"}.get(
                    kind, each
                )
            )
            info.size = len(data)
            if kind == "link":
                info.type, info.linkname, info.size, data = tarfile.SYMTYPE, "/etc/passwd", 0, b""
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind", ["cut short", "no tar", "changed", "no manifest", "climbs", "absolute", "link"]
)
def test_nothing_of_a_broken_parcel_is_unpacked(artefacts, tmp_path, kind, one_line):
    path = Parcels(tmp_path / "out").add(artefacts[0])
    bad = tmp_path / "bad.tar"
    bad.write_bytes(broken(kind, path.read_bytes()))
    there = Store(tmp_path / "elsewhere", tmp_path / "repository")
    with pytest.raises(ArtefactError, match="nothing of it was unpacked") as error:
        unpack([bad], there)
    assert one_line(error) and not (tmp_path / "repository").exists()


def test_an_archive_is_enough_to_run_the_study_elsewhere(tmp_path, one_line):
    path = write_archive(tmp_path / "there.tar.gz", ["digits"])
    assert path.stat().st_size < 8 * 2**20
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "machine", filter="data")
    place = tmp_path / "machine" / "abc"
    asked = subprocess.run(
        [
            sys.executable,
            "-m",
            "abc_lib",
            "publish",
            "digits_64",
            "--hours",
            "0",
            "--samples",
            "1",
            "--device",
            "cpu",
        ],
        cwd=place,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "ABC_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)},
    )
    assert asked.returncode == 0, asked.stderr[-2000:]
    assert asked.stdout.startswith("digits_64-laptop: members: left out (needs about ")
    assert not (tmp_path / "there.tar.gz.tmp").exists()
    with pytest.raises(BadValue, match="let fewer data sets travel") as error:
        write_archive(tmp_path / "large.tar.gz", limit=1000)
    assert one_line(error) and not list(tmp_path.glob("large*"))
    with pytest.raises(BadValue, match="do not travel"):
        write_archive(tmp_path / "large.tar.gz", ["stl10"])


def test_an_archive_takes_data_sets_along(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"labels")
    monkeypatch.setattr("abc_lib.study.parcels.data_roots", lambda: [tmp_path / "data"])
    wheel = tmp_path / "diffusers-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    with tarfile.open(write_archive(tmp_path / "there.tar.gz", ["mnist"], [wheel])) as tar:
        assert tar.extractfile("abc/data/raw/mnist/t10k-labels-idx1-ubyte.gz").read() == b"labels"
        assert tar.extractfile(f"abc/wheels/{wheel.name}").read() == b"wheel"
        names = tar.getnames()
    assert "abc/abc_lib/__init__.py" in names and not any(
        name.startswith("abc/data/published/landscape") for name in names
    )
    with pytest.raises(DataMissing, match="fashion/ into the folder that ABC_DATA names"):
        write_archive(tmp_path / "there.tar.gz", ["fashion"])


# --- pages ---


def test_pages_name_their_notebook_and_data_set():
    pages = pages_of_the_book()
    assert pages["03_radius_mnist_1024"] == ("03_radius", "mnist_1024") and pages[
        "02_divergence"
    ] == ("02_divergence", None)
    assert "explorer" not in pages and set(pages) == {
        path.stem for path in (ROOT / "book").glob("*.ipynb")
    }


def test_a_page_is_replaced_only_by_one_that_ran_through(tmp_path):
    import nbformat

    for folder in ("notebooks", "book"):
        (tmp_path / folder).mkdir()
    (tmp_path / "_toc.yml").write_text(
        "root: intro\nchapters:\n  - file: good\n  - file: good_digits_64\n  - file: bad\n  - file: words\n"
    )
    for name, source in (("good", "print(dataset)"), ("bad", "print(dataset); 1 / 0")):
        cells = [
            nbformat.v4.new_code_cell("dataset = 'none'", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(source),
        ]
        nbformat.write(
            nbformat.v4.new_notebook(
                cells=cells,
                metadata={
                    "kernelspec": {"name": "python3", "display_name": "", "language": "python"}
                },
            ),
            tmp_path / "notebooks" / f"{name}.ipynb",
        )
    (tmp_path / "book" / "bad.ipynb").write_text("as it was")
    said = []
    assert [
        path.name for path in execute_pages(["good", "good_digits_64"], tmp_path, said.append)
    ] == ["good.ipynb", "good_digits_64.ipynb"]
    shown = [
        nbformat.read(tmp_path / "book" / name, 4).cells[-1].outputs[0].text.strip()
        for name in ("good.ipynb", "good_digits_64.ipynb")
    ]
    assert shown == ["none", "digits_64"] and len(said) == 2
    assert str(tmp_path) not in (tmp_path / "book" / "good.ipynb").read_text()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        execute_pages(["bad"], tmp_path, said.append)
    assert (tmp_path / "book" / "bad.ipynb").read_text() == "as it was" and len(
        list((tmp_path / "book").iterdir())
    ) == 3
    with pytest.raises(BadValue, match="no executed page 'words'"):
        execute_pages(["words"], tmp_path)
