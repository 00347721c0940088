"""Landscapes: every counterfactual is that of the survivors alone, however the work is cut up."""

import dataclasses
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import budget
from stops import until_done

from abc_lib.ground import tasks as task_room
from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.digests import spec_of
from abc_lib.ground.errors import ArtefactError, BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store, Workspace
from abc_lib.images import training_set as datasets
from abc_lib.images.registry import get_recipe
from abc_lib.method.code import Codebook
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.network import NoisePredictor
from abc_lib.method.recipe import SHAPES, Code
from abc_lib.method.space import to_images
from abc_lib.metrics.base import FeatureMetric, l2_distance
from abc_lib.metrics.names import get_metric
from abc_lib.results import landscapes as computing
from abc_lib.results.landscapes import attributed_image, metric_radii, read_all_images, regenerate
from abc_lib.results.landscapes import compute as compute_landscapes
from abc_lib.results.landscapes import find as find_landscapes
from abc_lib.results.landscapes import get as get_landscapes
from abc_lib.results.landscapes import read as read_landscapes
from abc_lib.results.landscapes import stored as stored_landscapes
from abc_lib.training.ensembles import find_ensemble, train_ensemble


def network(recipe, artefact):
    """A member from its file."""
    net = NoisePredictor(recipe.network, SHAPES[recipe.data.family], recipe.diffusion).eval()
    net.load_state_dict(
        {name: value.float() for name, value in artefact.tensors("member.safetensors").items()}
    )
    return net


@torch.inference_mode()
def sample_by_hand(recipe, members, noise):
    """Ho et al.'s ancestral sampler with strided time steps (or DDIM), for the plain mean of some
    members.
    """
    alphas = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    stride = 1000 // recipe.sampling.steps
    x, clip = noise.initial.clone(), recipe.sampling.clip
    for k, t in enumerate(reversed(range(0, stride * recipe.sampling.steps, stride))):
        eps = sum(net(x, torch.full((len(x),), t)) for net in members) / len(members)
        a, before = alphas[t], alphas[t - stride] if t else torch.tensor(1.0, dtype=torch.float64)
        x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
        x0 = x0 if clip is None else x0.clamp(-clip, clip)
        if recipe.sampling.sampler == "ddim":
            x = before.sqrt() * x0 + (1 - before).sqrt() * eps
        else:
            beta = 1 - a / before
            mean = (
                before.sqrt() * beta / (1 - a) * x0 + (1 - beta).sqrt() * (1 - before) / (1 - a) * x
            )
            x = mean + ((1 - before) / (1 - a) * beta).sqrt() * noise.steps[k] if t else mean
        x = x.float()
    return to_images(x, recipe.data)


def distance_by_hand(a, b):
    large = [
        F.interpolate(image[None].double(), size=(256, 256), mode="nearest")[0].expand(3, 256, 256)
        for image in (a, b)
    ]
    return (large[0] - large[1]).square().sum().sqrt().item()


def compute(ensemble, indices, store, jobs=1, memory="2GiB", **options):
    here = Here(store, "cpu", jobs, memory, progress=False)
    return compute_landscapes(ensemble, indices, here=here, **options)


def files(artefact):
    return {name: artefact.read(name) for name in artefact.manifest["files"]}


def other_code(trained, codebook, **recipe):
    """The same members under another code: enough to test arithmetic with."""
    changed = trained.recipe.replace(**recipe)
    return Ensemble(
        changed,
        codebook,
        trained.ensemble.members,
        f"{codebook.num_sources} of weight {codebook.weight}",
    )


@pytest.fixture(scope="session")
def three(trained, tmp_path_factory):
    """Landscapes of samples 0, 1, 2 of the tiny ensemble with every image, in one block."""
    store = Store(tmp_path_factory.mktemp("three"), None)
    return compute(trained.ensemble, [0, 1, 2], store, all_images=True, keep=3)


HALF = 2**-11
"""by how much half precision rounds what is shown, at most, of values from 0 to 1"""


# --- what a counterfactual is ---


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_counterfactual_is_the_survivors_alone(trained, three, store, sampler):
    recipe, ensemble, artefact = trained.recipe, trained.ensemble, three
    if sampler == "ddim":
        recipe = recipe.replace(sampling={"sampler": "ddim"})
        ensemble = dataclasses.replace(ensemble, recipe=recipe)
        artefact = compute(ensemble, [0, 1, 2], store, all_images=True)
    read, noise = read_landscapes(artefact), ensemble.draw_noise(0, [0, 1, 2])
    found = torch.stack([read_all_images(artefact, index) for index in (0, 1, 2)])
    members = [network(recipe, a) for a in trained.artefacts]
    factual = sample_by_hand(recipe, members, noise)
    torch.testing.assert_close(read.factual, factual, rtol=0, atol=HALF)
    for source in range(12):
        # Read anew from the survivors' files: the other members are not even loaded.
        alive = [
            network(recipe, a)
            for a, saw in zip(trained.artefacts, ensemble.codebook.words[source])
            if not saw
        ]
        assert len(alive) == 3
        expected = sample_by_hand(recipe, alive, noise)
        torch.testing.assert_close(found[:, source], expected, rtol=0, atol=1e-5)
        for row in range(3):
            assert read.distances[row, source] == pytest.approx(
                distance_by_hand(factual[row], expected[row]), abs=2e-3
            )
            assert read.distances[row, source] == pytest.approx(
                distance_by_hand(read.factual[row], found[row, source]), rel=1e-3
            )
        # And they are other images than the factuals, else all of this would show nothing.
        assert read.distances[:, source].min() > 0.1


def test_a_code_of_weight_2_of_6_works(trained, store):
    ensemble = other_code(trained, Codebook.draw(6, 2, 12, 0), code=Code(6, 2))
    artefact = compute(ensemble, [4], store, all_images=True)
    noise, found = ensemble.draw_noise(0, [4]), read_all_images(artefact, 4)
    for source in range(12):
        alive = [
            m for i, m in enumerate(ensemble.members) if ensemble.codebook.words[source, i] == 0
        ]
        assert len(alive) == 4
        torch.testing.assert_close(
            found[source], sample_by_hand(ensemble.recipe, alive, noise)[0], rtol=0, atol=1e-5
        )


def test_a_counterfactual_does_not_change_when_its_source_was_never_there(trained, tmp_path):
    code = trained.ensemble.codebook
    source, store = 7, Store(tmp_path, None)
    train_ensemble(
        trained.recipe,
        trained.images.without(source),
        here=Here(store, "cpu", jobs=1, progress=False),
    )
    without = find_ensemble(trained.recipe, here=Here(store))
    assert without.identity != trained.ensemble.identity
    for noise in (trained.ensemble.draw_noise(0, [0, 1, 2]), trained.ensemble.draw_noise(5, [0])):
        weights, owner = (
            code.leave_one_out(np.full(len(noise) * 2, source)),
            torch.arange(len(noise)).repeat(2),
        )
        assert torch.equal(
            without.sample(noise, weights, owner), trained.ensemble.sample(noise, weights, owner)
        )
        assert torch.equal(
            without.sample(noise, code.ablation(source)),
            trained.ensemble.sample(noise, code.ablation(source)),
        )
        # The factual did change: what was removed had mattered.
        assert not torch.equal(without.sample(noise), trained.ensemble.sample(noise))


def test_an_ablated_member_cannot_reach_a_counterfactual_even_with_infinite_parameters(trained):
    code, noise = trained.ensemble.codebook, trained.ensemble.draw_noise(0, [0])
    members = [network(trained.recipe, a) for a in trained.artefacts]
    with torch.no_grad():
        for i in code.words[3].nonzero()[0]:
            for parameter in members[i].parameters():
                parameter.fill_(float("inf"))
    broken = Ensemble(trained.recipe, code, members)
    weights, owner = code.leave_one_out(np.array([3, 3])), torch.zeros(2, dtype=torch.int64)
    assert torch.equal(
        broken.sample(noise, weights, owner), trained.ensemble.sample(noise, weights, owner)
    )


# --- however the work is cut up ---


@pytest.mark.parametrize("size", [1, 5, 12, 17])
def test_blocks_of_any_size_give_the_same_landscapes(trained, three, store, size):
    artefact = compute(
        trained.ensemble,
        [0, 1, 2],
        store,
        all_images=True,
        keep=3,
        memory=budget(trained.ensemble, size),
    )
    assert artefact.info["block"] == size and three.info["block"] == 512
    one, other = read_landscapes(artefact), read_landscapes(three)
    np.testing.assert_allclose(one.distances, other.distances, rtol=0, atol=1e-4)
    assert (one.kept_sources == other.kept_sources).all()
    # They are kept in half precision, of which neighbours lie up to 2^-11 apart.
    torch.testing.assert_close(one.kept_images, other.kept_images, rtol=0, atol=5e-4)
    for index in range(3):
        torch.testing.assert_close(
            read_all_images(artefact, index), read_all_images(three, index), rtol=0, atol=1e-5
        )


def test_a_sample_is_the_same_whoever_else_is_asked_for(trained, three, store):
    among = read_landscapes(compute(trained.ensemble, [9, 2, 40, 0], store))
    assert among.indices.tolist() == [9, 2, 40, 0]
    alone = [
        read_landscapes(compute(trained.ensemble, [index], store)).distances[0]
        for index in (9, 2, 40, 0)
    ]
    np.testing.assert_allclose(among.distances, alone, rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        among.distances[[3, 1]], read_landscapes(three).distances[[0, 2]], rtol=0, atol=1e-4
    )
    assert np.abs(among.distances[0] - among.distances[1]).max() > 0.1


def test_seeds_differ(trained, store, three):
    other = read_landscapes(compute(trained.ensemble, [0], store, seed=1))
    assert (
        np.abs(other.distances[0] - read_landscapes(three).distances[0]).max() > 0.1
        and other.seed == 1
    )


def test_what_is_held_at_once_does_not_grow_with_the_number_of_sources(trained, store, monkeypatch):
    sources = 20
    ensemble = other_code(
        trained, Codebook.draw(6, 3, sources, 0), data={"size": sources, "num_sources": sources}
    )
    sizes, alive, real_sample, real_run = [], [], Ensemble.sample, task_room.run_tasks

    def sample(self, noise, c=None, owner=None):
        sizes.append(len(noise) if owner is None else len(owner))
        return real_sample(self, noise, c, owner)

    def run_tasks(function, arguments, count, device, here, **options):
        """Counts how many tasks' noise exists while they are handed out one by one."""
        seen = []
        for task in arguments:
            noises = [
                part if isinstance(part, ExogenousNoise) else part.noise for part in task[1:2]
            ]
            seen.append(weakref.ref(noises.pop()))
            alive.append(sum(ref() is not None for ref in seen))
            yield from real_run(function, [task], 1, device, here, **options)
            del task

    monkeypatch.setattr(Ensemble, "sample", sample)
    monkeypatch.setattr(task_room, "run_tasks", run_tasks)
    compute(ensemble, [0, 1, 2, 3], store, memory=budget(ensemble, 4))
    assert max(sizes) == 4 and len(sizes) == 1 + sources
    # Each task has its own copy of its samples' noise: all at once would be a copy for every block.
    assert max(alive) <= 3


def test_a_budget_too_small_gives_one_line(trained, store, one_line):
    for memory, jobs in ((1000, 1), (budget(trained.ensemble, 1), 2)):
        with pytest.raises(BadValue, match="memory budget") as error:
            compute(trained.ensemble, [0], store, memory=memory, jobs=jobs)
        assert one_line(error) and "raise the budget" in str(error.value)


@pytest.mark.parametrize(
    "text, value",
    [
        (5, 5),
        ("5", 5),
        ("512MiB", 512 * 2**20),
        ("2GB", 2 * 10**9),
        ("2 gib", 2**31),
        (" 1.5KiB ", 1536),
        ("1T", 10**12),
        ("3b", 3),
    ],
)
def test_memory_budgets_are_understood(text, value):
    assert parse_bytes(text) == value


@pytest.mark.parametrize(
    "text", ["", "much", "-5", -5, 0, "0GiB", "0.1", "1e9", "2XB", True, None, "GiB", "1 2"]
)
def test_other_budgets_give_one_line(text, one_line):
    with pytest.raises(BadValue, match="memory budget") as error:
        parse_bytes(text)
    assert one_line(error)


# --- what is kept ---


def test_the_farthest_are_kept_first(trained, three):
    read = read_landscapes(three)
    assert read.kept_sources.shape == (3, 3) and read.kept_images.shape == (3, 3, 1, 8, 8)
    for row in range(3):
        order = sorted(range(12), key=lambda s: (-read.distances[row, s], s))
        assert read.kept_sources[row].tolist() == order[:3]
        kept = read_all_images(three, row)[order[:3]]
        assert torch.equal(read.kept_images[row], kept.half().float())
    assert (read.radii == read.distances.max(1)).all() and (
        read.attributed_sources == read.kept_sources[:, 0]
    ).all()
    assert (
        torch.equal(read.farthest_images, read.kept_images[:, 0])
        and len(read) == 3
        and read.num_sources == 12
    )


def test_of_equal_distances_the_lower_source_counts(trained, store, monkeypatch):
    monkeypatch.setattr(computing, "distance", lambda a, b: torch.ones(len(a), dtype=torch.float64))
    everything = read_all_images(compute(trained.ensemble, [0], store, all_images=True), 0)
    for size in (5, 12):
        read = read_landscapes(
            compute(
                trained.ensemble,
                [0, 1],
                Store(store.cache / str(size), None),
                keep=4,
                memory=budget(trained.ensemble, size),
                images=None if size == 5 else trained.images,
            )
        )
        assert read.kept_sources.tolist() == [
            [0, 1, 2, 3]
        ] * 2 and read.attributed_sources.tolist() == [0, 0]
        torch.testing.assert_close(read.kept_images[0], everything[:4], rtol=0, atol=HALF)


def test_ties_are_broken_by_position_in_long_landscapes_too():
    distances = np.random.default_rng(7).integers(0, 5, 500).astype(float)
    assert computing.farthest_first(distances).tolist() == sorted(
        range(500), key=lambda k: (-distances[k], k)
    )


def test_more_can_be_asked_to_be_kept_than_there_are(trained, store):
    artefact = compute(trained.ensemble, [0, 1], store, keep=100)
    read = read_landscapes(artefact)
    assert artefact.spec["keep"] == 12
    assert [sorted(row) for row in read.kept_sources.tolist()] == [list(range(12))] * 2
    assert find_landscapes(trained.ensemble, keep=100, here=Here(store)) is not None


@pytest.mark.parametrize("size", [5, 36])
def test_chosen_sources_are_kept_too(trained, three, store, size):
    chosen = [11, 4, 4, int(read_landscapes(three).kept_sources[0, 0])]
    read = read_landscapes(
        compute(
            trained.ensemble,
            [0, 1, 2],
            store,
            keep=2,
            chosen=chosen,
            memory=budget(trained.ensemble, size),
        )
    )
    for row in range(3):
        kept = read.kept_sources[row].tolist()
        assert kept[:2] == read_landscapes(three).kept_sources[row, :2].tolist() and set(
            chosen
        ) <= set(kept)
        torch.testing.assert_close(
            read.kept_images[row], read_all_images(three, row)[kept], rtol=0, atol=HALF
        )


def test_images_that_were_not_kept_are_not_there(trained, three, store, one_line):
    artefact = compute(trained.ensemble, [0], store)
    for index in (0, 3):
        with pytest.raises(ArtefactError, match=f"sample {index}.*all_images=True") as error:
            read_all_images(artefact if index == 0 else three, index)
        assert one_line(error)


def test_the_attributed_image_is_the_sources_nearest(trained, store):
    images = dataclasses.replace(trained.images, sources=trained.images.sources // 2)
    sample = trained.images.images[5] * 0.9
    assert (
        attributed_image(images, 2, sample) == 5
        and attributed_image(images, 3, trained.images.images[6]) == 6
    )
    with pytest.raises(BadValue, match="source 99"):
        attributed_image(images, 99, sample)
    read = read_landscapes(compute(trained.ensemble, [0, 1], store))
    for row, source in enumerate(read.attributed_sources):
        assert torch.equal(read.attributed_images[row], trained.images.images[source])
        assert read.attributed_labels[row] == trained.images.labels[source]


def test_landscapes_work_where_the_training_images_are_not(trained, store, monkeypatch):
    monkeypatch.setattr(datasets, "available", lambda family, split: False)
    read = get_landscapes(trained.ensemble, 2, here=Here(store, jobs=1, progress=False))
    assert read.attributed_images is None and read.attributed_labels is None and len(read) == 2
    monkeypatch.undo()
    found = find_landscapes(trained.ensemble, here=Here(store))
    assert torch.equal(found.attributed_images, trained.images.images[found.attributed_sources])
    joined = get_landscapes(trained.ensemble, 3, here=Here(store, jobs=1, progress=False))
    assert len(joined) == 3 and len(joined.attributed_images) == 3  # filled in once they are there


# --- stored, found, joined ---


def test_what_is_stored_reads_back(trained, three):
    three.verify()
    read = read_landscapes(three)
    ensemble = trained.ensemble
    noise = ensemble.draw_noise(0, [0, 1, 2])
    torch.testing.assert_close(read.factual, ensemble.sample(noise), rtol=0, atol=HALF)
    for row in range(3):
        images = ensemble.sample(
            noise[[row]], ensemble.codebook.leave_one_out(), torch.zeros(12, dtype=torch.int64)
        )
        torch.testing.assert_close(read_all_images(three, row), images, rtol=0, atol=1e-5)
    assert (read.name, read.scale, read.seed) == ("digits_64", "laptop", 0)
    assert read.distances.dtype == np.float64 and read.factual.shape == (3, 1, 8, 8)
    assert read.artefacts == [three] and not read.published


def test_finished_landscapes_are_not_computed_again(trained, store, monkeypatch):
    first = compute(trained.ensemble, [1, 0], store)
    monkeypatch.setattr(Ensemble, "sample", None)
    assert compute(trained.ensemble, [1, 0], store).manifest == first.manifest
    assert not store.workspace("landscape", "digits_64-laptop", first.spec).path.exists()


def test_only_missing_samples_are_computed(trained, store, monkeypatch):
    asked, real = [], computing.compute
    monkeypatch.setattr(
        computing,
        "compute",
        lambda ensemble, indices, *a, **k: (
            asked.append(list(indices)),
            real(ensemble, indices, *a, **k),
        )[1],
    )
    options = {"here": Here(store, jobs=1, progress=False)}
    compute(trained.ensemble, [1, 5], store)
    first = get_landscapes(trained.ensemble, 2, **options)
    more = get_landscapes(trained.ensemble, 4, **options)
    less = get_landscapes(trained.ensemble, 3, **options)
    assert asked == [[0], [2, 3]]
    assert (
        first.indices.tolist() == [0, 1]
        and more.indices.tolist() == [0, 1, 2, 3]
        and less.indices.tolist() == [0, 1, 2]
    )
    assert (more.distances[:2] == first.distances).all() and (
        less.distances == more.distances[:3]
    ).all()
    assert find_landscapes(trained.ensemble, here=Here(store)).indices.tolist() == [0, 1, 2, 3, 5]
    assert find_landscapes(trained.ensemble, 1, here=Here(store)) is None
    for row, index in enumerate(more.indices):
        alone = read_landscapes(
            compute(trained.ensemble, [index], Store(store.cache / "alone", None))
        )
        np.testing.assert_allclose(more.distances[row], alone.distances[0], rtol=0, atol=1e-4)
        torch.testing.assert_close(more.factual[row], alone.factual[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(more.kept_images[row], alone.kept_images[0], rtol=0, atol=1e-5)


def test_landscapes_that_keep_fewer_images_than_asked_for_do_not_count(trained, store):
    compute(trained.ensemble, [0], store, keep=2)
    assert find_landscapes(trained.ensemble, keep=3, here=Here(store)) is None
    assert get_landscapes(
        trained.ensemble, 1, keep=3, here=Here(store, jobs=1, progress=False)
    ).kept_sources.shape == (1, 3)


def test_chosen_sources_are_kept_by_get_landscapes_whatever_is_there(trained, store):
    compute(trained.ensemble, [0], store)
    kept = get_landscapes(
        trained.ensemble, 2, keep=2, chosen=range(12), here=Here(store, jobs=1, progress=False)
    ).kept_sources
    assert [sorted(set(row)) for row in kept.tolist()] == [list(range(12))] * 2


def test_another_ensemble_or_sampler_has_other_landscapes(trained, store):
    compute(trained.ensemble, [0], store)
    others = [
        dataclasses.replace(trained.ensemble, identity="another"),
        dataclasses.replace(trained.ensemble, recipe=trained.recipe.replace(sampling={"steps": 5})),
        dataclasses.replace(
            trained.ensemble, recipe=trained.recipe.replace(sampling={"sampler": "ddim"})
        ),
    ]
    assert find_landscapes(trained.ensemble, here=Here(store)) is not None
    for ensemble in others:
        assert find_landscapes(ensemble, here=Here(store)) is None


def test_exact_and_hybrid_landscapes_are_never_mixed(trained, store):
    options = {"here": Here(store, jobs=1, progress=False)}
    made = {
        k: compute(trained.ensemble, [0], store, tangent_steps=k, images=trained.images)
        for k in (0, 2, 3)
    }
    assert (
        len({artefact.path for artefact in made.values()}) == 3
        and "tangent_steps" not in made[0].spec
    )
    for k, artefact in made.items():
        found = find_landscapes(trained.ensemble, tangent_steps=k, here=Here(store))
        assert found.tangent_steps == k and [a.path for a in found.artefacts] == [artefact.path]
    assert find_landscapes(trained.ensemble, tangent_steps=1, here=Here(store)) is None
    # What is missing is computed in the same way, and joined with its kind.
    more = get_landscapes(trained.ensemble, 2, tangent_steps=2, **options)
    assert (
        more.tangent_steps == 2
        and {a.spec["tangent_steps"] for a in more.artefacts} == {2}
        and len(more) == 2
    )
    assert find_landscapes(trained.ensemble, here=Here(store)).indices.tolist() == [0]


def test_stored_landscapes_are_exact_ones(store):
    # The published members and spec, and a cache that has hybrid landscapes of more samples.
    recipe = get_recipe("digits_64")
    ensemble = find_ensemble(recipe, here=Here(Store(store.cache)))
    count = len(stored_landscapes(recipe, here=Here(Store(store.cache))))
    short = dataclasses.replace(ensemble, recipe=recipe.replace(sampling={"steps": 2}))
    hybrid = compute(short, range(count + 1), store, tangent_steps=2)
    spec = hybrid.spec | {"sampling": spec_of(recipe.sampling)}
    files = {name: hybrid.read(name) for name in hybrid.manifest["files"]}
    Store(store.cache, None).write("landscape", recipe.label, spec, files, hybrid.info)
    for found in (
        stored_landscapes(get_recipe("digits_64"), here=Here(Store(store.cache))),
        find_landscapes(ensemble, here=Here(Store(store.cache))),
    ):
        assert (
            found.tangent_steps == 0
            and found.indices.tolist() == list(range(count))
            and found.published
        )


def test_exact_landscapes_keep_the_name_they_were_published_under(tmp_path):
    recipe = get_recipe("digits_64")
    ensemble = find_ensemble(recipe, here=Here(Store(tmp_path)))
    spec = computing.KIND.spec_for(ensemble, 0, list(range(8)), 8)
    assert Store.folder_name(recipe.label, spec) == "digits_64-laptop-4a03bf9a55ebc4c9"
    assert Store(tmp_path).find("landscape", recipe.label, spec).published


def test_hybrid_landscapes_are_hybrid_counterfactuals(trained, store):
    ensemble, noise = trained.ensemble, trained.ensemble.draw_noise(0, [0, 1])
    moving, owner = ensemble.tangents(noise, (3,)), torch.arange(2).repeat_interleave(12)
    expected = ensemble.sample_hybrid(
        noise, ensemble.codebook.leave_one_out(np.tile(np.arange(12), 2)), owner, moving, 3
    )
    for size in (5, 100):
        artefact = compute(
            ensemble,
            [0, 1],
            Store(store.cache / str(size), None),
            all_images=True,
            tangent_steps=3,
            memory=max(budget(ensemble, size), 2**20),
        )
        read = read_landscapes(artefact)
        torch.testing.assert_close(read.factual, ensemble.sample(noise), rtol=0, atol=HALF)
        for row in range(2):
            images = read_all_images(artefact, row)
            torch.testing.assert_close(
                images, expected[12 * row : 12 * row + 12], rtol=0, atol=1e-4
            )
            for source in (0, 5):
                assert read.distances[row, source] == pytest.approx(
                    distance_by_hand(read.factual[row], images[source]), rel=1e-3
                )
        checks = regenerate(ensemble, read, [1, 0])
        assert all(check.difference < 1e-2 for check in checks)


def test_hybrid_landscapes_stopped_go_on_to_the_same_bits(trained, store, monkeypatch):
    arguments = {"tangent_steps": 2, "memory": 2**20}
    whole = files(
        compute(trained.ensemble, [0, 1, 2], Store(store.cache / "whole", None), **arguments)
    )
    artefact, stops, _ = until_done(
        monkeypatch, lambda: compute(trained.ensemble, [0, 1, 2], store, **arguments), 0.5, 3
    )
    assert stops >= 2 and files(artefact) == whole


@pytest.mark.parametrize("steps", [-1, 7, 2.5, 2.0, True, "2", None])
def test_tangent_steps_that_cannot_be_give_one_line(trained, store, steps, one_line):
    with pytest.raises(BadValue, match="0 to 6 steps") as error:
        compute(trained.ensemble, [0], store, tangent_steps=steps)
    assert one_line(error)


def test_numpys_whole_numbers_are_tangent_steps_too(trained, store):
    one, other = (compute(trained.ensemble, [0], store, tangent_steps=k) for k in (np.int64(2), 2))
    assert one.spec == other.spec


def test_published_landscapes_come_first_and_can_be_passed_over(trained, store):
    made = compute(trained.ensemble, [0], Store(store.cache / "elsewhere", None))
    store.copy(made, "landscape")
    assert (
        find_landscapes(trained.ensemble, here=Here(store)).artefacts[0].path.parent.parent
        == store.published
    )
    assert find_landscapes(trained.ensemble, here=Here(store).anew()) is None
    got = get_landscapes(trained.ensemble, 1, here=Here(store, jobs=1, progress=False).anew())
    assert got.artefacts[0].path.parent.parent == store.cache


def test_regenerated_distances_agree_with_stored_ones(trained, three):
    read = read_landscapes(three)
    checks = regenerate(trained.ensemble, read, [2, 0])
    assert [c.index for c in checks] == [2, 0]
    assert [c.source for c in checks] == read.attributed_sources[[2, 0]].tolist()
    assert all(c.difference < 1e-4 and c.stored > 0.1 for c in checks)
    wrong = dataclasses.replace(read, distances=read.distances + 0.5)
    assert all(
        c.difference == pytest.approx(0.5, abs=1e-4)
        for c in regenerate(trained.ensemble, wrong, [0])
    )


@pytest.mark.parametrize(
    "change, words",
    [
        ({"indices": []}, "no samples"),
        ({"indices": [1, 1]}, "different"),
        ({"indices": [-1]}, "from 0 on"),
        ({"keep": 0}, "keep"),
        ({"chosen": [12]}, "chosen"),
        ({"chosen": [-1]}, "chosen"),
        ({"memory": "much"}, "memory budget"),
        ({"jobs": -3}, "jobs is -3"),
    ],
)
def test_wrong_arguments_give_one_line(trained, store, change, words, one_line):
    options = {"indices": [0]} | change
    with pytest.raises(BadValue, match=words) as error:
        compute(trained.ensemble, store=store, **options)
    assert one_line(error)


def test_a_wrong_number_of_samples_gives_one_line(trained, store, one_line):
    for number in (0, -1, 2.5, "3"):
        with pytest.raises(BadValue, match="num_samples") as error:
            get_landscapes(trained.ensemble, number, here=Here(store))
        assert one_line(error)


@pytest.mark.parametrize(
    "name",
    ["distances.parquet", "images.safetensors", "attributed.safetensors", "all-000000.safetensors"],
)
def test_damaged_landscapes_are_refused(trained, three, tmp_path, name):
    copied = Store(None, tmp_path).copy(three, "landscape")
    path = copied.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(ArtefactError, match=name):
        read_all_images(copied, 0)
        read_landscapes(copied)


# --- stopped and gone on with ---


def test_landscapes_stopped_at_any_piece_go_on_to_the_same_bits(trained, store, monkeypatch):
    memory = budget(trained.ensemble, 4)
    whole = files(
        compute(
            trained.ensemble,
            [0, 1, 2],
            Store(store.cache / "whole", None),
            all_images=True,
            memory=memory,
        )
    )
    assert len(whole) == 6
    stopping = Store(store.cache / "stopped", None)
    artefact, stops, pieces = until_done(
        monkeypatch,
        lambda: compute(trained.ensemble, [0, 1, 2], stopping, all_images=True, memory=memory),
        0.4,
        6,
    )
    assert stops >= 3 and files(artefact) == whole
    # 1 block of samples and 9 of counterfactuals: none was computed twice.
    assert len(pieces) == len(set(pieces)) == 10


def test_nothing_is_left_over_when_the_end_is_interrupted(trained, store, monkeypatch):
    with monkeypatch.context() as patch:
        # Finished, but stopped before it could tidy up.
        patch.setattr(Workspace, "clear", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compute(trained.ensemble, [0], store)
    assert list(store.cache.rglob("block-*")) != []
    compute(trained.ensemble, [0], store)
    assert list(store.cache.rglob("block-*")) == []


def test_a_damaged_piece_is_computed_again(trained, store, monkeypatch):
    memory = budget(trained.ensemble, 4)
    whole = files(
        compute(trained.ensemble, [0, 1], Store(store.cache / "whole", None), memory=memory)
    )
    stop = lambda *a: (_ for _ in ()).throw(KeyboardInterrupt)  # noqa: E731
    monkeypatch.setattr(computing, "_kept_sources", stop)
    with pytest.raises(KeyboardInterrupt):
        compute(trained.ensemble, [0, 1], store, memory=memory)
    monkeypatch.undo()
    pieces = sorted(store.cache.rglob("partial/**/*.safetensors"))
    assert len(pieces) == 7
    for damaged, name in (
        (b"", "block-4-000000004"),
        (None, "block-4-000000012"),
        (b"x" * 500, "factual"),
    ):
        (path,) = [p for p in pieces if p.name.startswith(name)]
        path.write_bytes(path.read_bytes()[:-7] + b"rubbish" if damaged is None else damaged)
    real, again = Workspace.save, []
    monkeypatch.setattr(
        Workspace,
        "save",
        lambda self, name, tensors: (again.append(name), real(self, name, tensors))[1],
    )
    assert files(compute(trained.ensemble, [0, 1], store, memory=memory)) == whole
    assert sorted(again) == ["block-4-000000004", "block-4-000000012", "factual-4-000000"]


def test_a_run_with_another_budget_does_not_mix_in_pieces_of_this_one(trained, store, monkeypatch):
    stop = lambda *a: (_ for _ in ()).throw(KeyboardInterrupt)  # noqa: E731
    monkeypatch.setattr(computing, "_kept_sources", stop)
    with pytest.raises(KeyboardInterrupt):
        compute(trained.ensemble, [0, 1], store, memory=budget(trained.ensemble, 4))
    monkeypatch.undo()
    memory = budget(trained.ensemble, 7)
    whole = files(
        compute(trained.ensemble, [0, 1], Store(store.cache / "whole", None), memory=memory)
    )
    assert files(compute(trained.ensemble, [0, 1], store, memory=memory)) == whole


@pytest.mark.parametrize("tangent_steps", [0, 3])
def test_radii_by_another_metric_look_at_every_counterfactual(trained, tmp_path, tangent_steps):
    store = Store(tmp_path, None)
    landscapes = computing.read(
        computing.compute(
            trained.ensemble,
            [2, 0],
            keep=1,
            tangent_steps=tangent_steps,
            here=Here(store, jobs=1, progress=False),
        )
    )
    options = {"here": Here(store, jobs=1, progress=False)}
    assert np.allclose(
        metric_radii(trained.ensemble, landscapes, get_metric("euclidean"), **options),
        landscapes.radii,
        rtol=1e-3,
    )

    # a metric that sees one pixel only, so that another counterfactual may be the farthest
    corner = FeatureMetric(
        "corner",
        "corner",
        lambda device: torch.nn.Identity(),
        lambda images: images,
        l2_distance,
        features=lambda network, images: images[:, :1, 3, 3],
    )
    found = metric_radii(trained.ensemble, landscapes, corner, **options)
    for row, index in enumerate([2, 0]):
        noise = trained.ensemble.draw_noise(0, [index])
        moving = (
            trained.ensemble.tangents(noise, (tangent_steps,))
            if tangent_steps
            else {"factual": trained.ensemble.sample(noise)}
        )
        changes = [
            abs(
                float(
                    trained.ensemble.sample_hybrid(
                        noise,
                        trained.ensemble.codebook.ablation(source),
                        torch.tensor([0]),
                        moving,
                        tangent_steps,
                    )[0, 0, 3, 3]
                    - moving["factual"][0, 0, 3, 3]
                )
            )
            for source in range(12)
        ]
        assert found[row] == pytest.approx(max(changes), abs=HALF)
