"""Own pictures: a folder as a training set, and recipes as TOML files."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageDraw

from abc_lib.ground.digests import digest
from abc_lib.images import registry
from abc_lib.images.recipe_file import as_toml, read_recipe
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.images.training_set import training_set
from abc_lib.method.code import draw_codebook
from abc_lib.results.run import run
from abc_lib.training.ensembles import train_ensemble

TINY = """
name = "{name}"
[folder]
path = "{name}"
[code]
n = 4
weight = 2
[network]
channels = [8]
layers_per_block = 1
groups = 4
patch = 8
predicts = "image"
[training]
steps = 4
batch_size = 4
[sampling]
steps = 4
"""


def drawn(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """A picture of shapes on a shaded ground, another for each seed."""
    rng = np.random.default_rng(seed)
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    turn = rng.uniform(-1, 1, (3, 2))
    ground = 128 + 90 * np.sin(3 * (turn[:, 0, None, None] * x + turn[:, 1, None, None] * y))
    image = Image.fromarray(ground.transpose(1, 2, 0).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        (left, top), sides = rng.uniform(0, 0.8, 2), rng.uniform(0.05, 0.4, 2)
        box = [left * width, top * height, (left + sides[0]) * width, (top + sides[1]) * height]
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape(box, fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


@pytest.fixture(autouse=True)
def no_files_of_other_tests(monkeypatch):
    """Names that a file brought are this test's alone."""
    monkeypatch.setattr(registry, "_OWN", {})


@pytest.fixture
def folder(tmp_path):
    """Three people with two pictures each, and a tiny recipe beside them."""
    for k, who in enumerate(["anna", "ben", "chloé"]):
        (tmp_path / "trio" / who).mkdir(parents=True)
        for i in range(2):
            drawn(10 * k + i).save(tmp_path / "trio" / who / f"{i}.png")
    (tmp_path / "trio.toml").write_text(TINY.format(name="trio"), encoding="utf-8")
    return tmp_path


# --- recipes as files ---


def test_every_recipe_of_the_registry_comes_back_from_its_file(tmp_path):
    path = tmp_path / "recipe.toml"
    for recipe in registry._RECIPES.values():
        path.write_text(as_toml(recipe), encoding="utf-8")
        again = read_recipe(path)
        assert again == recipe
        assert digest(again.model_spec) == digest(recipe.model_spec)
        for part in ("data", "code", "network", "training", "diffusion", "sampling"):
            for field in dataclasses.fields(getattr(recipe, part)):
                mine, theirs = (getattr(getattr(r, part), field.name) for r in (again, recipe))
                assert type(mine) is type(theirs), (part, field.name)


# --- a folder as a training set ---


def test_a_folder_runs_by_its_recipes_path(folder, here):
    path = str(folder / "trio.toml")
    result = run(path, 2, here=here)
    assert result.landscapes.distances.shape == (2, 3)
    assert result.recipe.data.size == 6 and result.recipe.data.num_sources == 3
    assert "a folder of own pictures" in result.origin()
    # from then on the name stands for it
    assert get_recipe("trio") == result.recipe == get_recipe(path)
    assert registry.family_of("trio") == ["trio"] and path in recipe_names()
    images = training_set(result.recipe.data)
    assert images.sources.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.images.shape == (6, 3, 32, 32) and len(images.images.unique()) > 100
    written = folder / "written.toml"
    written.write_text(as_toml(result.recipe), encoding="utf-8")
    assert read_recipe(written) == result.recipe


def test_a_changed_picture_trains_those_again_that_saw_it(folder, here):
    path = folder / "trio.toml"
    before = get_recipe(str(path))
    trained = {a.path.name: a.path.stat().st_mtime_ns for a in train_ensemble(before, here=here)}
    drawn(99).save(folder / "trio" / "ben" / "1.png")
    after = get_recipe(str(path))
    assert after.data.split != before.data.split
    assert after.replace(data={"split": before.data.split}) == before
    again = train_ensemble(after, here=here)
    kept = [a.path.name in trained for a in again]
    saw = draw_codebook(after).words[1].astype(bool)
    assert kept == (~saw).tolist() and 0 < sum(kept) < 4
    for member in again:
        written = member.path.stat().st_mtime_ns
        assert trained.get(member.path.name, written) == written


def test_the_same_pictures_under_another_date_are_the_same_recipe(folder):
    before = get_recipe(str(folder / "trio.toml"))
    drawn(0).save(folder / "trio" / "anna" / "0.png", compress_level=1)
    assert get_recipe(str(folder / "trio.toml")) == before
