"""``python -m abc_lib``: lists, publishes, and answers a slip with one line."""

import os
import shutil
import subprocess
import sys

import pytest
from forks import ROOT
from small import tiny_classes, tiny_recipe

from abc_lib.ground.paths import PUBLISHED
from abc_lib.ground.store import Store
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.method.recipe import Code
from abc_lib.results.class_counts import find_class_counts
from abc_lib.results.fids import stored_fids
from abc_lib.results.jacobians import find_jacobians
from abc_lib.results.landscapes import find_landscapes
from abc_lib.results.removals import stored_removals
from abc_lib.results.retraining import find_retraining_landscapes
from abc_lib.results.run import stored_landscapes
from abc_lib.results.unattributable import stored_unattributable
from abc_lib.study import command as command
from abc_lib.training.members import find_ensemble, single_model


def call(*words):
    return subprocess.run(
        [sys.executable, "-m", "abc_lib", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def here(store, tiny, monkeypatch):
    """The command line with a store of the test's, where digits_64 and digits_classes are tiny recipes."""
    small = {"digits_64": tiny, "digits_classes": tiny_classes(4)}
    monkeypatch.setattr(command, "Store", lambda: store)
    monkeypatch.setattr(
        command,
        "get_recipe",
        lambda name, scale="laptop": small.get(name) or get_recipe(name, scale),
    )
    return store


def test_list_names_every_ensemble_in_a_line_each():
    asked = call("list")
    assert (asked.returncode, asked.stderr) == (0, "")
    lines = asked.stdout.splitlines()
    assert [line.split()[0] for line in lines] == recipe_names() and len(lines) == 8 + 23 + 7
    assert "digits_64 " in lines[0] and " yes " in lines[0]
    assert all(line.split()[1] in ("yes", "no") for line in lines)


def test_an_unknown_name_ends_with_status_2_and_one_line(here, argv, capsys):
    argv("publish", "mnist_1000")
    assert command.main() == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (
        "",
        "error: unknown ensemble 'mnist_1000'; did you mean 'mnist_1024'?\n",
    )


@pytest.mark.slow
def test_the_exit_status_reaches_the_shell():
    asked = call("publish", "mnist_1000")
    assert (asked.returncode, asked.stdout, asked.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    "words, hint",
    [
        (("publish", "digits"), "unknown ensemble"),
        (("publish", "celeba_ba_512"), "CelebA is not at hand"),
        (("publish", "digits_64", "--device", "abacus"), "unknown device"),
    ],
)
def test_other_slips_end_the_same_way(here, argv, capsys, words, hint):
    argv(*words)
    assert command.main() == 2
    shown = capsys.readouterr()
    assert (
        shown.out == ""
        and shown.err.count("\n") == 1
        and shown.err.startswith("error: ")
        and hint in shown.err
    )
    assert not here.cache.exists()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("lst",),
        ("publish", "--hours", "many"),
        ("--scale", "huge", "list"),
        ("publish", "digits_64", "--samples", "many"),
    ],
)
def test_a_wrong_command_shows_how_to_call_it(here, argv, capsys, words):
    argv(*words)
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 2 and "usage: python -m abc_lib" in capsys.readouterr().err
    assert not here.cache.exists()


def test_a_full_disk_ends_with_one_line(here, argv, capsys, monkeypatch):
    argv("publish", "digits_64")

    def fsync(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    # In this process, where the full disk is.
    monkeypatch.setattr("abc_lib.tasks.available_cores", lambda: 1)
    assert command.main() == 2
    shown = capsys.readouterr().err
    # The progress bar writes there too.
    assert (
        shown.splitlines()[-1].startswith("error: ")
        and "disk is full" in shown
        and "Traceback" not in shown
    )


def test_publish_puts_an_ensemble_and_its_landscapes_into_the_repository(
    here, trained, argv, capsys, monkeypatch
):
    shutil.copytree(trained.store.cache, here.cache)
    argv("publish", "digits_64", "--samples", "2", "--seed", "3")
    assert command.main() == 0
    assert capsys.readouterr().out.count("digits_64-laptop: ") == 2
    only_published = Store(here.cache / "nothing", here.published)
    ensemble = find_ensemble(trained.recipe, only_published)
    assert ensemble.identity == trained.ensemble.identity
    ensemble.artefact.verify()
    landscapes = find_landscapes(ensemble, 3, only_published)
    assert landscapes.indices.tolist() == [0, 1]
    landscapes.artefacts[0].verify()
    before = {p: p.read_bytes() for p in here.published.rglob("*") if p.is_file()}
    assert command.main() == 0
    assert before == {p: p.read_bytes() for p in here.published.rglob("*") if p.is_file()}


def test_publish_puts_jacobians_and_comparisons_into_the_repository(here, trained, argv, capsys):
    shutil.copytree(trained.store.cache, here.cache)
    argv(
        "publish",
        "digits_64",
        "--samples",
        "0",
        "--jacobians",
        "3",
        "--compare",
        "2",
        "--hybrids",
        "1",
        "--device",
        "cpu",
    )
    assert command.main() == 0
    only_published = Store(here.cache / "nothing", here.published)
    jacobians = find_jacobians(trained.ensemble, store=only_published)
    assert jacobians.indices.tolist() == [0, 1, 2] and jacobians.artefacts[0].published
    made = only_published.find_all("comparison", trained.recipe.label)
    assert sorted((a.spec["indices"], a.spec["switches"]) for a in made) == [
        ([0], [1, 2, 3, 4, 5, 6]),
        ([1], []),
    ]
    assert not (here.published / "landscape").exists()


def test_publish_goes_on_from_what_is_published(here, trained, argv, capsys):
    shutil.copytree(trained.store.cache, here.cache)
    for samples in ("2", "5", "3"):
        argv("publish", "digits_64", "--samples", samples, "--device", "cpu")
        assert command.main() == 0
    made = Store(here.cache / "nothing", here.published).find_all("landscape", trained.recipe.label)
    assert sorted(a.spec["indices"] for a in made) == [[0, 1], [2, 3, 4]]


def test_publish_retrains_and_leaves_the_models_in_the_cache(
    here, trained, argv, capsys, monkeypatch
):
    monkeypatch.setattr("abc_lib.tasks.available_cores", lambda: 1)
    shutil.copytree(trained.store.cache, here.cache)
    argv(
        "publish",
        "digits_64",
        "--samples",
        "2",
        "--retraining",
        "3",
        "--left-out",
        "2",
        "--again",
        "1",
        "--device",
        "cpu",
    )
    assert command.main() == 0
    only_published = Store(here.cache / "nothing", here.published)
    for seed in (None, 1):
        found = find_retraining_landscapes(trained.recipe, seed, store=only_published)
        assert found.indices.tolist() == [0, 1, 2] and found.sources.tolist() == [0, 1]
    assert (
        not (here.published / "retrained").exists()
        and len(list((here.published / "ensemble").iterdir())) == 1
    )
    for recipe in (
        trained.recipe,
        *(trained.recipe.replace(training={"seed": 1}, code={"seed": seed}) for seed in (0, 1)),
    ):
        assert stored_landscapes(recipe, store=only_published).indices.tolist() == [0, 1]


def test_publish_measures_quality_and_removes_several_sources(
    here, trained, argv, capsys, monkeypatch
):
    monkeypatch.setattr("abc_lib.tasks.available_cores", lambda: 1)
    shutil.copytree(trained.store.cache, here.cache)
    shutil.copytree(PUBLISHED / "classifier", here.published / "classifier")
    argv(
        "publish",
        "digits_64",
        "--samples",
        "0",
        "--fids",
        "8",
        "--removed",
        "2",
        "--sets",
        "2",
        "--without-members",
        "--device",
        "cpu",
    )
    assert command.main() == 0
    only_published = Store(here.cache / "nothing", here.published)
    fids = stored_fids("digits_64", store=only_published)
    assert sorted((each.which, each.removed, each.fid.count) for each in fids) == [
        ("ensemble", 0, 8),
        ("ensemble", 2, 8),
        ("member", 0, 8),
        ("single", 0, 8),
    ]
    assert single_model(trained.recipe, only_published, "cpu").artefact.published
    assert set(stored_removals(trained.recipe, store=only_published).sizes) >= {1, 2}
    assert not (here.published / "ensemble").exists()


def test_publish_looks_for_unattributable_samples(here, argv, capsys, monkeypatch):
    monkeypatch.setattr("abc_lib.tasks.available_cores", lambda: 1)
    recipe = tiny_recipe(6).replace(
        data={"num_sources": 6, "sources": "group", "binarise": True}, code=Code(6, 1)
    )
    monkeypatch.setattr(command, "get_recipe", lambda name, scale="laptop": recipe)
    argv(
        "publish",
        "digits_64",
        "--samples",
        "0",
        "--unattributable",
        "5",
        "--without-members",
        "--device",
        "cpu",
    )
    assert command.main() == 0
    assert (
        len(stored_unattributable(recipe, store=Store(here.cache / "nothing", here.published))) == 5
    )


def test_publish_counts_classes(here, argv, capsys, monkeypatch):
    monkeypatch.setattr("abc_lib.tasks.available_cores", lambda: 1)
    shutil.copytree(PUBLISHED / "classifier", here.published / "classifier")
    argv("publish", "digits_classes", "--samples", "0", "--classes", "5", "--device", "cpu")
    assert command.main() == 0
    for method in ("ablation", "retraining"):
        found = find_class_counts(
            tiny_classes(4), method, store=Store(here.cache / "nothing", here.published)
        )
        assert found.samples == 5 and found.counts.shape == (11, 10)


def test_publish_trains_what_is_not_there(here, trained, argv, capsys, monkeypatch):
    monkeypatch.setattr("abc_lib.tasks.available_cores", lambda: 1)
    argv("publish", "digits_64", "--samples", "0", "--device", "cpu")
    assert command.main() == 0
    found = find_ensemble(trained.recipe, Store(here.cache / "nothing", here.published))
    assert found.identity == trained.ensemble.identity
    assert not (here.published / "landscape").exists()


def test_an_interrupted_command_shows_no_traceback(here, argv, capsys, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "all_statuses", interrupted)
    argv("list")
    try:
        code = command.main()
    except KeyboardInterrupt:
        pytest.fail("Ctrl-C ends with a traceback")
    assert code == 130 and capsys.readouterr().err.count("\n") <= 1
