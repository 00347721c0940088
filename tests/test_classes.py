"""How often classes are generated with and without them, against ablating and counting by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import tiny_classes

from abc_lib.ground.errors import AbcError
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store, Workspace
from abc_lib.results import class_counts as classes
from abc_lib.results.class_counts import class_names, class_table, standard_errors
from abc_lib.results.class_counts import compute as compute_class_counts
from abc_lib.results.class_counts import read as read_class_counts
from abc_lib.results.class_counts import stored as find_class_counts
from abc_lib.training.classifier.values import find_classifier
from abc_lib.training.ensembles import find_ensemble, train_ensemble
from abc_lib.training.retrained import get_retrained

QUIET = {"jobs": 1, "progress": False}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An ensemble of ten classes and its eleven retrained models, trained for a moment on real
    digits.
    """
    recipe = tiny_classes(12)
    store = Store(tmp_path_factory.mktemp("classes"), None)
    train_ensemble(recipe, here=Here(store, "cpu", **QUIET))
    return SimpleNamespace(
        recipe=recipe,
        store=store,
        ensemble=find_ensemble(recipe, here=Here(store)),
        classifier=find_classifier("digits"),
        retrained=get_retrained(recipe, removed="removed", here=Here(store, "cpu", **QUIET)),
    )


@pytest.mark.parametrize("method", ["ablation", "retraining"])
def test_counts_are_those_of_sampling_and_counting_by_hand(small, store, method):
    model = small.ensemble if method == "ablation" else small.retrained
    found = read_class_counts(
        compute_class_counts(model, small.classifier, 23, 5, here=Here(store, **QUIET))
    )
    assert (found.name, found.scale, found.method, found.samples) == (
        "digits_classes",
        "laptop",
        method,
        23,
    )
    noise, book = small.ensemble.draw_noise(5, range(23)), small.ensemble.codebook
    for row, source in enumerate([None, *range(10)]):
        if method == "ablation":
            # the members that never saw the class, by the codewords themselves
            alive = (
                range(6) if source is None else [i for i in range(6) if book.words[source][i] == 0]
            )
            weights = np.array([float(i in alive) for i in range(6)]) * 6 / len(alive)
            images = small.ensemble.sample(noise, np.tile(weights, (23, 1)))
        else:
            images = small.retrained.sample(noise, ["full" if source is None else source])[0]
        torch.testing.assert_close(found.images[row], images[:10], rtol=1e-3, atol=1e-3)
        labels = small.classifier.probabilities(images).argmax(1).tolist()
        # a sample on the border between two classes may fall either way by rounding
        assert sum(abs(labels.count(k) - found.counts[row, k]) for k in range(10)) <= 2
    assert found.removed.tolist() == list(range(10)) and (found.counts.sum(axis=1) == 23).all()


def test_frequencies_before_and_after(small, store):
    found = read_class_counts(
        compute_class_counts(small.ensemble, small.classifier, 12, 0, here=Here(store, **QUIET))
    )
    np.testing.assert_allclose(found.before, found.counts[0] / 12)
    np.testing.assert_allclose(found.after, [found.counts[1 + k, k] / 12 for k in range(10)])
    np.testing.assert_allclose(found.change(), (found.counts[1:] - found.counts[0]) / 12)
    assert standard_errors(np.array([0.0, 0.5, 1.0]), 25).tolist() == [0.0, 0.1, 0.0]
    rows = class_table([found], class_names("digits"))
    assert [row["class"] for row in rows] == [str(k) for k in range(10)] and len(rows[0]) == 3
    assert rows[3]["ablation, all"].startswith(f"{found.before[3]:.1%}")
    assert class_names("fashion")[2] == "pullover" and len(class_names("fashion")) == 10


def test_a_stopped_run_goes_on_and_gives_the_same(small, store, monkeypatch):
    monkeypatch.setattr(classes, "_BLOCK", 8)
    whole = read_class_counts(
        compute_class_counts(
            small.retrained,
            small.classifier,
            20,
            1,
            here=Here(Store(store.cache / "other", None), **QUIET),
        )
    )
    real, saved = Workspace.save, []

    def save(self, name, tensors):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(name)
        real(self, name, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "save", save)
        with pytest.raises(KeyboardInterrupt):
            compute_class_counts(
                small.retrained, small.classifier, 20, 1, here=Here(store, **QUIET)
            )
    monkeypatch.setattr(
        Workspace,
        "save",
        lambda self, name, tensors: (saved.append(name), real(self, name, tensors))[1],
    )
    found = read_class_counts(
        compute_class_counts(small.retrained, small.classifier, 20, 1, here=Here(store, **QUIET))
    )
    assert len(saved) == len(set(saved)) == 3
    np.testing.assert_array_equal(found.counts, whole.counts)
    assert torch.equal(found.images, whole.images) and found.images.shape[:2] == (11, 10)


def test_counts_are_found_without_their_models(small, store):
    compute_class_counts(small.ensemble, small.classifier, 6, 0, here=Here(store, **QUIET))
    compute_class_counts(small.ensemble, small.classifier, 9, 0, here=Here(store, **QUIET))
    assert find_class_counts(small.recipe, "ablation", 0, here=Here(store)).samples == 9
    assert find_class_counts(small.recipe, "retraining", 0, here=Here(store)) is None
    assert find_class_counts(small.recipe, "ablation", 1, here=Here(store)) is None
    black = get_retrained(small.recipe, [0], here=Here(small.store, "cpu", **QUIET))
    compute_class_counts(black, small.classifier, 3, 0, here=Here(store, **QUIET))
    assert find_class_counts(small.recipe, "retraining", 0, here=Here(store)) is None
    compute_class_counts(small.retrained, small.classifier, 2, 0, here=Here(store, **QUIET))
    assert find_class_counts(small.recipe, "retraining", 0, here=Here(store)).samples == 2
    assert (
        find_class_counts(
            small.recipe.replace(training={"steps": 31}), "ablation", 0, here=Here(store)
        )
        is None
    )


def test_bad_requests_are_one_line(small, trained, store, one_line):
    other = SimpleNamespace(recipe=SimpleNamespace(family="mnist"))
    for words, call in (
        (
            "sources of digits_64 are not classes",
            lambda: compute_class_counts(trained.ensemble, small.classifier, 4, here=Here(store)),
        ),
        (
            "samples is 0",
            lambda: compute_class_counts(small.ensemble, small.classifier, 0, here=Here(store)),
        ),
        (
            "classifier is of mnist",
            lambda: compute_class_counts(small.ensemble, other, 4, here=Here(store)),
        ),
        (
            "unknown method 'ablate'",
            lambda: find_class_counts(small.recipe, "ablate", here=Here(store)),
        ),
    ):
        with pytest.raises(AbcError, match=words) as error:
            call()
        assert one_line(error)
