"""What the page on signal and chance says: its rules with evidence for and against."""

import dataclasses
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from abc_lib import figures  # noqa: E402
from abc_lib.results.measures import significance  # noqa: E402
from abc_lib.results.placebos.retrained import RetrainedEvidence  # noqa: E402
from abc_lib.results.placebos.signal import Signal  # noqa: E402
from abc_lib.study import signals  # noqa: E402

S, N, R, P = 10, 40, 8, 30
CODES = (1, 2, 4, 8)


def value_with(effect=0.0, shared=0.0, gap=0.0, seed=0):
    """Eight codes; two sources a sample have an effect, scores share some of their variance."""
    rng = np.random.default_rng(seed)
    truth = shared * rng.normal(size=(S, N))
    truth[:, :2] += effect
    scores, p, placebo = np.empty((4, R, S, N)), np.empty((4, 4, S, N)), np.empty((4, 4, S, N))
    for k in range(4):
        own = truth + rng.normal(size=(R, S, N))
        free = rng.normal(size=(R, P, S, N))
        for s in range(S):
            one, others = significance.standardised(own[:, s], free[:, :, s])
            scores[k, :, s] = one
            p[k, :, s] = significance.combined_p(one, others, CODES, 999, rng)
            some = others[:, 0], others[:, 1:]
            placebo[k, :, s] = significance.combined_p(*some, CODES, 999, rng)
    radii = 10 ** rng.normal(1.8, 0.1, (R, S, 1)) * rng.uniform(0.9, 1, (R, S, N))
    planted = np.full((4, 4, 2, S), 0.5)
    planted[:, 2:] = 0.01  # the two strongest are found
    artefact = SimpleNamespace(
        provenance={"time": "2026-11-23T10:00", "hardware": "a machine", "commit": "abc"},
        info={"exposure": 500, "seconds": 3.0},
        spec={"indices": list(range(S)), "ensembles": ["x"] * R},
        published=True,
    )
    return Signal(
        "digits_64", "laptop", 500.0, (14, 7), CODES, (0.01, 0.03, 0.1, 0.3), scores, p, placebo,
        radii * 10**gap, radii, rng.integers(N, size=(R, S)), rng.uniform(size=(R, S, 1, 8, 8)),
        planted, np.ones((4, 2, S)), artefact,
    )  # fmt: skip


BARE = value_with()


@pytest.fixture(scope="module")
def none():
    return BARE


@pytest.fixture(scope="module")
def some():
    return value_with(effect=3.0, shared=1.0)


def test_halves_agree_only_where_there_is_something_to_agree_about(none, some):
    assert "do not agree" in signals.reliability_verdict(none)
    assert "codes agree about which" in signals.reliability_verdict(some)


def test_samples_that_share_a_codes_chance_are_not_taken_for_agreement():
    """The same scores in every sample: certain over samples, chance over codes."""
    called = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        alike = np.repeat(rng.normal(size=(4, R, 1, N)), S, axis=2)
        called += "codes agree" in signals.reliability_verdict(replaced(BARE, scores=alike))
    assert called <= 3  # one in 40 for each of three statistics is 0.4 of 5


def test_sources_stand_out_only_where_they_have_an_effect(none, some):
    assert "no source can be told from a placebo" in signals.source_verdict(none)
    assert "can be told from placebos" in signals.source_verdict(some)
    below = signals.source_verdict(replaced(none, scores=none.scores - 1))
    assert "no source can be told" in below  # evidence against is none for
    table = signals.discovery_table(some).set_index(["statistic", "codes"])
    found = table["found a sample"].astype(float)
    assert found[signals.WORDS["away"], 8] > found[signals.WORDS["away"], 1]
    nothing = signals.discovery_table(none)
    assert nothing["samples with none"].str.rstrip("%").astype(float).mean() > 80


def test_the_smallest_effect_found_is_the_first_of_those_that_all_are(none):
    assert signals.smallest_found(none, "away", 1) == 0.1
    assert signals.power(none, "away").tolist() == [[0, 0, 1, 1]] * 2
    none_found = none.planted_p.copy()
    none_found[:, 3] = 0.5  # the strongest is missed
    assert signals.smallest_found(replaced(none, planted_p=none_found), "away", 1) is None
    all_found = np.zeros_like(none_found)
    assert signals.smallest_found(replaced(none, planted_p=all_found), "away", 2) == 0.01
    assert signals.planted_table(none)["1 code"].tolist() == ["0.1"] * 4


def replaced(value, **parts):
    from dataclasses import replace

    return replace(value, **parts)


def test_radii_are_held_against_as_many_placebos(none):
    real, chance = signals.radii(value_with(gap=0.2))
    assert real.shape == (R, S) and np.allclose(real - chance, 0.2)
    row = signals.placebo_table(none).iloc[0]
    assert row["difference, paired"].startswith("0.0000") and row["codes"] == R


def test_the_nearest_source_is_that_of_most_codes(none):
    nearest = np.array([[3] * S, [5] * S, [3] * S])
    assert (signals.nearest_source(replaced(none, nearest=nearest)) == 3).all()


def test_samples_of_one_noise_are_held_against_those_of_another(none):
    alike = np.repeat(none.factual[:1], R, axis=0)
    same, other = signals.agreement_of_samples(alike)
    assert same == 0 and other > 1
    assert "draw the same picture" in signals.sameness(replaced(none, factual=alike))
    assert "draw not the same picture" in signals.sameness(none)


def retrainings(own, factual):
    return RetrainedEvidence("digits_64", "laptop", own, np.zeros((4, S)), factual, None)


def test_ablation_and_retraining_agree_only_where_they_share_a_cause():
    rng = np.random.default_rng(7)
    truth = rng.normal(size=(4, 1, S, N))
    factual = BARE.factual[:4]
    # what retraining says, which has no fitted statistic: there "away" stands for it
    truth[3] = truth[1]
    ablation = replaced(BARE, scores=truth + rng.normal(size=(4, R, S, N)))
    truth = truth[:3]
    same = retrainings(truth + rng.normal(size=(3, 4, S, N)), factual)
    other = retrainings(rng.normal(size=(3, 4, S, N)), factual)
    half = 0.5 * truth + 0.87 * rng.normal(size=truth.shape)
    partly = retrainings(half + 0.5 * rng.normal(size=(3, 4, S, N)), factual)
    found = signals.beside_retraining(ablation, same)
    assert "agree about which" in signals.retraining_verdict(found)
    assert "as well as the noise" in signals.retraining_verdict(found)
    assert list(signals.retraining_table(found)["statistic"]) == list(signals.WORDS.values())
    for evidence, words in ((partly, "less than the noise"), (other, "do not agree")):
        found = signals.beside_retraining(ablation, evidence)
        assert words in signals.retraining_verdict(found)
    assert "single model on everything draw the same" in signals.sameness(ablation, same)


def test_figures_show_what_they_are_given(none, some):
    _, axes = plt.subplots(3)
    figures.placebo_radii(*signals.radii(none), axes[0])
    curve = signals.reliability_curve(some, "away")
    figures.reliability_curves({"away": curve}, axes[1])
    figures.power_curves(none.strengths, {"1 code": signals.power(none, "away")[0]}, S, axes[2])
    assert curve[0] == [1, 2, 4] and curve[1][-1] > curve[1][0] > 0.2
    assert all(ax.get_xlabel() and ax.get_ylabel() for ax in axes)
    plt.close("all")


def test_the_opening_says_what_when_and_how(none):
    text = signals.opening(none)
    assert "8 codes" in text and "2026-11-23" in text and "-p dataset digits_64" in text


def test_published_radii_are_judged_against_their_placebos(monkeypatch):
    rng = np.random.default_rng(0)
    chance = rng.normal(1.5, 0.2, 16)
    pair = signals.Paired
    same = {f"set_{k}": pair(chance + rng.normal(0, 0.02, 16), chance) for k in range(6)}
    above = {name: pair(each.real + 0.1, each.chance) for name, each in same.items()}
    for found, words in ((same, "whichever half"), (above, "**6 of 6 ensembles**")):
        monkeypatch.setattr(signals, "_beside", lambda scale, found=found: found)
        assert words in signals.published_verdict()
        assert list(signals.published_placebos()["samples"]) == [16] * 6
    assert "whichever half" not in signals.published_verdict()
    assert "predicts both" not in signals.published_verdict()
    ratio = signals.published_placebos()["radius over placebo (95%)"]
    assert ratio.str.startswith("1.2").all()
    one = {"digits_64": dataclasses.replace(above["set_0"], how="predicted")}
    monkeypatch.setattr(signals, "_beside", lambda scale: one)
    assert "Of 1 of them" in signals.published_verdict()
    (point,) = signals.placebo_points({"digits_64": 10 ** above["set_0"].real, "other": []})
    assert np.isclose(point.mean, chance.mean()) and point.size == 64
    monkeypatch.setattr(signals, "_beside", lambda scale: {})
    assert "No ensemble has placebos" in signals.published_verdict()
