"""A named ensemble with its landscapes, wherever they come from."""

import dataclasses
import shutil

import numpy as np
import pytest
from small import own_store, tiny_classes, tiny_recipe

from abc_lib.ground import paths
from abc_lib.ground.errors import AbcError, BadValue, DataMissing, UnknownName
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.images.autoencoders import stable
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.method.ensemble import Ensemble
from abc_lib.results import retraining as retraining_room
from abc_lib.results import run as runs
from abc_lib.results.class_counts import get as class_run
from abc_lib.results.class_counts import origin as classes_origin
from abc_lib.results.comparisons import get as compare_counterfactuals
from abc_lib.results.comparisons import origin as comparisons_origin
from abc_lib.results.comparisons import stored as stored_comparisons
from abc_lib.results.jacobians import compute as compute_jacobians
from abc_lib.results.jacobians import get as get_jacobians
from abc_lib.results.jacobians import origin as jacobians_origin
from abc_lib.results.jacobians import stored as stored_jacobians
from abc_lib.results.landscapes import compute as compute_landscapes
from abc_lib.results.landscapes import origin as landscapes_origin
from abc_lib.results.landscapes import read as read_landscapes
from abc_lib.results.landscapes import stored as stored_landscapes
from abc_lib.results.measures import radii as radii_room
from abc_lib.results.measures.radii import of_family as family_radii
from abc_lib.results.measures.radii import summaries as summarise_all
from abc_lib.results.retraining import origin as retraining_origin
from abc_lib.results.retraining import run as retraining_run
from abc_lib.results.run import (
    all_statuses,
    predictions,
    published_origin,
    run,
    status,
    stored_predictions,
)
from abc_lib.training.batches import Batches as _Batches
from abc_lib.training.ensembles import get_ensemble, pack_ensemble

TINY = tiny_recipe()
QUIET = {"jobs": 1, "progress": False, "device": "cpu"}


@pytest.fixture(autouse=True)
def tiny_registry(monkeypatch):
    """Every digits recipe in the registry is as small as the tiny one, under its own name."""

    def get(name, scale="laptop"):
        recipe = get_recipe(name, scale)
        return (
            dataclasses.replace(tiny_recipe(), name=name, scale=scale)
            if name.startswith("digits")
            else recipe
        )

    monkeypatch.setattr(runs, "get_recipe", get)
    monkeypatch.setattr(radii_room, "get_recipe", get)
    return get


@pytest.fixture
def with_members(store, trained):
    """A store whose cache holds the trained tiny ensemble."""
    shutil.copytree(trained.store.cache, store.cache)
    return store


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*_):
        raise AssertionError("something is being trained")

    monkeypatch.setattr(_Batches, "indices", refuse)


def landscapes_of(ensemble, indices, store, **options):
    return compute_landscapes(
        ensemble, indices, here=Here(store, jobs=1, progress=False), **options
    )


def test_a_run_with_nothing_there_trains_and_computes(store, trained):
    made = run("digits_64", 2, here=Here(store, **QUIET))
    assert made.recipe == trained.recipe and made.ensemble.identity == trained.ensemble.identity
    assert made.landscapes.indices.tolist() == [0, 1] and made.landscapes.distances.shape == (2, 12)
    assert not store.published.exists()
    text = made.origin()
    assert (
        "\n" not in text
        and "**digits_64**, scale *laptop*: 12 images" in text
        and "12 data sources" in text
    )
    assert (
        "6 members of weight 3" in text
        and "12 steps of batch 8" in text
        and "from this machine" in text
    )
    assert "2 samples with 12 counterfactuals each" in text and "published" not in text


def test_without_a_number_a_run_computes_twelve_samples(with_members, no_training):
    assert run("digits_64", here=Here(with_members, **QUIET)).landscapes.indices.tolist() == list(
        range(12)
    )


def test_without_a_number_a_run_takes_what_is_there(
    with_members, trained, no_training, monkeypatch
):
    landscapes_of(trained.ensemble, [0, 1, 4], with_members)
    monkeypatch.setattr(Ensemble, "sample", None)
    assert run("digits_64", here=Here(with_members, **QUIET)).landscapes.indices.tolist() == [
        0,
        1,
        4,
    ]
    assert run("digits_64", 2, here=Here(with_members, **QUIET)).landscapes.indices.tolist() == [
        0,
        1,
    ]


def test_published_results_are_enough(store, trained, no_training, monkeypatch):
    pack_ensemble(trained.recipe, trained.artefacts, here=Here(store))
    made = landscapes_of(trained.ensemble, [0, 1], Store(store.cache / "elsewhere", None))
    store.copy(made, "landscape")
    shutil.rmtree(store.cache)
    monkeypatch.setattr(Ensemble, "sample", None)
    found = run("digits_64", here=Here(store, **QUIET))
    assert (
        found.landscapes.indices.tolist() == [0, 1]
        and found.ensemble.identity == trained.ensemble.identity
    )
    assert not store.cache.exists()


def test_what_a_store_published_counts_as_published(store, trained):
    # Also where it publishes to another folder than the repository's.
    packed = pack_ensemble(trained.recipe, trained.artefacts, here=Here(store))
    store.copy(landscapes_of(trained.ensemble, [0], store), "landscape")
    found = run("digits_64", here=Here(store, **QUIET))
    assert (
        packed.published
        and found.landscapes.published
        and "published with this repository" in found.origin()
    )


def test_recompute_passes_over_what_is_published(store, trained):
    pack_ensemble(trained.recipe, trained.artefacts, here=Here(store))
    store.copy(
        landscapes_of(trained.ensemble, [0, 1], Store(store.cache / "elsewhere", None)), "landscape"
    )
    made = run("digits_64", 1, here=Here(store, **QUIET).anew())
    assert (
        store.cache in made.ensemble.artefact.path.parents
        and made.ensemble.identity == trained.ensemble.identity
    )
    assert [store.cache in a.path.parents for a in made.landscapes.artefacts] == [True]
    assert len(list((store.cache / "member").iterdir())) == 6


@pytest.mark.parametrize(
    "arguments, kind",
    [
        (("digits_63",), UnknownName),
        (("digits_64", 2, 0, "desk"), UnknownName),
        (("celeba_sd_512",), DataMissing),
        (("digits_64", 0), BadValue),
        (("digits_64", "two"), BadValue),
    ],
)
def test_a_slip_gives_one_line_before_anything_is_trained(
    store, no_training, arguments, kind, one_line
):
    with pytest.raises(kind) as error:
        run(here=Here(store, **QUIET), *arguments)
    assert one_line(error) and not store.cache.exists()


def test_a_wrong_device_gives_one_line_before_anything_is_trained(store, no_training, one_line):
    with pytest.raises(AbcError, match="abacus") as error:
        run("digits_64", 1, here=Here(store, "abacus", jobs=1, progress=False))
    assert one_line(error)


# --- stored landscapes without an ensemble ---


def test_stored_landscapes_need_no_members(store, trained):
    assert stored_landscapes(TINY, here=Here(store)) is None
    landscapes_of(trained.ensemble, [0, 2], store)
    landscapes_of(trained.ensemble, [2, 1], store)
    found = stored_landscapes(TINY, here=Here(store))
    assert found.indices.tolist() == [0, 1, 2] and len(found.artefacts) == 2
    assert landscapes_origin(found).count("2 samples with 12 counterfactuals each") == 2


def test_stored_landscapes_are_those_of_the_published_ensemble(store, trained):
    pack_ensemble(trained.recipe, trained.artefacts, here=Here(store))
    landscapes_of(dataclasses.replace(trained.ensemble, identity="another"), [0, 1, 2], store)
    assert stored_landscapes(TINY, here=Here(store)) is None
    landscapes_of(trained.ensemble, [5], store)
    assert stored_landscapes(TINY, here=Here(store)).indices.tolist() == [5]


def test_of_several_ensembles_or_seeds_that_with_most_samples_is_taken(store, trained):
    landscapes_of(dataclasses.replace(trained.ensemble, identity="another"), [0], store)
    landscapes_of(trained.ensemble, [0, 1], store, seed=4)
    landscapes_of(trained.ensemble, [3], store, seed=5)
    found = stored_landscapes(TINY, here=Here(store))
    assert found.indices.tolist() == [0, 1] and found.seed == 4


def test_stored_landscapes_of_two_samplers_are_not_mixed(store, trained):
    landscapes_of(trained.ensemble, [0, 1], store)
    landscapes_of(
        dataclasses.replace(
            trained.ensemble, recipe=trained.recipe.replace(sampling={"sampler": "ddim"})
        ),
        [1, 2, 3],
        store,
    )
    assert stored_landscapes(TINY, here=Here(store)).indices.tolist() in ([0, 1], [1, 2, 3])


def test_stored_landscapes_of_another_recipe_under_the_same_name_do_not_count(store, trained):
    """A reader's own variant of a recipe is not shown as the recipe itself."""
    variant = trained.recipe.replace(training={"steps": 2})
    landscapes_of(
        dataclasses.replace(trained.ensemble, recipe=variant, identity="variant"), [0, 1, 2], store
    )
    landscapes_of(trained.ensemble, [7], store)
    assert stored_landscapes(TINY, here=Here(store)).indices.tolist() == [7]


def test_radii_of_a_family_by_size(store, trained):
    assert family_radii(get_recipe("digits_256"), here=Here(store)) == {}
    for name in ("digits_1024", "digits_64"):
        ensemble = dataclasses.replace(
            trained.ensemble, recipe=dataclasses.replace(trained.recipe, name=name)
        )
        landscapes_of(ensemble, [0, 1], store)
    radii = family_radii(get_recipe("digits_256"), here=Here(store))
    assert list(radii) == ["digits_64", "digits_1024"]
    for values in radii.values():
        expected = read_landscapes(
            landscapes_of(trained.ensemble, [0, 1], Store(store.cache / "alone", None))
        )
        np.testing.assert_array_equal(values, expected.distances.max(1))
    summaries = summarise_all({"digits_64": radii["digits_64"]})
    assert summaries[0].name == "digits_64" and summaries[0].count == 2
    assert summaries[0].mean == pytest.approx(np.log10(radii["digits_64"]).mean())


# --- what can be done here ---


def test_every_name_has_a_status_of_one_line(store, one_line):
    for scale in ("laptop", "paper"):
        found = all_statuses(scale, here=Here(store))
        assert [s.name for s in found] == recipe_names()
        assert all(one_line(s.note) and s.scale == scale for s in found)
    assert not store.cache.exists()


def test_a_status_tells_what_is_there(with_members, trained, store):
    assert (
        status("digits_128", here=Here(store)).note == "can be trained here: its images are at hand"
    )
    assert status("digits_64", here=Here(store)) == runs.Status(
        "digits_64", "laptop", True, "trained on this machine"
    )
    landscapes_of(trained.ensemble, [0, 3], store)
    assert (
        status("digits_64", here=Here(store)).note
        == "trained on this machine, 2 samples with landscapes"
    )
    pack_ensemble(trained.recipe, trained.artefacts, here=Here(store))
    assert status("digits_64", here=Here(store)).note == "published, 2 samples with landscapes"


def test_a_status_tells_what_is_missing(store, monkeypatch, tmp_path):
    monkeypatch.delenv("ABC_DATA", raising=False)
    monkeypatch.setattr(paths, "RAW", tmp_path / "raw")
    for name, folder in (("mnist_1024", "mnist/"), ("cifar10_1024", "cifar10")):
        if name in recipe_names():
            found = status(name, here=Here(store))
            assert not found.runs and "not at hand" in found.note and folder in found.note
    monkeypatch.delenv("ABC_WEIGHTS", raising=False)
    monkeypatch.setattr(stable, "_cached", lambda: None)
    latent = status("celeba_sd_512", here=Here(store))
    assert not latent.runs and "celeba/" in latent.note and "ABC_WEIGHTS" in latent.note
    # With the images alone it still lacks the weights, and with both it runs.
    monkeypatch.setattr(runs, "available", lambda family, split: True)
    latent = status("celeba_sd_512", here=Here(store))
    assert not latent.runs and "ABC_WEIGHTS" in latent.note and "celeba/" not in latent.note
    monkeypatch.setattr(stable, "at_hand", lambda: True)
    assert status("celeba_sd_512", here=Here(store)).runs


def test_a_damaged_artefact_shows_in_the_status(with_members, one_line):
    path = next(with_members.cache.glob("member/*-m02-*/manifest.json"))
    path.write_bytes(path.read_bytes()[:-2])
    found = status("digits_64", here=Here(with_members))
    assert not found.runs and "refused" in found.note and one_line(found.note)
    assert status("digits_128", here=Here(with_members)).runs


def test_stored_jacobians_are_those_of_the_ensemble_with_most_samples(store, trained):
    assert stored_jacobians(TINY, here=Here(store)) is None
    options = {"here": Here(store, jobs=1, progress=False)}
    compute_jacobians(trained.ensemble, [0], seed=1, **options)
    compute_jacobians(trained.ensemble, [3, 1], **options)
    found = stored_jacobians(TINY, here=Here(store))
    assert (found.seed, found.indices.tolist()) == (0, [1, 3])
    text = jacobians_origin(found)
    assert text.startswith(
        "Jacobians: of 2 samples, from this machine, computed on "
    ) and text.endswith(" s).")


def test_predictions_match_samples_by_number(store, trained):
    landscapes = read_landscapes(landscapes_of(trained.ensemble, [5, 0, 2], store))
    jacobians = get_jacobians(trained.ensemble, [2, 4, 5], here=Here(store, jobs=1, progress=False))
    found = predictions(landscapes, jacobians, trained.ensemble.codebook)
    assert found.indices.tolist() == [5, 2]
    assert np.array_equal(found.exact, landscapes.distances[[0, 2]])
    assert np.allclose(found.predicted, jacobians.landscape(trained.ensemble.codebook)[[2, 0]])
    assert list(stored_predictions(here=Here(store))) == ["digits_64"]
    again = stored_predictions(here=Here(store))["digits_64"]
    assert again.indices.tolist() == [2, 5] and np.allclose(again.predicted, found.predicted[::-1])


def test_predictions_of_other_samples_or_another_seed_are_an_error(store, trained, one_line):
    landscapes = read_landscapes(landscapes_of(trained.ensemble, [0], store))
    for indices, seed in (([1], 0), ([0], 7)):
        jacobians = get_jacobians(
            trained.ensemble, indices, seed, here=Here(store, jobs=1, progress=False)
        )
        with pytest.raises(BadValue, match="both") as error:
            predictions(landscapes, jacobians, trained.ensemble.codebook)
        assert one_line(error)


def test_stored_comparisons_have_each_sample_once_and_all_sources(store, trained):
    options = {"here": Here(store, jobs=1, progress=False)}
    compare_counterfactuals(trained.ensemble, [0, 1], **options)
    compare_counterfactuals(trained.ensemble, [1], switches=[3], **options)
    compare_counterfactuals(trained.ensemble, [2], sources=[0, 4], **options)
    found = stored_comparisons(TINY, here=Here(store))
    assert [(each.indices.tolist(), each.switches.tolist()) for each in found] == [
        ([1], [3]),
        ([0], []),
    ]
    assert found[0].errors.shape == (1, 1, 12) and found[1].exact.shape == (1, 12)
    text = comparisons_origin(found)
    assert (
        "switched after 3 steps" in text
        and "1 sample with 12 counterfactuals each, from this machine" in text
    )


def test_hybrid_landscapes_are_not_taken_for_stored_ones(store, trained):
    landscapes_of(trained.ensemble, [0, 1], store, tangent_steps=3)
    assert stored_landscapes(TINY, here=Here(store)) is None


# --- retraining and classes ---


def test_landscapes_by_retraining_are_computed_once_and_then_found(
    with_members, no_training_after, capsys
):
    found = retraining_run(TINY, range(3), sources=[4, 1], here=Here(with_members, **QUIET))
    assert found.indices.tolist() == [0, 1, 2] and found.sources.tolist() == [4, 1]
    no_training_after()
    again = retraining_run(TINY, [2, 0], sources=[1], here=Here(with_members, **QUIET))
    np.testing.assert_array_equal(again.distances, found.distances[[2, 0]][:, [1]])
    assert retraining_run(TINY, here=Here(with_members, **QUIET)).sources.tolist() == [4, 1]
    text = retraining_origin(found)
    assert (
        "3 models with the training seed 0" in text
        and "replaced by black ones" in text
        and "2 of 12 counterfactuals" in text
    )


@pytest.fixture
def no_training_after(monkeypatch):
    def arrange():
        monkeypatch.setattr(
            retraining_room, "get_retrained", lambda *_, **__: pytest.fail("trained again")
        )

    return arrange


def test_variants_of_an_ensemble_are_found_by_their_recipe(with_members):
    other = tiny_recipe().replace(training={"seed": 1})
    assert stored_landscapes(other, here=Here(with_members)) is None
    ensemble = get_ensemble(other, here=Here(with_members, "cpu", jobs=1, progress=False))
    made = read_landscapes(
        compute_landscapes(ensemble, [0, 1], here=Here(with_members, jobs=1, progress=False))
    )
    np.testing.assert_array_equal(
        stored_landscapes(other, here=Here(with_members)).distances, made.distances
    )
    base = stored_landscapes(TINY, here=Here(with_members))
    assert base is None or not np.array_equal(base.distances[:2], made.distances)


def test_classes_that_were_never_counted_are_computed_only_if_asked(store, monkeypatch):
    assert class_run(tiny_classes(4), compute_missing=False, here=Here(store, **QUIET)) is None
    shutil.copytree(paths.PUBLISHED / "classifier", store.published / "classifier")
    counts = class_run(tiny_classes(4), 4, here=Here(store, **QUIET))
    assert [each.method for each in counts] == ["ablation", "retraining"] and all(
        each.samples == 4 for each in counts
    )
    found = class_run(tiny_classes(4), compute_missing=False, here=Here(store, **QUIET))
    assert [each.counts.tolist() for each in found] == [each.counts.tolist() for each in counts]
    assert "4 samples for each of 11 weightings of the ensemble" in classes_origin(
        counts
    ) and "digits-laptop classifier" in classes_origin(counts)


def test_what_is_published_says_where_and_when(trained, tmp_path):
    store = own_store(trained, tmp_path)
    assert published_origin(here=Here(store)) == "Nothing is published here."
    store.copy(trained.artefacts[0], "member")
    text = published_origin(here=Here(store))
    assert (
        text.startswith("1 published result, computed on ")
        and trained.artefacts[0].provenance["time"][:10] in text
        and "1 commit;" in text
    )
