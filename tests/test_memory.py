"""What members remember: distances beside placebos, against ablating by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store, Workspace
from abc_lib.images.training_set import training_set
from abc_lib.method.code import Codebook
from abc_lib.method.diffusion import alphas_cumprod
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.network import build_network
from abc_lib.method.recipe import Diffusion
from abc_lib.results.placebos import memory
from abc_lib.study import command
from abc_lib.training.lockstep import Lockstep


@pytest.fixture(scope="module", autouse=True)
def fewer():
    """Fewer samples where not their number is the point."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(memory, "ATTRIBUTED", 4)
        patched.setattr(memory, "ALONE", 2)
        patched.setattr(memory, "_DRAWS", 256)
        yield


@pytest.fixture(scope="module")
def measured(trained, tmp_path_factory):
    """What the tiny ensemble remembers, of three samples."""
    here = Here(Store(tmp_path_factory.mktemp("memory"), None), "cpu", jobs=1, progress=False)
    return memory.get(trained.ensemble, 3, here=here), here


# --- codewords that no source owns ---


@pytest.mark.parametrize("n, weight, sources", [(6, 3, 12), (8, 4, 30), (8, 2, 28), (10, 5, 64)])
def test_placebo_codewords_are_the_others(n, weight, sources):
    book = Codebook.draw(n, weight, sources, 3)
    free = book.unowned(10_000)
    owned = {tuple(word) for word in book.words}
    drawn = [tuple(word) for word in free]
    assert len(set(drawn)) == len(drawn) and not owned & set(drawn)
    # with the owned ones they are the whole code, or as many as were asked for
    total = len(owned) + len(drawn)
    assert total == len(set(map(tuple, Codebook.draw(n, weight, total, 0).words)))
    assert free.shape == (total - sources, n) and (free.sum(1) == weight).all()
    assert np.array_equal(book.unowned(5), book.unowned(5))
    if len(free) > 5:
        assert len(book.unowned(5)) == 5
        assert not np.array_equal(book.unowned(5, 0), book.unowned(5, 1))


def test_every_free_codeword_is_as_likely():
    book = Codebook.draw(6, 3, 12, 0)
    drawn = [tuple(book.unowned(1, seed)[0]) for seed in range(1600)]
    counts = [drawn.count(word) for word in set(drawn)]
    # 8 of 20 codewords are free; each is drawn 200 times, give or take four deviations
    assert len(counts) == 8 and all(abs(c - 200) < 4 * (200 * 7 / 8) ** 0.5 for c in counts)


# --- the numbers, by hand ---


def test_distances_and_p_values_are_those_of_ablating_by_hand(trained, measured):
    value, ensemble = measured[0], trained.ensemble
    images, book = training_set(trained.recipe.data), ensemble.codebook
    factual = ensemble.sample(ensemble.draw_noise(0, [2]))
    gallery = images.images.flatten(1)

    def without(word):
        c = torch.tensor([0.0 if bit else 2.0 for bit in word])
        there = ensemble.sample(ensemble.draw_noise(0, [2]), c)
        apart = torch.linalg.vector_norm(gallery - there.flatten(1), dim=1)
        # Pixels 32 times as wide and high, in three equal channels.
        moved = 32 * 3**0.5 * torch.linalg.vector_norm(there - factual)
        return float(moved), (apart - before).numpy()

    before = torch.linalg.vector_norm(gallery - factual.flatten(1), dim=1)
    own = [without(word) for word in book.words]
    others = [without(word) for word in book.unowned(12)]
    assert value.distances[2] == pytest.approx([moved for moved, _ in own], rel=1e-3)
    assert value.placebos[2] == pytest.approx([moved for moved, _ in others], rel=1e-3)
    away = np.array([own[j][1][j] for j in range(12)])
    beaten = np.array([[moved[j] >= away[j] for _, moved in others] for j in range(12)])
    assert value.p_values[2] == pytest.approx((beaten.sum(1) + 1) / 9, abs=1e-6)
    assert value.nearest[2] == int(before.argmin())
    assert value.radii[2] == value.distances[2].max()
    assert value.placebo_radii[2] == value.placebos[2].max()


def test_pictures_are_samples_and_the_images_that_they_lie_nearest_to(trained, measured):
    pictures, ensemble = measured[0].pictures, trained.ensemble
    images = training_set(trained.recipe.data).images
    gallery = {tuple((255 * image).round().int().flatten().tolist()) for image in images}
    drawn = ensemble.sample(ensemble.draw_noise(0, range(8)))
    assert np.abs(pictures["ensemble"] - drawn.numpy()).max() <= 0.5 / 255 + 1e-6
    for whose, count in {"ensemble": 8, "member": 2}.items():
        samples, nearest = pictures[whose], pictures[f"{whose} nearest"]
        assert samples.shape == nearest.shape == (count, 1, 8, 8)
        assert samples.std(axis=0).max() > 0.01
        for sample, image in zip(samples, nearest, strict=True):
            assert tuple((255 * image).round().astype(int).flatten().tolist()) in gallery
            apart = [
                ((image - sample) ** 2).sum(),
                *((images.numpy() - sample) ** 2).sum((1, 2, 3)),
            ]
            assert apart[0] <= min(apart[1:]) + 1e-3
    # The ensemble's nearest images are the sources that landscapes name.
    first = 255 * images[measured[0].nearest[0]]
    assert np.allclose(255 * pictures["ensemble nearest"][0], first)


def test_losses_tell_apart_what_a_member_saw(trained, measured):
    value = measured[0]
    assert value.own_loss.shape == value.other_loss.shape == (6, 4)
    assert np.isfinite(value.own_loss).all() and (value.own_loss > 0).all()
    # An untrained network knows none of them; one that answers with the very noise has no loss.
    nets = [build_network(trained.recipe.network, (1, 8, 8), k).eval() for k in range(6)]
    words = trained.ensemble.codebook.words
    own, other = memory.losses(trained.recipe, nets, words, training_set(trained.recipe.data))
    assert torch.allclose(own, other, rtol=0.3)


class Repeats(torch.nn.Module):
    """A member that sees the same image in all noise."""

    def __init__(self, image):
        super().__init__()
        self.image, self.alphas = torch.nn.Parameter(2 * image - 1), alphas_cumprod(Diffusion())

    def forward(self, x, t):
        a = self.alphas[t][:, None, None, None]
        return (x - a.sqrt() * self.image) / (1 - a).sqrt()


def test_a_member_that_repeats_its_image_has_a_ratio_of_nothing_and_no_loss_on_it(trained):
    images, words = training_set(trained.recipe.data), trained.ensemble.codebook.words
    one = dataclasses.replace(images, images=images.images[[0] * 6 + list(range(6, 12))])
    # Each saw half, and the first six are one image.
    words = np.array([[1, 0]] * 6 + [[0, 1]] * 6)
    members = [Repeats(one.images[0]), Repeats(one.images[7])]
    found = memory.ratios(trained.recipe, members, words, one)
    assert found.shape == (2, 2) and found.max() < 1e-3
    own, other = memory.losses(trained.recipe, members, words, one)
    assert own[0].max() < 1e-6 and other[0].min() > 1e-3


def test_p_values_of_a_source_blind_ensemble_are_uniform(trained, tmp_path):
    """Members that differ, but not by what they saw: no source makes a difference."""
    recipe, images = (
        trained.recipe.replace(sampling={"steps": 3}),
        training_set(trained.recipe.data),
    )
    means = []
    for seed in range(12):
        nets = [build_network(recipe.network, (1, 8, 8), 100 * seed + k) for k in range(6)]
        blind = Ensemble(recipe, Codebook.draw(6, 3, 12, seed), nets)
        space = Workspace(tmp_path / str(seed))
        memory._task(blind, blind.draw_noise(seed, [0]), images, 8, 256, space, "sample")
        means.append(float(space.load("sample")["as_far"].double().mean() / 9))
    # The mean of 1/9, 2/9, ..., 9/9; p-values of one ensemble share their placebos.
    assert abs(np.mean(means) - 5 / 9) < 4 * np.std(means, ddof=1) / 12**0.5
    # Told apart from members that do know: there the mean lies farther below than that.
    assert np.std(means, ddof=1) / 12**0.5 < 0.05


# --- the life of a result ---


def test_what_was_measured_is_found_again_without_members(trained, measured):
    value, here = measured
    again = memory.stored(trained.recipe, here)
    assert np.array_equal(again.distances, value.distances)
    assert again.exposure == pytest.approx(trained.recipe.exposure) == 16
    assert memory.stored(trained.recipe.exposed(32), here) is None
    assert "saw each image 16 times" in memory.origin(value)
    # At whatever exposure: nobody has to know which ones were measured.
    assert [one.exposure for one in memory.every(trained.recipe.exposed(500), here)] == [16]


def test_more_samples_take_over_those_that_were_measured(trained, measured, tmp_path, monkeypatch):
    here, real, calls = Here(Store(tmp_path, None), "cpu", jobs=1, progress=False), memory._task, []
    memory.get(trained.ensemble, 2, here=here)
    memory.get(trained.ensemble, 1, seed=1, here=here)
    monkeypatch.setattr(memory, "_task", lambda *more: calls.append(more) or real(*more))
    more = memory.get(trained.ensemble, 3, here=here)
    assert len(calls) == 1
    for name in ("distances", "placebos", "p_values", "nearest", "own_loss", "ratios"):
        assert np.array_equal(getattr(more, name), getattr(measured[0], name))
    # Of another seed nothing is taken, and fewer samples than there are need no work.
    memory.get(trained.ensemble, 2, seed=1, here=here)
    assert len(calls) == 2
    fewer = memory.get(trained.ensemble, 1, here=here)
    assert len(calls) == 2 and np.array_equal(fewer.radii, more.radii[:1])


def test_a_stopped_measurement_goes_on(trained, measured, tmp_path, monkeypatch):
    store = Store(tmp_path, None)
    here, real, calls = Here(store, "cpu", jobs=1, progress=False), memory._task, []

    def task(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(arguments)
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(memory, "_task", task)
        with pytest.raises(KeyboardInterrupt):
            memory.get(trained.ensemble, 3, here=here)
    done = []
    monkeypatch.setattr(memory, "_task", lambda *a: (done.append(a), real(*a))[1])
    assert np.array_equal(memory.get(trained.ensemble, 3, here=here).p_values, measured[0].p_values)
    assert len(done) == 1


def test_latents_are_refused(trained):
    recipe = trained.recipe.replace(data={"space": "basic"})
    parts = trained.ensemble.codebook, trained.ensemble.members
    latent = Ensemble(recipe, *parts, space=trained.ensemble.space)
    with pytest.raises(BadValue, match="in pixels only"):
        memory.KIND.build(latent, {}, None, Here())


@pytest.mark.parametrize("schedule, steps", [("constant", 12), ("cosine", 12 + 6 + 3)])
def test_one_command_trains_once_what_one_training_passes_through(
    trained, tmp_path, monkeypatch, argv, capsys, schedule, steps
):
    recipe = trained.recipe.replace(training={"schedule": schedule, "block": 6})
    monkeypatch.setenv("ABC_CACHE", str(tmp_path))
    monkeypatch.setattr(command, "get_recipe", lambda name: recipe)
    monkeypatch.setattr(memory.KIND, "publish", lambda found, here: found)
    real, taken = Lockstep.step, []
    monkeypatch.setattr(Lockstep, "step", lambda self, k: taken.append(k) or real(self, k))
    argv("remember", "tiny", "--exposures", "4", "authors", "8", "--samples", "2")
    assert command.main() == 0
    assert len(taken) == steps
    paths = capsys.readouterr().out.split()
    found = [memory.stored(recipe.exposed(times)) for times in (16, 8, 4)]
    assert [str(value.artefact.path) for value in found] == paths
    assert len({value.distances.tobytes() for value in found}) == 3
