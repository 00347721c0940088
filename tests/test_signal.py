"""Several codes, p-values and reliability, against worked-out and simulated truths."""

from itertools import permutations, product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from small import own_store

from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.images.training_set import training_set
from abc_lib.method.code import Codebook
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.network import build_network
from abc_lib.results.measures import significance
from abc_lib.results.placebos import evidence, memory, retrained, signal
from abc_lib.results.placebos import landscapes as placebos
from abc_lib.training.ensembles import get_ensemble
from abc_lib.training.retrained import get_retrained

# --- p-values ---


def test_p_values_of_exchangeable_statistics_are_exactly_uniform():
    values = np.array([0.3, -1.0, 2.0, 0.7])
    p = [
        float(significance.rank_p(np.array([own]), np.array(free)[:, None])[0])
        for own, *free in permutations(values)
    ]
    assert sorted(set(p)) == [0.25, 0.5, 0.75, 1.0]
    assert all(p.count(each) == 6 for each in set(p))


def test_ties_never_make_a_p_value_smaller():
    own, free = np.zeros(1), np.zeros((5, 1))
    assert significance.rank_p(own, free) == [1.0]


def test_two_codes_are_combined_over_all_pairs_of_codewords():
    rng = np.random.default_rng(0)
    own, free = rng.normal(size=(2, 3)), rng.normal(size=(2, 4, 3))
    pool = np.concatenate([own[:, None], free], axis=1)
    pairs = list(product(range(5), repeat=2))
    exact = [
        np.mean([pool[0, a, j] + pool[1, b, j] >= own[0, j] + own[1, j] - 1e-9 for a, b in pairs])
        for j in range(3)
    ]
    one, two = significance.combined_p(own, free, (1, 2), 40_000, rng)
    assert np.array_equal(one, significance.rank_p(own[0], free[0]))
    assert two == pytest.approx(np.array(exact), abs=4 * 0.5 / 40_000**0.5)


def drawn(rng, effect, codes=4, placebos=30, sources=40):
    own = rng.normal(size=(codes, sources)) + effect
    return significance.standardised(own, rng.normal(size=(codes, placebos, sources)))


def test_combined_p_values_are_uniform_without_an_effect_and_small_with_one():
    rng = np.random.default_rng(1)
    none = np.concatenate(
        [significance.combined_p(*drawn(rng, 0), (1, 4), 999, rng) for _ in range(25)], axis=1
    )
    for p in none:
        # Codewords differ between sources here, so that 1,000 p-values are independent.
        assert abs(p.mean() - 0.5) < 0.04 and abs((p < 0.05).mean() - 0.05) < 0.025
    some = np.stack([significance.combined_p(*drawn(rng, 1), (1, 4), 999, rng) for _ in range(10)])
    assert (some[:, 1] < 0.05).mean() > (some[:, 0] < 0.05).mean() + 0.15


@pytest.mark.parametrize("codes", [(0,), (5,)])
def test_codes_that_are_not_there_are_refused(codes, one_line):
    own, free = drawn(np.random.default_rng(0), 0)
    with pytest.raises(BadValue) as error:
        significance.combined_p(own, free, codes, 10, np.random.default_rng(0))
    assert one_line(error)


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_standardised_statistics_keep_their_ranks_and_have_unit_spread(seed, placebos):
    rng = np.random.default_rng(seed)
    own, free = rng.normal(3, 5, size=(2, 4)), rng.normal(3, 5, size=(2, placebos, 4))
    one, others = significance.standardised(own, free)
    everything = np.concatenate([one[:, None], others], axis=1)
    assert np.allclose(everything.mean(1), 0) and np.allclose(everything.std(1), 1)
    assert np.array_equal(significance.rank_p(one, others), significance.rank_p(own, free))


def test_statistics_that_never_vary_are_no_evidence():
    own, free = significance.standardised(np.ones((1, 2)), np.ones((1, 3, 2)))
    assert not own.any() and (significance.rank_p(own, free) == 1).all()


def acted(effect, sources, rng):
    """What ablation does along all codewords of 8 choose 4, if each member pulls as it likes, those
    that saw source j by ``effect`` more, and the sampler adds as much as members do.
    """
    words = np.array([word for word in product((0, 1), repeat=8) if sum(word) == 4])
    owned = rng.permutation(len(words))[:sources]
    own, free = [], []
    rest = np.setdiff1d(np.arange(len(words)), owned)
    for j in owned:
        members = rng.normal(size=8) + effect * words[j]
        values = (words - 0.5) @ members + rng.normal(size=len(words)) * 2**0.5
        fits = significance.fitted(values[[j]], values[None, rest], words[j], words[rest])
        own.append((values[j], fits[0][0]))
        free.append((values[rest], fits[1][0]))
    return np.array(own).T, np.array(free).transpose(1, 2, 0)  # (2, N), (2, P, N)


def test_ranks_of_fits_are_uniform_without_an_effect_and_surer_with_one():
    rng = np.random.default_rng(1)
    found = {}
    for effect in (0.0, 1.5):
        p = [significance.rank_p(*acted(effect, 20, rng)) for _ in range(100)]
        found[effect] = np.stack(p)  # (100, 2, 20)
    plain, fits = (found[0.0] <= 0.1).mean((0, 2))
    # 2,000 p-values a kind; those of a draw share its members: three errors and some
    assert abs(plain - 5 / 51) < 0.03 and abs(fits - 5 / 51) < 0.03
    plain, fits = (found[1.5] <= 0.1).mean((0, 2))
    assert fits > plain + 0.05


def test_a_fit_leaves_what_is_linear_as_it_is_and_is_least_squares():
    rng = np.random.default_rng(0)
    words = np.array([word for word in product((0, 1), repeat=6) if sum(word) == 3], float)
    linear = words @ rng.normal(size=(6, 2)) + 3
    one, rest = significance.fitted(linear[0], linear[1:].T, words[0], words[1:])
    assert np.allclose(one, linear[0]) and np.allclose(rest, linear[1:].T)
    noisy = linear[:, 0] + rng.normal(size=20)
    one, rest = significance.fitted(noisy[[0]], noisy[None, 1:], words[0], words[1:])
    expected = LinearRegression().fit(words, noisy).predict(words)
    assert np.allclose(one, expected[0]) and np.allclose(rest[0], expected[1:])


def test_discoveries_are_benjamini_and_hochbergs():
    p = np.array([0.012, 0.9, 0.001, 0.03, 0.6])
    order = np.sort(p)
    largest = max(k + 1 for k in range(5) if order[k] <= 0.1 * (k + 1) / 5)
    assert significance.discoveries(p).sum() == largest == 3
    assert not significance.discoveries(np.full(5, 0.5)).any()  # the honest answer: none
    assert significance.least_p(19) == 0.05 and significance.least_p(19, 2) == 0.0025


def test_the_false_discovery_rate_holds():
    rng, wrong = np.random.default_rng(2), []
    for _ in range(40):
        effect = np.zeros(40)
        effect[:4] = 2
        p = significance.combined_p(*drawn(rng, effect), (4,), 1999, rng)[0]
        passed = significance.discoveries(p, 0.1)
        wrong.append(passed[4:].sum() / max(1, passed.sum()))
    assert np.mean(wrong) < 0.1 + 3 * np.std(wrong) / 40**0.5 and np.mean(wrong) > 0


# --- reliability ---


def repeated(rng, truth, noise, times):
    return truth + noise * rng.normal(size=(times, *truth.shape))


def test_reliability_is_the_share_of_true_variance():
    rng = np.random.default_rng(3)
    scores = repeated(rng, rng.normal(size=(6, 400)), 2.0, 16)
    one, four = (significance.reliability(scores, count).mean() for count in (1, 4))
    assert one == pytest.approx(1 / 5, abs=0.03)
    assert four == pytest.approx(significance.spearman_brown(one, 4), abs=0.03)
    blind = significance.reliability(rng.normal(size=(16, 6, 400)), 8)
    assert abs(blind.mean()) < 0.05
    with pytest.raises(BadValue, match="do not split"):
        significance.reliability(scores, 9)


def test_the_corrected_correlation_is_that_without_noise():
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(8, 200))
    other = 0.6 * truth + 0.8 * rng.normal(size=truth.shape)
    a, b = repeated(rng, truth, 2, 12), repeated(rng, other, 1, 4)
    found = significance.corrected_correlation(a, b, 100)
    value, low, high = found["corrected"]
    one = [[np.mean([np.corrcoef(x[s], y[s])[0, 1] for s in range(8)]) for x in a] for y in b]
    assert found["single"][0] == pytest.approx(np.mean(one)) and found["single"][0] < 0.25
    assert found["plain"][0] < 0.52 < value and low < 0.6 < high and value < 0.7
    unrelated = significance.corrected_correlation(a, repeated(rng, truth[::-1], 1, 4), 100)
    assert unrelated["corrected"][1] < 0 < unrelated["corrected"][2]
    nothing = significance.corrected_correlation(rng.normal(size=(4, 8, 200)), b, 20)
    assert abs(nothing["first"][0]) < 0.1


# --- evidence of real members ---


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    return Here(Store(tmp_path_factory.mktemp("signal"), None), "cpu", jobs=1, progress=False)


@pytest.fixture(scope="module")
def several(tiny, quiet):
    """Two codes of the tiny ensemble, of two samples."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(signal, "DRAWS", 500)
        return signal.get(tiny, 2, range(2), strengths=(0.5,), here=quiet)


def test_statistics_are_those_worked_out_by_hand(trained):
    ensemble, images = trained.ensemble, training_set(trained.recipe.data)
    noise = ensemble.draw_noise(0, [1])
    found = evidence.statistics(ensemble, noise, images, 8, 5)
    flat = images.images.flatten(1).double()
    factual = ensemble.sample(noise).flatten().double()
    word = ensemble.codebook.unowned(8)[3]
    words = {"own": (ensemble.codebook.words[2], 2), "free": (word, 4)}
    for which, (word, j) in words.items():
        there = ensemble.sample(noise, torch.tensor([0.0 if bit else 2.0 for bit in word]))
        moved = there.flatten().double() - factual
        towards = flat[j] - flat.mean(0)
        away = (there.flatten() - flat[j]).norm() - (factual - flat[j]).norm()
        by_hand = [32 * 3**0.5 * moved.norm(), away, -moved @ towards / towards.norm()]
        row = found["own"][:, j] if which == "own" else found["free"][:, 3, j]
        assert row.numpy() == pytest.approx([float(x) for x in by_hand], rel=1e-3, abs=1e-5)


def test_a_planted_effect_is_of_the_size_that_it_says(trained):
    ensemble, images = trained.ensemble, training_set(trained.recipe.data)
    noise, source = ensemble.draw_noise(0, [0, 1]), 5
    plain = ensemble.sample(noise)
    none = evidence.planted(ensemble, images, source, 0.0)
    assert torch.allclose(none.sample(noise), plain, atol=1e-5)
    whole = evidence.planted(ensemble, images, source, 1.0)
    saw = 2.0 * ensemble.codebook.words[source]  # only the members that saw it
    assert torch.allclose(whole.sample(noise, saw), images.images[[source, source]], atol=1e-3)
    # Without those members nothing is left of it.
    without = ensemble.codebook.ablation(source)
    assert torch.equal(whole.sample(noise, without), ensemble.sample(noise, without))
    with pytest.raises(BadValue, match="a share from 0 to 1"):
        evidence.planted(ensemble, images, source, 1.5)


def test_members_that_never_saw_a_difference_give_no_discoveries(trained):
    """Untrained members: whatever their code says, no source is behind anything."""
    recipe = trained.recipe.replace(sampling={"steps": 3})
    images, rng, p = training_set(recipe.data), np.random.default_rng(5), []
    for seed in range(6):
        own, free = [], []
        for code in range(2):
            nets = [
                build_network(recipe.network, (1, 8, 8), 50 * seed + 7 * code + k) for k in range(6)
            ]
            blind = Ensemble(recipe, Codebook.draw(6, 3, 12, 2 * seed + code), nets)
            part = evidence.statistics(blind, blind.draw_noise(seed, [0]), images, 8, 256)
            own.append(part["own"].numpy())
            free.append(part["free"].numpy())
        own, free = significance.standardised(np.stack(own, 1), np.stack(free, 1))
        p.append(
            [significance.combined_p(own[k], free[k], (1, 2), 500, rng) for k in range(len(own))]
        )
    p = np.array(p)  # ensembles, statistics, codes, sources
    for k, count in product(range(p.shape[1]), range(2)):
        means = p[:, k, count].mean(-1)
        middle = 5 / 9 if count == 0 else 0.5
        assert abs(means.mean() - middle) < 4 * max(means.std(ddof=1), 0.05) / 6**0.5
    assert significance.discoveries(p[:, :, 1], 0.1).mean() < 0.05


def test_several_codes_are_one_value(several, tiny, quiet):
    assert several.codes == (1, 2) and several.scores.shape == (4, 2, 2, 12)
    ensemble = get_ensemble(signal.recipes_of(tiny, 2)[1], quiet)
    other = evidence.get(ensemble, range(2), here=quiet)
    scores, _ = significance.standardised(other.own, other.free)
    assert several.code == (6, 3)
    assert np.abs(several.scores[:3, 1] - scores).max() < 1e-2  # kept in half precision
    book = ensemble.codebook
    words = np.concatenate([book.words[[5]], book.unowned(8)])
    values = np.concatenate([other.own[1, 0, [5]], other.free[1, 0, :, 5]])
    fits = LinearRegression().fit(words, values).predict(words)
    expected = (fits[0] - fits.mean()) / fits.std()
    assert several.scores[several.of("fitted"), 1, 0, 5] == pytest.approx(expected, abs=1e-2)
    assert np.array_equal(several.distances[1], other.own[several.of("moved")])
    assert np.array_equal(several.nearest[1], other.nearest)
    first = signal.recipes_of(tiny, 2)[0]
    assert first == tiny  # its members are those of the other pages
    assert ((several.p_values > 0) & (several.p_values <= 1)).all()
    # A placebo in a source's place is held against the seven others.
    assert several.placebo_p[:, 0].min() >= 1 / 8 - 1e-6
    assert several.planted_p.shape == (4, 1, 2, 2)
    assert several.planted_p[several.of("away"), 0, 1].max() < 0.1  # half of the image: found


def test_it_is_found_again_without_members_and_is_published(several, tiny, quiet, tmp_path):
    again = signal.stored(tiny, quiet)
    assert np.array_equal(again.p_values, several.p_values)
    there = Here(Store(quiet.store.cache, tmp_path), "cpu", jobs=1, progress=False)
    (artefact,) = signal.publish(several, there)
    assert artefact.published and signal.read(artefact).codes == (1, 2)
    assert "2 samples of 2 codes" in signal.origin(several)


def test_too_few_codes_are_refused(tiny, quiet, one_line):
    with pytest.raises(BadValue) as error:
        signal.get(tiny, 1, here=quiet)
    assert one_line(error)


# --- placebo landscapes ---


def test_placebo_landscapes_are_those_of_ablating_by_hand_and_add_up(trained, tmp_path):
    here = Here(Store(tmp_path / "cache", tmp_path / "shown"), "cpu", jobs=1, progress=False)
    ensemble = trained.ensemble
    part = placebos.get(ensemble, [2], here=here)
    both = placebos.get(ensemble, [0, 2], here=here)
    assert both.indices.tolist() == [0, 2] and np.array_equal(both.distances[1], part.distances[0])
    noise = ensemble.draw_noise(0, [2])
    factual = ensemble.sample(noise)
    for word, moved in zip(ensemble.codebook.unowned(8), part.distances[0], strict=True):
        there = ensemble.sample(noise, torch.tensor([0.0 if bit else 2.0 for bit in word]))
        assert float(distance(there, factual)) == pytest.approx(moved, rel=1e-3)
    placebos.publish(ensemble, 1, here=here)
    found = placebos.stored(trained.recipe, here)
    assert found.indices.tolist() == [0, 2] and "Placebo" in placebos.origin(found)


def test_radii_are_paired_by_sample_over_as_many_codewords(trained, tmp_path):
    here = Here(Store(tmp_path, None), "cpu", jobs=1, progress=False)
    chance = placebos.get(trained.ensemble, [0, 1], here=here)
    rng = np.random.default_rng(0)
    moved = rng.uniform(1, 2, (3, 12))
    real = SimpleNamespace(indices=np.array([1, 5, 0]), seed=0, distances=moved)
    samples, logs, against = placebos.beside(real, chance)
    assert samples.tolist() == [0, 1]
    assert np.allclose(logs, np.log10(moved[[2, 0], :8].max(1)))
    assert np.allclose(against, np.log10(chance.distances.max(1)))
    other = SimpleNamespace(indices=real.indices, seed=1, distances=moved)
    assert len(placebos.beside(other, chance)[0]) == 0  # other noise


# --- retraining ---


def test_retrainings_are_asked_by_the_same_statistics(tiny, tmp_path):
    here = Here(Store(tmp_path, None), "cpu", jobs=1, progress=False)
    found = retrained.get(tiny, 2, [0, 3], here=here)
    assert found.own.shape == (3, 2, 2, 12)
    models = get_retrained(tiny, seed=1, here=here)
    samples = models.sample(models.draw_noise(0, [3]), ["full", 7])
    images = training_set(tiny.data)
    for k, measure in enumerate(evidence.STATISTICS.values()):
        by_hand = float(measure(samples[0], samples[1], images)[0, 7])
        assert found.own[k, 1, 1, 7] == pytest.approx(by_hand, rel=1e-3, abs=1e-4)
    again = retrained.stored(tiny, here)
    assert np.array_equal(again.own, found.own)
    assert "2 training seeds" in retrained.origin(again)


def test_placebos_measured_with_memory_are_those_of_placebo_landscapes(trained, tmp_path):
    here = Here(own_store(trained, tmp_path), jobs=1, progress=False)
    remembered = memory.get(trained.ensemble, 3, images=trained.images, here=here)
    memory.publish(trained.ensemble.recipe, 3, here=here)
    few = placebos.get(trained.ensemble, [0, 1], here=here)
    found = placebos.stored(trained.recipe, here)
    assert found.indices.tolist() == [0, 1, 2]
    assert np.allclose(found.distances, remembered.placebos)
    assert np.allclose(found.distances[:2], few.distances, rtol=1e-4)
    more = placebos.get(trained.ensemble, range(4), here=here)
    assert len(placebos.stored(trained.recipe, here).indices) == len(more.indices) == 4
