"""The study: its plan, a dry run of the very path at tiny size, and its pages."""

import dataclasses
import shutil

import pytest
import torch
from forks import ROOT
from small import tiny_classes, tiny_recipe

from abc_lib.ground.errors import AbcError, BadValue, DataMissing
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.method.recipe import Code
from abc_lib.results.jacobians import find as find_jacobians
from abc_lib.results.landscapes import find as find_landscapes
from abc_lib.results.retraining import stored as find_retraining_landscapes
from abc_lib.results.unattributable import stored as stored_unattributable
from abc_lib.study import plan as plan_module
from abc_lib.study import run as run_module
from abc_lib.study.pages import execute_pages, pages_of_the_book
from abc_lib.study.plan import plan_study, seconds_per_evaluation, study_names
from abc_lib.study.run import estimate_study, run_study
from abc_lib.training.ensembles import find_ensemble


@pytest.fixture
def small(tiny):
    """Tiny recipes by the registry's names; each kind of piece has one."""
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
    for piece in pieces:
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
    recipe = get_recipe("digits_64")
    pieces = [piece for piece in plan_study([recipe]) if piece.what == "landscapes"]
    n, w = recipe.code.n, recipe.code.weight
    assert sum(piece.evaluations for piece in pieces) == 100 * 50 * (n + 64 * (n - w))
    assert [piece.samples for piece in plan_study([recipe], 7) if piece.what == "landscapes"] == [
        4,
        7,
    ]


@pytest.mark.slow
def test_a_dry_run_of_the_whole_path(small, trained, here, tmp_path):
    pieces = plan_study(small.values(), 2)
    store, made, lines = here.store, [], []
    outcomes = run_study(pieces, None, lines.append, made.append, here)
    assert states(outcomes) == ["done"] * len(pieces), [str(o) for o in outcomes]
    assert len(lines) == len(pieces) and all("estimated" in line for line in lines)
    published = Here(Store(store.cache / "nothing", store.published), "cpu")
    ensemble = find_ensemble(small["digits_64"], published)
    assert ensemble.identity == trained.ensemble.identity
    assert find_landscapes(ensemble, here=published).indices.tolist() == [0, 1]
    assert find_jacobians(ensemble, here=published).indices.tolist() == [0, 1]
    assert len(find_retraining_landscapes(small["digits_384"], here=published)) == 22
    assert len(stored_unattributable(small["digits_binary_190"], here=published)) == 76
    # whoever asked was given what was published, each thing once
    folders = {path.parent for path in store.published.rglob("manifest.json")}
    assert len(made) == len(folders) and {artefact.path for artefact in made} == folders
    # a second call has nothing to do
    again = run_study(pieces, None, lines.append, made.append, here)
    assert states(again) == ["at hand"] * len(pieces) and len(made) == len(folders)
    # nor has one that finds results without the models that made them
    shutil.move(store.published / "ensemble", tmp_path / "ensemble")
    results = [piece for piece in pieces if piece.what != "members"]
    outcomes = run_study(results, None, lines.append, here=published)
    assert states(outcomes) == ["at hand"] * len(results) and not published.store.cache.exists()
    assert all(artefact.published for outcome in outcomes for artefact in outcome.artefacts)


def test_a_budget_leaves_out_what_does_not_fit_and_goes_on_with_what_does(
    small, trained, store, here, monkeypatch
):
    pieces = plan_study([small["digits_64"]], 2)
    monkeypatch.setattr(run_module, "seconds_per_evaluation", lambda *_: 1.0)
    lines = []
    outcomes = run_study(pieces, 1e-9, lines.append, here=here)
    assert (
        states(outcomes) == ["left out"] * len(pieces)
        and "minutes" in lines[0]
        and not store.published.exists()
    )
    # only the members are too dear; the results find some that were trained before
    shutil.copytree(trained.store.cache, store.cache)
    monkeypatch.setattr(run_module, "seconds_per_evaluation", lambda *_: 1e-12)
    slow = [piece for piece in pieces]
    slow[0] = plan_module.Piece(
        slow[0].recipe, slow[0].what, 0, 1e30, lambda here: None, slow[0].make
    )
    assert states(run_study(slow, 0.5, lines.append, here=here)) == ["left out", "done", "done"]


def test_an_estimate_computes_and_publishes_nothing(small, trained, store, here):
    lines = []
    assert estimate_study(plan_study([small["digits_64"]], 2), lines.append, here=here) > 0
    assert (
        not store.cache.exists()
        and not store.published.exists()
        and sum("minutes" in line for line in lines) == 3
    )
    # members that are only in the cache are at hand, and stay there
    shutil.copytree(trained.store.cache, store.cache)
    before, lines = sorted(store.cache.rglob("*")), []
    estimate_study(plan_study([small["digits_64"]], 2), lines.append, here=here)
    assert (
        "members: at hand" in lines[0]
        and sorted(store.cache.rglob("*")) == before
        and not store.published.exists()
    )


def test_a_killed_study_goes_on(small, trained, store, here):
    shutil.copytree(trained.store.cache, store.cache)
    pieces = plan_study([small["digits_64"]], 2)

    def stop(*_):
        raise KeyboardInterrupt

    halted = [
        pieces[0],
        plan_module.Piece(pieces[1].recipe, "landscapes", 2, 1.0, lambda here: None, stop),
    ]
    with pytest.raises(KeyboardInterrupt):
        run_study(halted, None, lambda line: None, here=here)
    assert states(run_study(pieces, None, lambda line: None, here=here)) == [
        "at hand",
        "done",
        "done",
    ]


def test_what_cannot_be_done_here_is_passed_over(small, store, here, one_line, monkeypatch):
    def missing(*_):
        raise DataMissing("no images; put them there")

    monkeypatch.setattr(plan_module, "publish_ensemble", missing)
    monkeypatch.setattr(plan_module, "get_ensemble", missing)
    lines = []
    outcomes = run_study(plan_study([small["digits_64"]], 2), None, lines.append, here=here)
    assert states(outcomes) == ["impossible"] * 3 and all(
        "no images; put them there" in line and "\n" not in line for line in lines
    )


def test_a_large_ensemble_stays_in_the_cache(small, store, here, monkeypatch):
    monkeypatch.setattr(plan_module, "SHIPPED", 10)
    (outcome,) = run_study(
        plan_study([small["digits_64"]], 2)[:1], None, lambda line: None, here=here
    )
    assert outcome.state == "done" and outcome.artefacts == [] and not store.published.exists()
    assert find_ensemble(small["digits_64"], here) is not None


def test_the_measured_pace_is_a_time():
    pace = seconds_per_evaluation(tiny_recipe(), torch.device("cpu"), 8)
    assert 1e-9 < pace < 1


# --- pages ---


def test_pages_name_their_notebook_and_data_set():
    pages = pages_of_the_book()
    assert pages["03_radius_mnist_1024"] == ("03_radius", "mnist_1024") and pages[
        "02_divergence"
    ] == ("02_divergence", None)
    assert "explorer" not in pages and set(pages) == {
        path.stem for path in (ROOT / "book").glob("[!.]*.ipynb")
    }


def test_a_page_is_replaced_only_by_one_that_ran_through(tmp_path, one_line):
    import nbformat

    for folder in ("notebooks", "book"):
        (tmp_path / folder).mkdir()
    (tmp_path / "_toc.yml").write_text(
        "root: intro\nchapters:\n"
        + "".join(f"  - file: {page}\n" for page in ("good", "good_digits_64", "bad", "words"))
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
    with pytest.raises(AbcError, match="bad did not run through .*ZeroDivisionError") as error:
        execute_pages(["bad"], tmp_path, said.append)
    assert one_line(error)
    assert (tmp_path / "book" / "bad.ipynb").read_text() == "as it was" and len(
        list((tmp_path / "book").iterdir())
    ) == 3
    with pytest.raises(BadValue, match="no executed page 'words'"):
        execute_pages(["words"], tmp_path)
