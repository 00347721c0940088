"""The registry against the paper's tables, and the digests that name artefacts."""

import csv
import dataclasses
from math import comb

import pytest
import torch

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue, UnknownName
from abc_lib.ground.here import Here
from abc_lib.ground.paths import PAPER
from abc_lib.ground.store import Store
from abc_lib.images.registry import DIGITS_SIZES, family_of, get_recipe, recipe_names
from abc_lib.images.training_set import SPLITS
from abc_lib.method.network import NoisePredictor
from abc_lib.method.recipe import SCALES, SHAPES, Data, Network, Recipe, Training
from abc_lib.method.space import state_shape
from abc_lib.results.run import all_statuses, status
from abc_lib.training.budget import num_parameters


def rows(table: str) -> list[dict]:
    with open(PAPER / table, newline="") as file:
        return list(csv.DictReader(file))


TABLE_2, FURTHER = rows("ensembles.csv"), rows("additional_ensembles.csv")
PAPER_NAMES = [row["ensemble"] for row in TABLE_2 + FURTHER]
EVERYTHING = [get_recipe(name, scale) for scale in SCALES for name in recipe_names()]
SOURCES = {
    "data point": "image",
    "image class": "class",
    "random group": "group",
    "celebrity": "celebrity",
    "artist": "artist",
}
SPACES = {
    "pixel": "pixel",
    "basic autoencoder": "basic",
    "Stable Diffusion v1-5 autoencoder": "stable-diffusion",
}


def label(recipe: Recipe) -> str:
    return recipe.label


def test_the_registry_holds_the_papers_30_the_digits_and_mnist_in_latents():
    assert len(TABLE_2) == 23 and len(FURTHER) == 7
    digits = [
        *(f"digits_{size}" for size in (64, 128, 256, 512, 1024)),
        "digits_classes",
        "digits_binary_190",
        "made_24",
        "mnist_ba_256",
    ]
    assert recipe_names() == digits + PAPER_NAMES


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("row", TABLE_2 + FURTHER, ids=lambda row: row["ensemble"])
def test_data_agree_with_the_papers_row_at_both_scales(row, scale):
    data = get_recipe(row["ensemble"], scale).data
    # the family by the ensemble's name, not by the way the library reads the table
    family = {"landscapes": "artbench"}.get(row["ensemble"], row["ensemble"].split("_")[0])
    assert data.family == family
    assert data.size == int(row["training_set_size"])
    assert data.num_sources == int(row["landscape_size"])
    assert data.sources == SOURCES[row["data_source"]]
    assert data.space == SPACES[row["space"]]
    assert data.binarise == (row["ensemble"] == "mnist_binary_190")
    train = "train" if "training split" in row["origin"] else "test"
    assert (
        data.split == {"metfaces": "all", "landscapes": "landscapes"}.get(row["ensemble"], train)
        and data.split in SPLITS[family]
    )


@pytest.mark.parametrize("row", TABLE_2 + FURTHER, ids=lambda row: row["ensemble"])
def test_members_and_weight_agree_with_the_papers_row(row):
    code = get_recipe(row["ensemble"], "paper").code
    assert (code.n, code.weight) == (int(row["members"]), int(row["weight"]))


@pytest.mark.parametrize("row", TABLE_2, ids=lambda row: row["ensemble"])
def test_network_flips_and_normalisation_agree_with_table_2(row):
    recipe = get_recipe(row["ensemble"], "paper")
    channels = {"small": (128, 256, 512, 512), "large": (192, 384, 768, 768)}[row["unet"]]
    assert recipe.network.channels == channels
    assert recipe.network.down_attention == (1,) and recipe.network.up_attention == (2,)
    assert recipe.network.dropout == float(row["dropout"])
    assert recipe.data.flips == (row["horizontal_flip"] == "yes")
    if recipe.data.space == "pixel":
        factor = {"(x-0.5)*2": 2.0, "(x-1)*4 as printed in B.2": 4.0}[row["normalisation"]]
        assert (recipe.data.shift, recipe.data.factor) == (0.5, factor)
        # where the laptop scale clips predicted images, black and white must survive it
        assert get_recipe(row["ensemble"]).sampling.clip in (None, factor / 2)
    # the authors' released sampler does not clip
    assert recipe.sampling.clip is None


@pytest.mark.parametrize("row", FURTHER, ids=lambda row: row["ensemble"])
def test_the_further_ensembles_follow_b2_where_b3_is_silent(row):
    recipe = get_recipe(row["ensemble"], "paper")
    assert recipe.network.channels == (128, 256, 512, 512) and recipe.network.dropout == 0
    assert recipe.data.flips == row["ensemble"].startswith("fashion")


@pytest.mark.parametrize("name", PAPER_NAMES)
def test_paper_scale_trains_and_samples_as_b2_says(name):
    recipe = get_recipe(name, "paper")
    assert recipe.diffusion.train_steps == 1000
    assert (recipe.sampling.sampler, recipe.sampling.steps) == ("ddpm", 50)
    assert (
        recipe.training.batch_size,
        recipe.training.learning_rate,
        recipe.training.schedule,
    ) == (128, 1e-4, "constant")
    if recipe.data.family in ("mnist", "fashion"):
        # A member of weight n/2 draws half a million images whatever N is, but for batches that
        # are not full.
        mine = recipe.data.size * recipe.code.weight // recipe.code.n
        full = len(range(128, mine + 1, 128))
        assert recipe.training.steps == 10**6 // recipe.data.size * full
        if mine % 128 == 0 and 2 * recipe.code.weight == recipe.code.n:
            assert 3900 <= recipe.training.steps <= 3906
    assert recipe.network.predicts == "noise" and recipe.training.weighting == "noise"


@pytest.mark.parametrize("name", recipe_names())
def test_the_laptop_scale_is_the_same_experiment_with_another_network_and_code(name):
    laptop, paper = get_recipe(name), get_recipe(name, "paper")
    assert (laptop.scale, paper.scale) == ("laptop", "paper")
    assert (
        laptop.data == paper.data
        and dataclasses.replace(laptop.sampling, clip=paper.sampling.clip) == paper.sampling
        and laptop.diffusion == paper.diffusion
    )
    assert laptop.code.n <= paper.code.n
    # members that are to remember single images have none
    remembers = laptop.training.times == "middle"
    assert laptop.network.dropout == (0 if remembers else paper.network.dropout)


@pytest.mark.parametrize("recipe", EVERYTHING, ids=label)
def test_every_code_has_a_codeword_for_every_source(recipe):
    assert 0 < recipe.code.weight < recipe.code.n
    assert comb(recipe.code.n, recipe.code.weight) >= recipe.data.num_sources


@pytest.mark.parametrize("size", DIGITS_SIZES)
def test_digits_have_one_source_an_image_and_one_code_length_a_scale(size):
    for scale, n in (("laptop", 14), ("paper", 22)):
        recipe = get_recipe(f"digits_{size}", scale)
        assert (recipe.data.size, recipe.data.num_sources, recipe.data.sources) == (
            size,
            size,
            "image",
        )
        assert (recipe.code.n, recipe.code.weight) == (n, n // 2)


@pytest.mark.parametrize("scale", SCALES)
def test_the_digit_classes_have_the_papers_code_for_classes(scale):
    recipe, papers = get_recipe("digits_classes", scale), get_recipe("mnist_classes", scale)
    assert (
        (recipe.data.sources, recipe.data.num_sources)
        == (papers.data.sources, papers.data.num_sources)
        == ("class", 10)
    )
    assert recipe.code == papers.code
    same = get_recipe("digits_binary_190" if scale == "laptop" else "digits_1024", scale)
    assert recipe.network == same.network


@pytest.mark.parametrize("recipe", EVERYTHING, ids=label)
def test_states_fit_the_levels_and_patches_of_their_network(recipe):
    _, height, width = state_shape(recipe.data)
    step = recipe.network.patch * 2 ** (len(recipe.network.channels) - 1)
    assert height % step == 0 and width % step == 0
    assert all(c % recipe.network.groups == 0 for c in recipe.network.channels)


@pytest.mark.parametrize("name, least", [("mnist_1024", 97e6), ("cifar10_50000", 200e6)])
def test_the_papers_networks_have_the_papers_size(name, least):
    recipe = get_recipe(name, "paper")
    with torch.device("meta"):  # shapes without memory
        network = NoisePredictor(recipe.network, SHAPES[recipe.data.family])
    assert least <= num_parameters(network) < 1.2 * least


def test_recipes_cannot_be_changed_in_place():
    recipe = get_recipe("digits_64")
    for part, field in (
        (recipe, "name"),
        (recipe.data, "size"),
        (recipe.code, "n"),
        (recipe.network, "patch"),
        (recipe.training, "steps"),
        (recipe.sampling, "steps"),
        (recipe.diffusion, "train_steps"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, field, 1)
    hash(recipe)


def test_replace_changes_a_copy():
    recipe = get_recipe("digits_64")
    other = recipe.replace(training={"steps": 7}, scale="paper")
    assert (
        other.training == dataclasses.replace(recipe.training, steps=7) and other.scale == "paper"
    )
    assert other.data == recipe.data
    assert get_recipe("digits_64").training.steps == recipe.training.steps != 7


def test_the_digest_of_a_published_recipe_never_changes():
    # A change here would orphan the artefacts that are published under this name.
    assert digest(get_recipe("digits_64").model_spec) == "9e2fe52d182c3459"


def test_digests_are_distinct():
    digests = {digest(recipe.model_spec) for recipe in EVERYTHING}
    assert len(digests) == len(EVERYTHING) == 2 * 39


def test_whatever_changes_the_members_changes_the_digest_and_sampling_does_not():
    recipe = get_recipe("digits_64")
    same = digest(recipe.model_spec)
    for change in (
        {"data": {"subset_seed": 1}},
        {"code": {"seed": 1}},
        {"network": {"layers_per_block": 2}},
        {"training": {"seed": 1}},
        {"diffusion": {"beta_end": 0.01}},
    ):
        assert digest(recipe.replace(**change).model_spec) != same
    assert digest(recipe.replace(sampling={"steps": 10}).model_spec) == same


def test_a_field_at_its_default_does_not_change_a_digest():
    bare = Data("mnist", "test", 10)
    written_out = Data("mnist", "test", 10, "image", 0, 0, "pixel", False, False, 0.5, 2.0)
    assert digest(spec_of(bare)) == digest(spec_of(written_out))
    later = dataclasses.make_dataclass(
        "Later", [("added", float, 0.0)], bases=(Training,), frozen=True
    )
    assert digest(spec_of(later(steps=5, seed=3))) == digest(spec_of(Training(steps=5, seed=3)))
    assert digest(spec_of(later(steps=5, seed=3, added=1.0))) != digest(
        spec_of(Training(steps=5, seed=3))
    )


def test_required_fields_are_always_in_the_spec():
    assert spec_of(Network((8, 8))) == {"channels": (8, 8)}
    assert spec_of(Training(steps=3)) == {"steps": 3}


def test_a_near_miss_is_told_the_closest_name():
    with pytest.raises(
        UnknownName, match="^unknown ensemble 'mnist_1000'; did you mean 'mnist_1024'[?]$"
    ):
        get_recipe("mnist_1000")


@pytest.mark.parametrize(
    "printed, name",
    [("MNIST_1024", "mnist_1024"), ("CIFAR-10_500", "cifar10_500"), ("MetFaces", "metfaces")],
)
def test_a_name_as_the_paper_prints_it_is_recognised_or_corrected(printed, name):
    try:
        assert get_recipe(printed).name == name
    except UnknownName as error:
        assert f"did you mean '{name}'?" in str(error)


def test_an_unknown_scale_is_told_the_two_there_are():
    with pytest.raises(UnknownName, match="^unknown scale 'huge'; known: laptop, paper$"):
        get_recipe("digits_64", "huge")


@pytest.mark.parametrize("scale", SCALES)
def test_latent_ensembles_have_the_papers_latents(scale):
    latent = [
        recipe for recipe in EVERYTHING if recipe.scale == scale and recipe.data.space != "pixel"
    ]
    assert len(latent) == 8 + 1
    assert all(
        state_shape(recipe.data) == ((4, 8, 8) if recipe.name == "mnist_ba_256" else (4, 32, 32))
        for recipe in latent
    )
    # which autoencoder it is, is not known before it is trained or fetched
    assert not any(recipe.data.autoencoder for recipe in EVERYTHING)


def test_a_family_is_ordered_by_size_and_unmixed():
    assert family_of("digits_256") == [f"digits_{size}" for size in DIGITS_SIZES]
    assert family_of("fashion_512") == [
        f"fashion_{k}" for k in (256, 384, 512, 1024, 2048, 4096, 8192)
    ]
    assert family_of("cifar10_500") == ["cifar10_500", "cifar10_50000"]
    assert family_of("cifar100_500") == ["cifar100_500", "cifar100_50000"]
    assert family_of("mnist_classes") == ["mnist_classes"]
    assert family_of("celeba_ba_512") == ["celeba_ba_512", "celeba_ba_8192"]


@pytest.fixture
def empty_store(tmp_path):
    return Store(tmp_path / "cache", tmp_path / "published")


def test_status_of_an_ensemble_whose_images_are_here(empty_store):
    found = status("digits_64", here=Here(empty_store))
    assert (found.name, found.scale, found.runs) == ("digits_64", "laptop", True)
    assert found.note == "can be trained here: its images are at hand"


def test_status_of_a_latent_ensemble_without_images_says_what_to_download(
    empty_store, monkeypatch, tmp_path
):
    monkeypatch.setattr("abc_lib.images.training_set.data_roots", lambda: [tmp_path / "nothing"])
    found = status("metfaces", here=Here(empty_store))
    assert (
        not found.runs
        and "metfaces/" in found.note
        and "ABC_DATA" in found.note
        and "\n" not in found.note
    )


def test_status_without_images_names_the_remedies(empty_store, monkeypatch, tmp_path):
    monkeypatch.setattr("abc_lib.images.training_set.data_roots", lambda: [tmp_path / "nothing"])
    found = status("mnist_256", here=Here(empty_store))
    assert (
        "ABC_DATA" in found.note
        and "mnist/" in found.note
        and "data/raw" in found.note
        and "download" in found.note
    )
    assert "\n" not in found.note


def test_status_of_a_damaged_artefact_is_a_line_not_a_crash(empty_store):
    recipe = get_recipe("digits_64")
    folder = empty_store.published / "ensemble" / Store.folder_name(recipe.label, recipe.model_spec)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    found = status("digits_64", here=Here(empty_store))
    assert not found.runs and "is refused" in found.note and "\n" not in found.note


def test_status_of_an_unknown_name_is_an_error(empty_store):
    with pytest.raises(UnknownName):
        status("mnist_1000", here=Here(empty_store))


def test_all_statuses_cover_the_registry_in_order(empty_store):
    statuses = all_statuses(here=Here(empty_store))
    assert [each.name for each in statuses] == recipe_names()
    assert all(each.note and "\n" not in each.note for each in statuses)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data": {"size": 0}}, "^size is 0; it must be"),
        ({"data": {"num_sources": 2.5}}, "^num_sources is 2.5; it must be"),
        ({"code": {"n": "14"}}, "^n is '14'; it must be"),
        ({"code": {"weight": 14}}, "^weight 14 of 14 members leaves none"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_when_it_is_made(change, message):
    with pytest.raises(BadValue, match=message):
        get_recipe("digits_64").replace(**change)
