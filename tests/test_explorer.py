"""The explorer's files: they hold the landscapes that they say, whole or not at all."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from small import own_store, tiny_classes

from abc_lib.exchange.explorer import build, content
from abc_lib.exchange.explorer.build import (
    LOCAL,
    SHIPPED,
    SHIPPED_NAMES,
    build_explorer,
    verify_explorer,
)
from abc_lib.exchange.mosaic import decode_mosaic, to_bytes
from abc_lib.ground.errors import ArtefactError, BadValue, NotAvailable, UnknownName
from abc_lib.ground.here import Here
from abc_lib.ground.paths import ROOT
from abc_lib.ground.store import Store
from abc_lib.images.registry import get_recipe
from abc_lib.images.training_set import training_set
from abc_lib.method.attribution import counterfactual_distance_ranks, visual_similarity_ranks
from abc_lib.method.landscape import counterfactuals
from abc_lib.method.recipe import Recipe
from abc_lib.metrics.visual import visual_distances
from abc_lib.results.landscapes import compute as compute_landscapes
from abc_lib.results.landscapes import get as get_landscapes
from abc_lib.results.landscapes import read as read_landscapes
from abc_lib.results.landscapes import stored as stored_landscapes
from abc_lib.results.placebos import landscapes as placebos
from abc_lib.study import command as command
from abc_lib.training.ensembles import find_ensemble

QUIET = {"device": "cpu", "jobs": 1, "progress": False}


def value(path):
    """What a data script hands to the page."""
    text = path.read_text()
    assert text.startswith("abcExplorer(") and text.endswith(");\n")
    return json.loads(text[len("abcExplorer(") : -3])


def tiles(path, count, shape=(1, 8, 8)):
    return decode_mosaic(path.read_bytes(), count, shape, path.name)


def snapshot(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def built(trained, tmp_path_factory):
    """An explorer of 3 samples of the tiny ensemble, and where it was made."""
    here = Here(own_store(trained, tmp_path_factory.mktemp("cache")), **QUIET)
    folder = build_explorer(
        [trained.recipe], tmp_path_factory.mktemp("explorer") / "page", 3, here=here
    )
    return folder, here


# --- what it holds ---


def test_sprites_are_the_images_to_8_bits(built, trained):
    folder, here = built
    ensemble, landscapes = (
        trained.ensemble,
        get_landscapes(trained.ensemble, 3, keep=1, here=here),
    )
    mine = folder / trained.recipe.label
    assert torch.equal(tiles(mine / "training.png", 12), to_bytes(trained.images.images))
    assert torch.equal(tiles(mine / "samples.png", 3), to_bytes(landscapes.factual))
    for row in range(3):
        # sampled here and now, in a block of another size: at most a level away, and that rarely
        now = to_bytes(counterfactuals(ensemble, landscapes, row, range(12)))
        shown = tiles(mine / f"{row:04d}.png", 12)
        difference = (shown.int() - now.int()).abs()
        assert difference.max() <= 1 and (difference == 0).float().mean() > 0.99
        assert len(torch.unique(shown.flatten(1), dim=0)) > 6


def test_distances_and_ranks_are_the_landscapes(built, trained):
    folder, here = built
    landscapes = get_landscapes(trained.ensemble, 3, keep=1, here=here)
    visual = visual_distances(landscapes.factual, trained.images)
    for row in range(3):
        found = value(folder / trained.recipe.label / f"{row:04d}.js")
        assert np.allclose(
            found["distances"], landscapes.distances[row], rtol=0, atol=0.5e-4 + 1e-9
        )
        for source in range(12):
            # the paper's scaled ranks: 0 is nearest, for either kind of distance
            farness = counterfactual_distance_ranks(landscapes.distances[row : row + 1], [source])[
                0
            ]
            likeness = visual_similarity_ranks(visual[row : row + 1], [source])[0]
            assert found["counterfactual"].index(source) == pytest.approx((1 - farness) * 11)
            assert found["visual"].index(source) == pytest.approx(likeness * 11)


def test_the_catalogue_names_everything_the_page_loads(built, trained):
    folder, _ = built
    data = value(folder / "data.js")
    (entry,) = data["ensembles"]
    assert (entry["name"], entry["scale"], entry["sources"], entry["samples"]) == (
        "digits_64",
        "laptop",
        12,
        [0, 1, 2],
    )
    assert entry["labels"] == [str(int(label)) for label in trained.images.labels]
    assert entry["side"] == 8 and entry["grid"] == [4, 3] and entry["sample_grid"] == [2, 2]
    shown = value(folder / entry["folder"] / "0002.js")
    assert entry["radii"][2] == max(shown["distances"])
    chance = placebos.of_sample(placebos.get(trained.ensemble, [2], 0, built[1]), 0, 2)
    assert np.allclose(shown["placebos"], np.sort(chance)[::-1], atol=1e-4)
    expected = matplotlib.colormaps["cividis"](np.linspace(0, 1, len(data["colours"])))[:, :3]
    assert np.abs(np.array([to_rgb(colour) for colour in data["colours"]]) - expected).max() < 0.003


def test_the_origin_and_the_manifest_say_where_it_comes_from(built, trained):
    folder, _ = built
    manifest = verify_explorer(folder)
    (origin,) = [entry["origin"] for entry in value(folder / "data.js")["ensembles"]]
    commit, time = manifest["provenance"]["commit"], manifest["provenance"]["time"]
    assert (
        f"Page built {time[:10]}, commit {commit}." in origin
        and "scale laptop" in origin
        and "*" not in origin
    )
    kinds = [name.split("/")[0] for name in manifest["ensembles"][trained.recipe.label]]
    assert kinds == ["member", "landscape", "placebo"]
    assert manifest["scales"] == ["laptop"] and manifest["kind"] == "explorer"
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]


def test_a_second_build_computes_nothing_and_is_the_same(built, trained, tmp_path, monkeypatch):
    folder, here = built
    monkeypatch.setattr(
        "abc_lib.results.landscapes.KIND.build", lambda *a, **b: pytest.fail("computed again")
    )
    again = build_explorer([trained.recipe], tmp_path / "again", 3, here=here)
    one, other = snapshot(folder), snapshot(again)
    different = {name for name in one | other if one.get(name) != other.get(name)}
    assert different <= {"manifest.json"}


# --- what ships ---


def test_what_ships_is_whole_small_and_of_this_page():
    verify_explorer(SHIPPED)
    files = snapshot(SHIPPED)
    assert sum(map(len, files.values())) < 1.5 * 2**20
    for path in build._PAGE.iterdir():
        assert files[path.name] == path.read_bytes(), (
            f"{path.name} was edited; run python -m abc_lib explorer"
        )
    assert [entry["name"] for entry in value(SHIPPED / "data.js")["ensembles"]] == list(
        SHIPPED_NAMES
    )


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_what_ships_is_the_published_landscapes(name, tmp_path):
    landscapes = stored_landscapes(get_recipe(name), Here(Store(tmp_path)))
    recipe = get_recipe(name)
    images, folder = training_set(recipe.data), SHIPPED / recipe.label
    ensemble = find_ensemble(recipe, Here(Store(tmp_path)))
    N = recipe.data.num_sources
    assert torch.equal(tiles(folder / "training.png", N), to_bytes(images.images))
    for row in (0, 5):
        found = value(folder / f"{row:04d}.js")
        assert np.allclose(
            found["distances"], landscapes.distances[row], rtol=0, atol=0.5e-4 + 1e-9
        )
        assert found["counterfactual"][0] == landscapes.attributed_sources[row]
        shown = tiles(folder / f"{row:04d}.png", N)
        kept = to_bytes(landscapes.kept_images[row])
        # other processors round otherwise
        assert (shown[landscapes.kept_sources[row]].int() - kept.int()).abs().max() <= 8
    now = to_bytes(counterfactuals(ensemble, landscapes, 1, [3]))
    assert (tiles(folder / "0001.png", N)[3].int() - now[0].int()).abs().max() <= 8


def test_the_page_is_short_plain_and_loads_nothing_from_elsewhere():
    text = {path.name: path.read_text() for path in build._PAGE.iterdir()}
    assert len((text["explorer.js"] + text["explorer.css"]).splitlines()) < 500
    assert not re.search(
        r"https?://|\bfetch\(|XMLHttpRequest|getImageData|\bimport\b.*from", "".join(text.values())
    )


# --- stopped, damaged, in the wrong place ---


@pytest.mark.parametrize("at", [0, 3, 9])
def test_an_interrupted_build_leaves_the_old_one_or_nothing(
    built, trained, tmp_path, monkeypatch, at
):
    folder, here = built
    place = tmp_path / "place" / "page"

    def interrupted():
        written, real = [], os.fsync

        def fsync(descriptor):
            written.append(descriptor)
            if len(written) > at:
                raise KeyboardInterrupt
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(build.os, "fsync", fsync)
            with pytest.raises(KeyboardInterrupt):
                build_explorer([trained.recipe], place, 2, here=here)

    shutil.copytree(folder, tmp_path / "kept")
    build_explorer([trained.recipe], tmp_path / "warm", 2, here=here)
    interrupted()
    assert list(place.parent.iterdir()) == []
    shutil.copytree(folder, place)
    interrupted()
    assert snapshot(place) == snapshot(tmp_path / "kept") and list(place.parent.iterdir()) == [
        place
    ]
    verify_explorer(place)


def test_a_rename_that_fails_puts_the_old_one_back(built, trained, tmp_path, monkeypatch, one_line):
    folder, here = built
    place = tmp_path / "page"
    shutil.copytree(folder, place)
    real = os.rename

    def rename(source, target):
        if os.path.basename(source) == "new":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(build.os, "rename", rename)
    with pytest.raises(ArtefactError, match="No space left") as error:
        build_explorer([trained.recipe], place, 3, here=here)
    assert (
        one_line(error)
        and snapshot(place) == snapshot(folder)
        and list(tmp_path.iterdir()) == [place]
    )


def test_a_new_build_replaces_an_old_explorer_and_nothing_else(built, trained, tmp_path, one_line):
    folder, here = built
    place = tmp_path / "page"
    shutil.copytree(folder, place)
    build_explorer([trained.recipe], place, 2, here=here)
    assert value(place / "data.js")["ensembles"][0]["samples"] == [0, 1]
    assert not (place / trained.recipe.label / "0002.png").exists() and list(
        tmp_path.iterdir()
    ) == [place]
    other = tmp_path / "letters"
    other.mkdir()
    (other / "dear.txt").write_text("diary")
    with pytest.raises(ArtefactError, match="something other than an explorer") as error:
        build_explorer([trained.recipe], other, 2, here=here)
    assert one_line(error) and (other / "dear.txt").read_text() == "diary"
    with pytest.raises(ArtefactError, match="is a file") as error:
        build_explorer([trained.recipe], other / "dear.txt", 2, here=here)
    assert one_line(error)


@pytest.mark.parametrize("damage", ["edit", "cut", "remove", "add", "manifest"])
def test_a_damaged_explorer_is_refused_by_name(built, tmp_path, damage, one_line):
    place = tmp_path / "page"
    shutil.copytree(built[0], place)
    path = place / "digits_64-laptop" / "0001.png"
    name = "0001.png"
    if damage == "edit":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "remove":
        path.unlink()
    elif damage == "add":
        name = "more.js"
        (place / name).write_text("")
    else:
        name = "is no explorer"
        (place / "manifest.json").write_text("{}")
    with pytest.raises(ArtefactError, match=name) as error:
        verify_explorer(place)
    assert one_line(error)


def test_published_distances_are_what_is_shown_and_images_must_fit_them(
    trained, tmp_path, monkeypatch, one_line
):
    store = own_store(trained, tmp_path)
    here = Here(store, **QUIET)
    published = store.copy(
        compute_landscapes(
            trained.ensemble,
            [1, 0],
            0,
            here=Here(Store(tmp_path / "elsewhere", None), jobs=1, progress=False),
        ),
        "landscape",
    )
    folder = build_explorer([trained.recipe], tmp_path / "page", 3, here=here)
    named = verify_explorer(folder)["ensembles"][trained.recipe.label]
    assert f"landscape/{published.path.name}" in named and len(named) == 4
    (origin,) = [entry["origin"] for entry in value(folder / "data.js")["ensembles"]]
    assert "published with this repository, computed on" in origin
    expected = read_landscapes(published).distances
    for row, index in enumerate([1, 0]):
        assert np.allclose(
            value(folder / trained.recipe.label / f"{index:04d}.js")["distances"],
            expected[row],
            rtol=0,
            atol=0.6e-4,
        )

    real = content.read_landscapes

    def moved(artefact):
        # as if this machine's members were other ones
        landscapes = real(artefact)
        return dataclasses.replace(landscapes, distances=landscapes.distances * 1.02)

    monkeypatch.setattr(content, "read_landscapes", moved)
    with pytest.raises(
        ArtefactError,
        match="sample 0 of digits_64-laptop, made again, have .* off the published ones",
    ) as error:
        build_explorer([trained.recipe], tmp_path / "other", 3, here=here)
    assert one_line(error) and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "names, error, words",
    [
        ([], BadValue, "at least one"),
        (["digits_64", "digits_64"], BadValue, "once"),
        (["digits_6"], UnknownName, "did you mean 'digits_64'"),
        ([tiny_classes()], BadValue, "not single images"),
        (["celeba_ba_512"], BadValue, "not single images"),
        (["digits_64"], NotAvailable, "publish digits_64"),
    ],
)
def test_names_that_cannot_be_shown_give_one_line(tmp_path, names, error, words, one_line):
    with pytest.raises(error, match=words) as caught:
        build_explorer(
            [name if isinstance(name, Recipe) else get_recipe(name) for name in names],
            tmp_path / "page",
            here=Here(Store(tmp_path / "cache", None), "cpu"),
        )
    assert one_line(caught) and not (tmp_path / "page").exists()


@pytest.mark.parametrize("samples", [0, -1, 2.5, "3"])
def test_a_wrong_number_of_samples_gives_one_line(tmp_path, samples, one_line):
    with pytest.raises(BadValue, match="num_samples") as error:
        build_explorer(None, tmp_path / "page", samples)
    assert one_line(error)


@pytest.mark.parametrize(
    "place", [SHIPPED, ROOT / "book" / "_static" / "here", ROOT / "book", ROOT / "notebooks" / "x"]
)
def test_downloaded_images_never_go_where_git_would_track_them(place, one_line, tmp_path):
    before = snapshot(place) if place == SHIPPED else None
    with pytest.raises(
        BadValue, match="not to be put into the repository.*explorer_local"
    ) as error:
        build_explorer([get_recipe("mnist_1024")], place, 1, here=Here(Store(tmp_path)))
    assert one_line(error)
    assert before is None or snapshot(place) == before
    assert build._tracked(place) and not build._tracked(LOCAL) and not build._tracked(tmp_path)


def test_git_ignores_the_local_explorer():
    asked = subprocess.run(
        ["git", "-C", str(ROOT), "check-ignore", "-q", str(LOCAL / "data.js")], capture_output=True
    )
    if asked.returncode == 128:
        pytest.skip("not a git checkout")
    assert asked.returncode == 0


# --- the command ---


def test_the_command_writes_a_page_and_says_where(
    built, trained, tmp_path, monkeypatch, argv, capsys
):
    recipes = {"digits_64": trained.recipe}
    monkeypatch.setattr(command, "Here", lambda device, cluster: built[1])
    monkeypatch.setattr(
        command, "get_recipe", lambda name, scale: recipes.get(name) or get_recipe(name, scale)
    )
    argv("explorer", "digits_64", "--samples", "2", "-o", str(tmp_path / "page"), "--device", "cpu")
    assert command.main() == 0
    shown = capsys.readouterr().out
    assert (
        shown.count("\n") == 1 and f"open {tmp_path / 'page' / 'index.html'} in a browser" in shown
    )
    verify_explorer(tmp_path / "page")
    argv("explorer", "mnist_1024", "-o", str(SHIPPED))
    assert command.main() == 2
    assert "not to be put into the repository" in capsys.readouterr().err


def test_without_a_folder_named_ensembles_stay_out_of_the_repository(monkeypatch, argv, tmp_path):
    asked = []

    def build_nothing(recipes, folder, *arguments, **options):
        asked.append(([recipe.name for recipe in recipes], folder))
        return tmp_path

    monkeypatch.setattr(command, "build_explorer", build_nothing)
    for words in ((), ("mnist_1024",), ("digits_64",)):
        argv("explorer", *words)
        assert command.main() == 0
    assert asked == [
        (list(SHIPPED_NAMES), SHIPPED),
        (["mnist_1024"], LOCAL),
        (["digits_64"], LOCAL),
    ]
