"""Visual metrics of stored landscapes: kept as they would be worked out by hand."""

import numpy as np
import pytest
from small import own_store

from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.images.training_set import training_set
from abc_lib.method.attribution import top_visual
from abc_lib.metrics.names import get_metric
from abc_lib.metrics.visual import visual_distances
from abc_lib.results import landscapes
from abc_lib.results.measures import looks
from abc_lib.training.classifier import values
from abc_lib.training.ensembles import find_ensemble


def test_looks_are_what_the_metrics_say(trained, monkeypatch, tmp_path):
    monkeypatch.setattr(values, "metrics_at_hand", lambda: ["euclidean"])
    here = Here(own_store(trained, tmp_path), "cpu", jobs=1, progress=False)
    ensemble = find_ensemble(trained.recipe, here)
    exact = landscapes.get(ensemble, 3, here=here)
    found = looks.get(ensemble.recipe, 2, here)
    metric = get_metric("euclidean")
    visual = visual_distances(exact.factual, training_set(ensemble.recipe.data), metric)
    assert found.metrics[0] == "euclidean"
    assert np.array_equal(found.nearest[0], top_visual(visual, looks.TOP))
    rows, nearest = np.arange(3), visual.argmin(axis=1)
    below = (exact.distances < exact.distances[rows, nearest][:, None]).sum(axis=1)
    assert found.moved[0] == pytest.approx(below / (exact.num_sources - 1))
    # by the Euclidean distance the farthest counterfactual is the landscape's own
    assert np.array_equal(found.farthest[0, :, 0], exact.distances[:2].argmax(axis=1))
    assert np.isnan(found.by_derivatives).all() and np.isfinite(found.by_ablation).all()
    again = looks.stored(ensemble.recipe, here)
    assert np.array_equal(again.nearest, found.nearest)


def test_without_landscapes_there_is_nothing_to_look_at(tiny, here, one_line):
    with pytest.raises(BadValue, match="no landscapes") as error:
        looks.get(tiny, here=here)
    assert one_line(error)
