"""What ships with the repository: whole, regenerable, and saying what the book says."""

import numpy as np
import pytest

import abc_lib as abc
from abc_lib import datasets
from abc_lib.paths import PUBLISHED
from abc_lib.recipes import DIGITS_SIZES
from abc_lib.store import Store, _open

FOLDERS = sorted(path for path in PUBLISHED.glob("*/*") if path.is_dir())
DIGITS = [f"digits_{size}" for size in DIGITS_SIZES]


@pytest.fixture
def nothing_computed_here(tmp_path):
    """A store with what is published and an empty cache."""
    return Store(tmp_path)


@pytest.mark.parametrize("path", FOLDERS, ids=lambda p: p.name)
def test_every_published_artefact_is_whole(path):
    _open(path, path.parent.name).verify()


@pytest.mark.parametrize("name", [*DIGITS, "mnist_1024"])
def test_published_radii_are_regenerated_by_the_published_members(name, nothing_computed_here, monkeypatch, tmp_path):
    # Without any data set at hand: the members and the noise are all that it takes.
    monkeypatch.setattr(datasets, "data_roots", lambda: [tmp_path])
    result = abc.run(name, store=nothing_computed_here, device="cpu")
    assert result.landscapes.published and result.ensemble.artefact.published
    assert result.landscapes.num_sources == abc.get_recipe(name).data.num_sources
    (check,) = abc.regenerate(result.ensemble, result.landscapes, [1])
    # Another processor rounds otherwise; 50 steps let that grow a little.
    assert check.now == pytest.approx(check.stored, rel=1e-2)


@pytest.mark.parametrize("name", [*DIGITS, "mnist_1024"])
def test_published_ensembles_stay_small_and_know_where_they_come_from(name):
    recipe = abc.get_recipe(name)
    packed = Store().find("ensemble", recipe.label, recipe.model_spec)
    assert sum(file["bytes"] for file in packed.manifest["files"].values()) < 12 * 2**20
    assert packed.info["origin"] and packed.provenance["commit"] not in ("", "unknown")


def test_mean_log_radius_falls_along_the_digits_family(nothing_computed_here):
    """The page says so; were it not so any more, the page would have to say that."""
    summaries = abc.summarise_all(abc.family_radii("digits_256", store=nothing_computed_here))
    assert [s.name for s in summaries] == DIGITS
    law = abc.fit_law(summaries)
    assert law.slope < 0 and summaries[-1].mean < summaries[0].mean


@pytest.mark.parametrize("name", DIGITS)
def test_attributed_training_images_are_those_of_the_source(name, nothing_computed_here):
    landscapes = abc.stored_landscapes(name, store=nothing_computed_here)
    images = abc.training_set(abc.get_recipe(name).data)
    assert np.array_equal(landscapes.attributed_images, images.images[landscapes.attributed_sources])
