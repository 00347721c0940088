"""Own pictures: a folder as a training set, and recipes as TOML files."""

import dataclasses
import re
from functools import partial
from pathlib import Path

import numpy as np
import papermill
import pytest
from PIL import Image, ImageDraw, ImageOps

from abc_lib.ground.digests import digest
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.images import recipe_file, registry
from abc_lib.images.own import content
from abc_lib.images.own.folder import look_at
from abc_lib.images.own.proposal import EXPOSURE, propose
from abc_lib.images.recipe_file import as_toml, read_recipe
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.images.training_set import training_set
from abc_lib.method.code import draw_codebook
from abc_lib.results.run import run
from abc_lib.study.command import main
from abc_lib.study.cost import cost_of
from abc_lib.training.ensembles import train_ensemble
from abc_lib.training.members import find_member
from abc_lib.training.together import FULL, TrainingTogether

ROOT = Path(__file__).resolve().parent.parent
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


def test_every_recipe_of_the_registry_comes_back_from_its_file(tmp_path, monkeypatch):
    # Building the paper's networks takes seconds; tests/test_own_slips.py has those that cannot be.
    monkeypatch.setattr(recipe_file, "_require_network", lambda *parts: None)
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


# --- a recipe for a folder ---


def test_new_writes_a_recipe_that_runs_and_says_why(folder, argv, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    drawn(10).rotate(90, expand=True).save(folder / "trio" / "anna" / "ben's, turned.jpg")
    (folder / "trio" / "notes.txt").write_text("no picture")
    argv("new", "trio", "-o", "mine.toml", "--device", "cpu")
    assert main() == 0
    said = capsys.readouterr().out
    assert "7 pictures of 3 sources are taken" in said
    assert "not taken, is no JPEG, PNG, WebP, GIF, BMP or TIFF picture: notes.txt" in said
    assert "look alike (1.00) in different sources: anna/ben's, turned.jpg and ben/0.png" in said
    assert re.search(r"min to train 8 members of [\d,]+ parameters.*GiB of memory", said)
    recipe = get_recipe("mine.toml")
    # anna and ben are one source, as a picture of both is one
    assert recipe.data.num_sources == 2 and recipe.data.size == 7
    assert recipe.data.family == "folder_colour_64" and recipe.code.n == 8
    assert recipe.exposure == pytest.approx(EXPOSURE, rel=0.2)
    assert cost_of(recipe).parameters > 10**5
    sheet = Image.open(folder / "mine.png")
    assert sheet.width > 900 and len(sheet.getcolors(10**6)) > 1000
    # every table of the file says why, beside its values
    text = (folder / "mine.toml").read_text(encoding="utf-8")
    for key in ("path", "sources", "size", "colour", "duplicates", "n", "weight", "steps", "block"):
        assert re.search(rf"^{key} = .+  # .+", text, re.M), key
    argv("new", "trio", "-o", "mine.toml")
    assert main() == 2 and "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("duplicates, people, left", [("merge", 2, 6), ("drop", 3, 4)])
def test_pictures_that_look_alike_are_dealt_with_as_asked(folder, duplicates, people, left):
    ImageOps.mirror(drawn(0)).save(folder / "trio" / "ben" / "1.png")
    text = TINY.format(name="trio").replace("[code]", f'duplicates = "{duplicates}"\n[code]')
    (folder / "trio.toml").write_text(text, encoding="utf-8")
    data = get_recipe(str(folder / "trio.toml")).data
    assert (data.num_sources, data.size) == (people, left)
    people = {"merge": ("anna + ben", "chloé"), "drop": ("anna", "ben", "chloé")}[duplicates]
    assert content.kept(data.split).people == people


def test_kept_duplicates_are_warned_of_wherever_results_come_from(folder, here):
    ImageOps.mirror(drawn(0)).save(folder / "trio" / "ben" / "1.png")
    text = TINY.format(name="trio").replace("[code]", 'duplicates = "keep"\n[code]')
    (folder / "trio.toml").write_text(text, encoding="utf-8")
    result = run(str(folder / "trio.toml"), 1, here=here)
    assert "leaving one of those sources out does not take its picture away" in result.origin()
    drawn(77).save(folder / "trio" / "ben" / "1.png")
    result = run(str(folder / "trio.toml"), 1, here=here)
    assert "does not take" not in result.origin()


def test_sources_are_files_or_what_a_table_says(folder):
    by_file = TINY.format(name="trio").replace("[code]", 'sources = "file"\n[code]')
    (folder / "trio.toml").write_text(by_file, encoding="utf-8")
    data = get_recipe(str(folder / "trio.toml")).data
    assert (data.num_sources, data.size) == (6, 6)
    names = [f"{who}/{i}.png" for who in ("anna", "ben", "chloé") for i in range(2)]
    rows = ["file,source", *(f"{name},{'xyxyx'[k]}" for k, name in enumerate(names[:5]))]
    (folder / "who.csv").write_text("\n".join(rows), encoding="utf-8")
    by_table = TINY.format(name="trio").replace("[code]", 'sources = "who.csv"\n[code]')
    (folder / "trio.toml").write_text(by_table, encoding="utf-8")
    data = get_recipe(str(folder / "trio.toml")).data
    assert (data.num_sources, data.size) == (2, 5)
    assert training_set(data).sources.tolist() == [0, 1, 0, 1, 0]


def shared(folder):
    """The recipe of the trio whose second picture is of all, and whose third of two."""
    owners = [["anna"], ["anna", "ben", "chloé"], ["anna", "ben"], ["ben"], ["chloé"], ["chloé"]]
    names = [f"{who}/{i}.png" for who in ("anna", "ben", "chloé") for i in range(2)]
    rows = ["file,source", *(f"{name},{';'.join(who)}" for name, who in zip(names, owners))]
    (folder / "who.csv").write_text("\n".join(rows), encoding="utf-8")
    text = TINY.format(name="trio").replace("[code]", 'sources = "who.csv"\n[code]')
    (folder / "trio.toml").write_text(text, encoding="utf-8")
    return get_recipe(str(folder / "trio.toml"))


def test_a_picture_of_several_goes_when_any_of_them_goes(folder):
    recipe = shared(folder)
    images = training_set(recipe.data)
    assert recipe.data.size == 6 and recipe.data.num_sources == 3
    assert images.where.tolist() == [0, 1, 1, 1, 2, 2, 3, 4, 5]
    assert images.sources.tolist() == [0, 0, 1, 2, 0, 1, 1, 2, 2]
    for sources, seen in (([0], [0]), ([0, 1], [0, 2, 3]), ([2], [4, 5]), ([0, 1, 2], range(6))):
        assert images.of_sources(sources).where.tolist() == list(seen)
    assert images.without(0).once.where.tolist() == [3, 4, 5]
    assert images.without(2).once.where.tolist() == [0, 2, 3]
    assert images.once.where.tolist() == list(range(6))
    work = TrainingTogether(recipe, [FULL, 0, 1, 2], images)
    gone = [[], [0, 1, 2], [1, 2, 3], [1, 4, 5]]
    assert [row.nonzero().flatten().tolist() for row in work.gone.T] == gone


def test_members_see_a_shared_picture_only_with_all_its_sources(folder, here):
    recipe = shared(folder)
    words = draw_codebook(recipe).words
    owned = [[0], [0, 1, 2], [0, 1], [1], [2], [2]]
    by_member = [sum(all(word[owners]) for owners in owned) for word in words.T]
    whole = [k for k, seen in enumerate(by_member) if seen]
    made = train_ensemble(recipe, members=whole, here=here)
    assert [a.info["images"] for a in made] == [by_member[k] for k in whole]
    (control,) = train_ensemble(recipe, members=["control"], here=here)
    assert control.info["images"] == 6


@pytest.mark.parametrize("who", ["folder", "who.csv"])
def test_every_member_of_a_proposed_code_sees_a_picture(folder, who):
    shared(folder)
    look = look_at(folder / "trio", str(folder / who) if who != "folder" else who)
    text = propose(look, str(folder / who) if who != "folder" else who, folder / "trio.toml")
    (folder / "trio.toml").write_text(text, encoding="utf-8")
    recipe = get_recipe(str(folder / "trio.toml"))
    book, images = draw_codebook(recipe), training_set(recipe.data)
    assert all(len(images.of_sources(book.split(k))) for k in range(book.n))
    assert text.count("\nsources = ") == 1 and recipe.data.num_sources == 3
    blind = text.replace("n = 8", "n = 20").replace("weight = 4", "weight = 2")
    (folder / "trio.toml").write_text(blind, encoding="utf-8")
    with pytest.raises(BadValue, match=r"code.seed gives a member no picture"):
        get_recipe(str(folder / "trio.toml"))


# --- end to end ---


def person(number: int, seed: int) -> Image.Image:
    """A picture in the manner of one of six people: a palette, a ground and a kind of stroke."""
    rng = np.random.default_rng([number, seed])
    palette = np.random.default_rng(number).integers(0, 256, (4, 3))
    image = Image.new("RGB", (160, 120), tuple(palette[0].tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(20):
        x, y, size = rng.integers(0, 160), rng.integers(0, 120), rng.integers(8, 40)
        colour = tuple(palette[rng.integers(1, 4)].tolist())
        box = (x - size, y - size, x + size, y + size)
        if number % 3 == 0:
            draw.ellipse(box, fill=colour)
        elif number % 3 == 1:
            draw.rectangle((x - size, y - 4, x + size, y + 4), fill=colour)
        else:
            draw.line(box, fill=colour, width=6)
    return image


@pytest.mark.slow
def test_from_sixty_pictures_of_six_people_to_landscapes(tmp_path, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABC_CACHE", str(tmp_path / "cache"))
    for number in range(6):
        (tmp_path / "six" / f"person {number}").mkdir(parents=True)
        for seed in range(10):
            person(number, seed).save(tmp_path / "six" / f"person {number}" / f"{seed}.jpg")
    argv("new", "six", "--device", "cpu")
    assert main() == 0
    path = tmp_path / "six.toml"
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^steps = .*", "steps = 60", text).replace("size = 64", "size = 32")
    path.write_text(re.sub(r"(?m)^channels = .*", "channels = [16]", text), encoding="utf-8")
    recipe = get_recipe(str(path))
    assert recipe.data.num_sources == 6 and recipe.data.size == 60 and recipe.code.n == 10
    cpu = Here(device="cpu", jobs=1, progress=False)
    # stopped in the middle of the members: the next run goes on with the others
    train_ensemble(recipe, members=[0, 1, 2], here=cpu)
    found = partial(find_member, recipe, store=cpu.store)
    first = {a.path: a.path.stat().st_mtime_ns for a in map(found, range(3))}
    result = run(str(path), 4, here=cpu)
    assert result.landscapes.distances.shape == (4, 6) and (result.landscapes.radii > 0).all()
    assert {p: p.stat().st_mtime_ns for p in first} == first
    again = run(str(path), 4, here=cpu)
    assert (again.landscapes.distances == result.landscapes.distances).all()


@pytest.mark.slow
def test_a_notebook_runs_on_a_folder(folder):
    text = TINY.format(name="trio").replace("batch_size = 4", "batch_size = 4\nwarmup = 2")
    (folder / "trio.toml").write_text(text, encoding="utf-8")
    source, out = ROOT / "notebooks" / "03_radius.ipynb", folder / "out.ipynb"
    path = str(folder / "trio.toml")
    done = papermill.execute_notebook(source, out, {"dataset": path}, progress_bar=False)
    shown = "".join(str(cell.get("outputs", "")) for cell in done.cells)
    assert f"-p dataset {path}`" in shown
    assert "**trio**" in shown and "a folder of own pictures" in shown
