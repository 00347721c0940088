"""Made pictures, and whom samples imitate: against names that are known."""

import hashlib
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from small import tiny_classes

from abc_lib import figures
from abc_lib.ground.errors import BadValue
from abc_lib.images.families import made
from abc_lib.images.registry import get_recipe
from abc_lib.images.training_set import load_split, training_set
from abc_lib.method.code import draw_codebook
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.network import build_network
from abc_lib.metrics.names import metrics_at_hand
from abc_lib.results.placebos import evidence, imitation
from abc_lib.study import audit

# --- made pictures ---


def test_made_pictures_are_the_same_to_the_bit():
    images, labels, _ = load_split("made", "ensemble")
    assert images.shape == (192, 3, 32, 32) and images.dtype == torch.uint8
    assert labels.bincount().tolist() == [8] * made.ARTISTS
    digest = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    assert digest.startswith("12653dd8067ca991")
    held_out, _, _ = load_split("made", "held out")
    seen = {image.numpy().tobytes() for image in images}
    assert not any(image.numpy().tobytes() in seen for image in held_out)


def test_artists_differ_and_own_their_pictures():
    artists = [made.artist(number) for number in range(made.ARTISTS)]
    assert len({(a.motif, a.stroke, a.ground.tobytes()) for a in artists}) == made.ARTISTS
    images = training_set(get_recipe("made_24").data)
    assert torch.equal(images.sources, images.labels) and len(images) == 192


def test_a_judge_that_learned_on_some_pictures_names_the_artists_of_others():
    data = get_recipe("made_24").data
    judges = imitation.Judges(training_set(data))
    held_out, labels, _ = load_split("made", "held out")
    told = judges.name(held_out[::6].float() / 255)
    right = (told == labels[::6].numpy()).mean(axis=1)
    assert judges.names.index("colours, linear") == 3
    # accuracy in folds foretells that on pictures that nobody learned on
    assert right == pytest.approx(judges.accuracy, abs=0.15)
    assert (right > 4 / made.ARTISTS).all()
    assert np.allclose(judges.confusion.sum(axis=2), 1)
    if "imagenet" in metrics_at_hand():
        assert right[judges.names.index("imagenet, linear")] > 0.9


def test_sources_with_a_single_picture_are_refused(one_line):
    images = training_set(get_recipe("digits_64").data)
    with pytest.raises(BadValue, match="two or more") as error:
        imitation.Judges(images)
    assert one_line(error)


# --- what is counted ---


def value(own, free, factual=None):
    """An audit by one judge of names that a test makes up."""
    factual = own[:, 0] if factual is None else factual
    found = {"own": own[None], "free": free[None], "factual": factual[None]}
    return SimpleNamespace(**found, judge=lambda name="": 0)


def test_names_that_are_blind_to_the_source_show_no_effect():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(6))
    inside, p = [], []
    for _ in range(60):
        own, free = (rng.choice(6, (40, many), p=weights) for many in (6, 30))
        whole = imitation.total(value(own, free), draws=300)
        inside.append(whole.low <= 0 <= whole.high)
        p.append(whole.p)
    assert np.mean(inside) > 0.85 and 0.35 < np.mean(p) < 0.65
    assert np.mean(np.array(p) < 0.1) < 0.25


def test_a_source_that_vanishes_when_it_is_left_out_is_found():
    rng = np.random.default_rng(1)
    own, free = (rng.integers(0, 6, (40, many)) for many in (6, 40))
    own[:, 2] = np.where(own[:, 2] == 2, 5, own[:, 2])
    found = imitation.shares(value(own, free))
    assert found[2].ablated == 0 and found[2].p == 1 / 41 and found[2].low > 0
    assert found[2].less == pytest.approx(found[2].placebo)
    table = imitation.gains(value(own, free))
    assert np.allclose(table.sum(axis=1), 0) and table[2].argmax() == 5
    assert table[2, 2] == pytest.approx(-found[2].less)
    everything = np.where(own == np.arange(6), (own + 1) % 6, own)
    whole = imitation.total(value(everything, free), draws=500)
    assert whole.ablated == 0 and whole.less == 1 and whole.p == 1 / 501


# --- with members ---


@pytest.fixture
def recipe(monkeypatch):
    """Tiny digits whose classes are the sources, judged by pixels alone, which is fast."""
    monkeypatch.setattr(imitation, "FEATURES", {"pixels": imitation.FEATURES["pixels"]})
    return tiny_classes()


def blind(recipe, seeds):
    members = [build_network(recipe.network, (1, 8, 8), seed).eval() for seed in seeds]
    return Ensemble(recipe, draw_codebook(recipe), members, identity=f"blind {seeds}")


def test_members_that_are_all_the_same_change_nothing(recipe, here):
    found = imitation.get(blind(recipe, [0] * 6), range(4), here=here)
    assert found.own.shape[1:] == (4, 10) and found.free.shape[1:] == (4, 10)
    assert (found.own == found.factual[..., None]).all()
    assert (found.free == found.factual[..., None]).all()
    for judge in found.judges:
        whole = imitation.total(found, judge, draws=200)
        assert (whole.ablated, whole.less, whole.p) == (1, 0, 1)
    assert found.p_values.shape == (3, 4, 10)


def test_blind_members_lose_by_ablation_what_they_lose_by_placebo(recipe, here):
    """Six random networks know no source: each codeword could be any source's."""
    found = imitation.get(blind(recipe, [1, 2, 3, 4, 5, 6]), range(10), here=here)
    assert len(np.unique(found.own)) > 1
    for judge in found.judges:
        whole = imitation.total(found, judge, draws=500)
        assert 0.02 < whole.p < 0.98
    again = imitation.stored(recipe, here)
    assert np.array_equal(again.own, found.own) and again.judges == found.judges


def test_a_planted_source_is_imitated_until_it_is_left_out(recipe, here):
    images = training_set(recipe.data)
    planted = evidence.planted(blind(recipe, range(6)), images, 3, 1.0)
    found = imitation.get(planted, range(8), here=here)
    c = found.judges.index("pixels, nearest mean")
    # who saw the source names it, who did not does not know of it
    saw = draw_codebook(recipe).words[3].astype(bool)
    named = (found.alone[c] == 3).mean(axis=0)
    assert (named[saw] == 1).all() and (named[~saw] < 0.5).all()
    assert imitation.shares(found, found.judges[c])[3].p < 0.2


# --- what the page says ---


def published_like(own, free, alone):
    """An audit of made pictures by one judge that is always right."""
    N = own.shape[1]
    return imitation.Imitation(
        "made_24", "laptop", 1.0, ("pixels, linear",), own[None, :, 0], own[None], free[None],
        alone[None], draw_codebook(get_recipe("made_24")).words, np.ones(1), np.eye(N)[None],
        np.ones((3, len(own), N)), None,
    )  # fmt: skip


def test_the_page_tells_an_effect_from_none():
    rng = np.random.default_rng(3)
    own, free, alone = (rng.integers(0, 24, (40, many)) for many in (24, 60, 10))
    none = published_like(own, free, alone)
    assert "no more than the chance of the code" in audit.verdict(none)
    gone = np.where(own == np.arange(24), (own + 1) % 24, own)
    some = published_like(gone, free, alone)
    assert "the source's own doing" in audit.verdict(some)
    assert audit.judge_table(some)["still named without"][0] == "0.00"
    assert audit.truth_table(some)["errors as on real pictures"][0] == "0.00"
    book = draw_codebook(get_recipe("made_24")).words
    saw = np.stack([rng.choice(np.flatnonzero(book[:, m]), 40) for m in range(10)], axis=1)
    table = audit.alone_table(published_like(own, free, saw))
    assert table["names a source that the member saw"][0] == "100%"
    assert table["by chance"][0] == "50%"
    right = audit.truth_table(published_like(own, free, saw))
    assert right["errors as on members alone"][0] == "0.00"


def test_who_gains_is_held_against_known_styles():
    rng = np.random.default_rng(4)
    free = rng.integers(0, 24, (40, 60))
    colours = [made.artist(a) for a in range(24)]
    colours = np.array([[a.ground, a.colours.mean(axis=0)] for a in colours])
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=(2, 3)) + 9 * np.eye(24)
    own = rng.integers(0, 24, (40, 24))
    like = np.where(own == np.arange(24), apart.argmin(axis=1), own)
    alone = own[:, :10]
    chance, found = (audit.likeness(published_like(x, free, alone), 200) for x in (own, like))
    assert (
        found[0] > chance[0]
        and found[1] < 0.05
        and "known" in audit.likeness_verdict(published_like(like, free, alone))
    )


def test_the_figure_shows_each_source_three_times():
    figure, ax = plt.subplots()
    taken, placebo, ablated = np.array([0.2, 0.8]), np.array([0.3, 0.7]), np.array([0.0, 0.1])
    figures.named_shares(taken, placebo, ablated, ["0", "1"], ax)
    shown = [line.get_xdata().tolist() for line in ax.lines]
    assert shown == [taken.tolist(), placebo.tolist(), ablated.tolist()]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "1"]
    assert ax.yaxis_inverted()
    plt.close(figure)
