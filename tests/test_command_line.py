"""``python -m abc_lib``: lists, publishes, and answers a slip with one line."""

import dataclasses
import os
import shutil
import subprocess
import sys

import pytest
from forks import ROOT
from small import tiny_classes, tiny_recipe

from abc_lib.ground.here import Here
from abc_lib.ground.paths import PUBLISHED
from abc_lib.ground.store import Store
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.method.recipe import Code
from abc_lib.results import (
    class_counts,
    fids,
    jacobians,
    landscapes,
    removals,
    retraining,
    unattributable,
)
from abc_lib.study import command
from abc_lib.training.ensembles import find_ensemble, single_model


def call(*words):
    return subprocess.run(
        [sys.executable, "-m", "abc_lib", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def place(here, tiny, monkeypatch):
    """The commands with a store of the test's; digits_64 and digits_classes are tiny recipes."""
    small = {"digits_64": tiny, "digits_classes": tiny_classes(4)}
    monkeypatch.setattr(
        command, "get_recipe", lambda name, scale: small.get(name) or get_recipe(name, scale)
    )
    monkeypatch.setattr(command, "Here", lambda **given: dataclasses.replace(here, **given))
    return here.store


@pytest.fixture
def published(place):
    """Only what was put into the repository."""
    return Here(Store(place.cache / "nothing", place.published), "cpu")


@pytest.fixture
def run(place, argv):
    """Calls a command, given as a line, and returns its status."""

    def run(line):
        argv(*line.split())
        return command.main()

    return run


# --- what goes wrong ---


@pytest.mark.parametrize(
    "line, hint",
    [
        ("publish mnist_1000", "unknown ensemble 'mnist_1000'; did you mean 'mnist_1024'?\n"),
        ("publish digits", "unknown ensemble"),
        ("publish digits_64 /dev/null --plan", "unknown ensemble '/dev/null'"),
        ("publish celeba_ba_512", "CelebA is not at hand"),
        ("publish digits_64 --device abacus", "unknown device"),
        ("remember digits_64 --exposures 0", "an image is seen more than 0 times"),
        ("remember digits_64 --trainings 0", "--trainings is 0"),
        ("signal digits_64 --codes 1", "--codes is 1"),
        ("signal digits_64 --exposure 0", "--exposure is 0"),
        ("publish digits_64 --device /dev/null", "unknown device"),
        ("publish digits_64 --samples -1", "--samples is -1"),
        ("publish digits_64 --samples 1000000000000", "--samples is 1000000000000"),
        ("publish digits_64 --seed 9223372036854775808", "--seed is 9223372036854775808"),
        ("publish digits_64 --jacobians -2", "--jacobians is -2"),
        ("publish digits_64 --compare -2", "--compare is -2"),
        ("publish digits_64 --hybrids -2", "--hybrids is -2"),
        ("publish digits_64 --retraining -2", "--retraining is -2"),
        ("publish digits_64 --retraining 1 --left-out 0", "--left-out is 0"),
        ("publish digits_64 --retraining 1 --left-out -1", "--left-out is -1"),
        ("publish digits_64 --classes -2", "--classes is -2"),
        ("publish digits_64 --fids -2", "--fids is -2"),
        ("publish digits_64 --fids 8 --removed 0", "--removed is 0"),
        ("publish digits_64 --unattributable -2", "--unattributable is -2"),
        ("publish digits_64 --sets -2", "--sets is -2"),
        ("publish digits_64 --hours -1", "--hours is -1"),
        ("publish digits_64 --hours nan", "--hours is nan"),
        ("publish digits_64 --hours 0 --samples 0", "samples is 0"),
        ("publish digits_64 --plan --samples 0", "samples is 0"),
        ("publish digits_64 --classes 5", "--classes is for data sources that are classes"),
        ("publish digits_64 --unattributable 5", "for samples that are black and white"),
        ("publish digits_64 --retraining 1 --left-out 13", "digits_64 has 12 sources"),
        ("publish digits_64 --fids 8 --removed 6", "some of the 6 members"),
        ("publish digits_64 digits_65", "unknown ensemble 'digits_65'"),
        ("pages no_such_page", "no executed page 'no_such_page'"),
        ("pages /dev/null", "no executed page '/dev/null'"),
        ("pages book", "no executed page 'book'"),
        ("certify digits_65 --sample 0", "unknown ensemble"),
        ("certify folder --sample 0", "unknown ensemble"),
        ("certify digits_64 --sample -1", "--sample is -1"),
        ("certify digits_64 --sample 2147483648", "--sample is 2147483648"),
        ("certify digits_64 --sample 0", "neither published nor trained"),
        ("certify digits_64 --sample 0 -o folder", "folder is no plain file"),
        ("certify digits_64 --sample 0 -o .", ". is no plain file"),
        ("certify digits_64 --sample 0 -o /dev/null", "/dev/null is no plain file"),
        ("certify digits_64 --sample 0 --device cuda:99", "cuda:99"),
        ("verify absent.json", "cannot be read"),
        ("verify folder", "not a plain file"),
        ("verify /dev/null", "not a plain file"),
        ("verify text", "no sound JSON"),
        ("verify empty", "no sound JSON"),
        ("verify text/json", "cannot be read"),
        ("verify ours.json --sources 0", "0 sources cannot be drawn"),
        ("verify ours.json --sources -3", "-3 sources cannot be drawn"),
        ("verify ours.json --tolerance -1", "tolerance"),
        ("verify ours.json --tolerance nan", "tolerance"),
        ("verify ours.json --seed -9223372036854775809", "--seed is -9223372036854775809"),
        ("verify ours.json --device abacus", "unknown device"),
        ("explorer digits_65", "unknown ensemble"),
        ("explorer digits_64 digits_64 -o new", "name each once"),
        ("explorer digits_classes -o new", "not single images"),
        ("explorer digits_64 --samples 0", "--samples is 0"),
        ("explorer digits_64 --samples -1", "--samples is -1"),
        ("explorer digits_64 -o text", "text is a file"),
        ("explorer digits_64 -o /dev/null", "/dev/null is a file"),
        ("explorer digits_64 -o full", "something other than an explorer"),
        ("explorer digits_64 -o new", "neither published nor trained"),
        (f"explorer digits_64 -o {'x' * 300}", "x: "),
        ("explorer digits_64 --device abacus", "unknown device"),
        ("verify /dev/zero", "not a plain file"),
        ("verify /proc", "not a plain file"),
        ("verify /proc/kmsg", "no sound JSON"),
        ("verify /proc/self/mem", "no sound JSON"),
        ("verify /proc/self/environ", "no sound JSON"),
        ("verify pipe", "not a plain file"),
        ("verify endless", "more than the"),
        ("verify .", "not a plain file"),
        ("verify ours.json --tolerance inf", "tolerance"),
        ("verify ours.json --tolerance=-inf", "tolerance"),
        ("verify ours.json --sources 65", "65 sources cannot be drawn"),
        ("verify ours.json --cluster host", "a cluster is tcp"),
        ("certify digits_64 --sample 0 -o /proc/abc.json", "neither published nor trained"),
        ("certify digits_64 --sample 0 -o pipe", "pipe is no plain file"),
        ("certify digits_64 --sample 0 --cluster http://host", "a cluster is tcp"),
        ("explorer digits_64 -o /proc/self/mem", "/proc/self/mem is a file"),
        ("explorer digits_64 -o pipe", "pipe is a file"),
        ("explorer digits_64 --samples 10000000", "--samples is 10000000"),
        ("explorer /dev/zero", "unknown ensemble"),
        ("publish digits_64 --cluster ftp://host", "a cluster is tcp"),
        ("remember digits_64 --exposures nan", "an image is seen"),
        ("remember digits_64 --exposures inf", "an image is seen"),
    ],
)
def test_a_slip_ends_with_status_2_and_one_line(
    place, run, capsys, monkeypatch, tmp_path, line, hint
):
    """Also where a path is a folder, a device or absent, and a count none, negative or huge."""
    folder = tmp_path / "desk"
    (folder / "folder").mkdir(parents=True)
    (folder / "full").mkdir()
    (folder / "full" / "diary").touch()
    (folder / "empty").touch()
    (folder / "text").write_text("words\n")
    os.mkfifo(folder / "pipe")
    with open(folder / "endless", "wb") as file:
        file.truncate(2**40)  # a hole: no disk holds it
    shutil.copy(PUBLISHED / "certificate" / "digits_64-laptop-0.json", folder / "ours.json")
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(folder)
    assert run(line) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and hint in shown.err
    assert shown.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    assert not place.published.exists() and not place.cache.exists()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "lst",
        "publish --hours many",
        "--scale huge list",
        "publish digits_64 --samples many",
        "publish digits_64 --samples 1.5",
        "publish digits_64 --removed few",
        "certify digits_64",
        "certify digits_64 --sample first",
        "certify digits_64 --sample 0 --tau small",
        "verify ours.json --sources some",
        "verify ours.json --tolerance small",
        "explorer digits_64 --samples all",
        "list of all",
    ],
)
def test_a_wrong_command_shows_how_to_call_it(place, run, capsys, line):
    with pytest.raises(SystemExit) as end:
        run(line)
    assert end.value.code == 2 and "usage: python -m abc_lib" in capsys.readouterr().err
    assert not place.cache.exists()


@pytest.mark.slow
def test_the_exit_status_reaches_the_shell():
    asked = call("publish", "mnist_1000")
    assert (asked.returncode, asked.stdout, asked.stderr.count("\n")) == (2, "", 1)


def test_a_full_disk_ends_with_one_line(run, capsys, monkeypatch):
    def fsync(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    assert run("publish digits_64") == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and "disk is full" in shown and shown.count("\n") == 1


def test_an_error_of_the_system_ends_with_one_line(run, capsys, monkeypatch):
    monkeypatch.setattr("abc_lib.study.pages.ROOT", "/nowhere")
    monkeypatch.setattr(command, "execute_pages", lambda pages: open("/nowhere/_toc.yml"))
    assert run("pages") == 2
    assert capsys.readouterr().err == "error: /nowhere/_toc.yml: No such file or directory\n"


def test_an_interrupted_command_shows_no_traceback(run, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "all_statuses", interrupted)
    try:
        code = run("list")
    except KeyboardInterrupt:
        pytest.fail("Ctrl-C ends with a traceback")
    assert code == 130 and capsys.readouterr().err.count("\n") <= 1


# --- what goes right ---


def test_list_names_every_ensemble_in_a_line_each(argv, capsys):
    argv("list")
    assert command.main() == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert shown.err == ""
    assert [line.split()[0] for line in lines] == recipe_names() and len(lines) == 9 + 23 + 7
    assert "digits_64 " in lines[0] and " yes " in lines[0]
    assert all(line.split()[1] in ("yes", "no") for line in lines)


def test_who_stops_reading_gets_no_traceback():
    line = f"{sys.executable} -m abc_lib list | head -n 1"
    asked = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert asked.stdout.count("\n") == 1 and asked.stderr == ""


def test_publish_puts_an_ensemble_and_its_landscapes_into_the_repository(
    place, published, trained, run, capsys
):
    shutil.copytree(trained.store.cache, place.cache)
    assert run("publish digits_64 --samples 2 --seed 3") == 0
    assert capsys.readouterr().out.count("digits_64-laptop: ") == 2
    ensemble = find_ensemble(trained.recipe, published)
    assert ensemble.identity == trained.ensemble.identity
    ensemble.artefact.verify()
    made = landscapes.find(ensemble, 3, here=published)
    assert made.indices.tolist() == [0, 1]
    made.artefacts[0].verify()
    before = {p: p.read_bytes() for p in place.published.rglob("*") if p.is_file()}
    assert run("publish digits_64 --samples 2 --seed 3") == 0
    assert before == {p: p.read_bytes() for p in place.published.rglob("*") if p.is_file()}


def test_publish_puts_jacobians_and_comparisons_into_the_repository(place, published, trained, run):
    shutil.copytree(trained.store.cache, place.cache)
    options = "--samples 0 --jacobians 3 --compare 2 --hybrids 1 --device cpu"
    assert run(f"publish digits_64 {options}") == 0
    moved = jacobians.find(trained.ensemble, here=published)
    assert moved.indices.tolist() == [0, 1, 2] and moved.artefacts[0].published
    made = published.store.find_all("comparison", trained.recipe.label)
    assert sorted((a.spec["indices"], a.spec["switches"]) for a in made) == [
        ([0], [1, 2, 3, 4, 5, 6]),
        ([1], []),
    ]
    assert not (place.published / "landscape").exists()


def test_publish_goes_on_from_what_is_published(place, published, trained, run):
    shutil.copytree(trained.store.cache, place.cache)
    for samples in (2, 5, 3):
        assert run(f"publish digits_64 --samples {samples} --device cpu") == 0
    made = published.store.find_all("landscape", trained.recipe.label)
    assert sorted(a.spec["indices"] for a in made) == [[0, 1], [2, 3, 4]]


def test_publish_retrains_and_leaves_the_models_in_the_cache(place, published, trained, run):
    shutil.copytree(trained.store.cache, place.cache)
    options = "--samples 2 --retraining 3 --left-out 2 --again 1 --device cpu"
    assert run(f"publish digits_64 {options}") == 0
    for seed in (None, 1):
        made = retraining.stored(trained.recipe, seed, here=published)
        assert made.indices.tolist() == [0, 1, 2] and made.sources.tolist() == [0, 1]
    assert not (place.published / "retrained").exists()
    assert len(list((place.published / "ensemble").iterdir())) == 1
    others = [trained.recipe.replace(training={"seed": 1}, code={"seed": k}) for k in (0, 1)]
    for recipe in (trained.recipe, *others):
        assert landscapes.stored(recipe, published).indices.tolist() == [0, 1]


def test_publish_measures_quality_and_removes_several_sources(place, published, trained, run):
    shutil.copytree(trained.store.cache, place.cache)
    shutil.copytree(PUBLISHED / "classifier", place.published / "classifier")
    options = "--samples 0 --fids 8 --removed 2 --sets 2 --without-members --device cpu"
    assert run(f"publish digits_64 {options}") == 0
    made = fids.stored(trained.recipe, published)
    assert sorted((fid.which, fid.removed, fid.fid.count) for fid in made) == [
        ("ensemble", 0, 8),
        ("ensemble", 2, 8),
        ("member", 0, 8),
        ("single", 0, 8),
    ]
    assert single_model(trained.recipe, published).artefact.published
    assert set(removals.stored(trained.recipe, here=published).sizes) >= {1, 2}
    assert not (place.published / "ensemble").exists()


def test_publish_looks_for_unattributable_samples(published, run, monkeypatch):
    data = {"num_sources": 6, "sources": "group", "binarise": True}
    recipe = tiny_recipe(6).replace(data=data, code=Code(6, 1))
    monkeypatch.setattr(command, "get_recipe", lambda name, scale: recipe)
    options = "--samples 0 --unattributable 5 --without-members --device cpu"
    assert run(f"publish digits_64 {options}") == 0
    assert len(unattributable.stored(recipe, here=published)) == 5


def test_publish_counts_classes(place, published, run):
    shutil.copytree(PUBLISHED / "classifier", place.published / "classifier")
    assert run("publish digits_classes --samples 0 --classes 5 --device cpu") == 0
    for method in ("ablation", "retraining"):
        made = class_counts.stored(tiny_classes(4), method, here=published)
        assert made.samples == 5 and made.counts.shape == (11, 10)


def test_publish_trains_what_is_not_there(place, published, trained, run):
    assert run("publish digits_64 --samples 0 --device cpu") == 0
    assert find_ensemble(trained.recipe, published).identity == trained.ensemble.identity
    assert not (place.published / "landscape").exists()
