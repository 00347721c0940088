"""The classifier: its network against torchvision's, its attack against the ball it may not leave,
training that survives a stop.
"""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet18

from abc_lib.ground.errors import ArtefactError, BadValue, UnknownName
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store, Workspace
from abc_lib.images.registry import get_recipe
from abc_lib.images.training_set import training_set
from abc_lib.training.budget import num_parameters
from abc_lib.training.classifier.network import ResNetShape, build_classifier
from abc_lib.training.classifier.recipe import CLASSIFIER_FAMILIES, Attack, classifier_recipe
from abc_lib.training.classifier.train import (
    attacked,
    classifier_data,
    get_classifier,
    train_classifier,
)
from abc_lib.training.classifier.values import (
    classifier_metric,
    classifier_table,
    family_metrics,
    find_classifier,
)

SMALL = ResNetShape((4, 8), (1, 1), stride=2)
TINY = dataclasses.replace(
    classifier_recipe("digits"),
    network=SMALL,
    epochs=3,
    adversarial_epochs=2,
    batch_size=24,
    attacked=50,
    attack=Attack(0.75, 0.4, 2),
    judge=Attack(0.75, 0.3, 3),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store in which the tiny classifier was trained without a stop. Not to be changed."""
    store = Store(tmp_path_factory.mktemp("whole"), None)
    train_classifier(TINY, here=Here(store, "cpu", progress=False))
    return store


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# --- the network ---


def test_resnet_18_is_torchvisions_with_a_first_layer_for_one_channel():
    reference = resnet18(num_classes=10)
    reference.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    ours = build_classifier(ResNetShape(), 1, 10, 0)
    state = reference.state_dict()
    ours.load_state_dict(
        {
            ("head." + name[3:] if name.startswith("fc.") else "body." + name): x
            for name, x in state.items()
        }
    )
    x = rand(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours.eval()(x), reference.eval()(x))
    assert num_parameters(ours) == sum(p.numel() for p in reference.parameters())


@pytest.mark.parametrize(
    "shape, side",
    [
        (SMALL, 8),
        (ResNetShape((4,), (2,), stride=1), 8),
        (ResNetShape((4, 4, 8), (1, 1, 1), stride=4), 32),
    ],
)
def test_a_slim_network_looks_at_every_pixel(shape, side):
    net = build_classifier(shape, 1, 10, 0).eval()
    x = rand(1, 1, side, side).requires_grad_()
    assert net(x).shape == (1, 10) and net.features(x).shape == (1, shape.widths[-1]) == (
        1,
        net.num_features,
    )
    (gradient,) = torch.autograd.grad(net.body.conv1(x).square().sum(), x)
    assert (gradient != 0).all()


def test_the_same_seed_gives_the_same_network_and_leaves_the_global_generator():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    one, same, other = (build_classifier(SMALL, 1, 10, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["body.conv1.weight"], other["body.conv1.weight"])


@pytest.mark.parametrize("widths, blocks", [((), ()), ((4, 8), (1,)), ((4,) * 5, (1,) * 5)])
def test_stages_that_do_not_fit_are_refused(widths, blocks, one_line):
    with pytest.raises(BadValue) as error:
        build_classifier(ResNetShape(widths, blocks), 1, 10, 0)
    assert one_line(error)


# --- recipes and data ---


def test_the_paper_scale_is_appendix_b5():
    for family, radius in (("mnist", 3), ("fashion", 1)):
        recipe = classifier_recipe(family, "paper")
        assert (recipe.epochs, recipe.adversarial_epochs, recipe.attacked) == (50, 50, 0)
        assert recipe.attack == recipe.judge == Attack(radius, 0.2, 50)
        assert recipe.network == ResNetShape((64, 128, 256, 512), (2, 2, 2, 2), 0)
        assert classifier_recipe(family, "laptop").judge == recipe.judge


@pytest.mark.parametrize("family", CLASSIFIER_FAMILIES)
def test_a_laptop_classifier_stays_under_a_mebibyte(family):
    recipe = classifier_recipe(family)
    assert (
        recipe.stored == "float16"
        and 2 * num_parameters(build_classifier(recipe.network, 1, 10, 0)) < 2**20
    )


def test_unknown_names_are_refused_with_the_closest():
    with pytest.raises(UnknownName, match="did you mean 'mnist'"):
        classifier_recipe("MNIST_")
    with pytest.raises(UnknownName, match="laptop"):
        classifier_recipe("mnist", "latop")


def test_every_field_changes_the_name_of_the_artefact():
    changes = {
        "scale": "paper",
        "attack": Attack(1, 1, 1),
        "judge": Attack(1, 1, 1),
        "network": ResNetShape(),
        "epochs": 9,
        "adversarial_epochs": 9,
        "batch_size": 9,
        "attacked": 9,
        "seed": 9,
        "stored": "float32",
        "family": "mnist",
    }
    assert set(changes) == {field.name for field in dataclasses.fields(TINY)}
    names = {
        Store.folder_name("x", dataclasses.replace(TINY, **{key: value}).spec)
        for key, value in changes.items()
    }
    assert len(names | {Store.folder_name("x", TINY.spec)}) == len(changes) + 1


def test_digits_that_train_or_validate_are_seen_by_no_ensemble():
    images, labels, others, their, origin = classifier_data("digits")
    assert (len(images), len(others)) == (573, 200) == (len(labels), len(their)) and "573" in origin
    # A few of scikit-learn's digits are equal to the pixel, so it is images and not values that are
    # counted.
    rows = lambda x: sorted(map(tuple, (x.flatten(1) * 255).round().int().tolist()))
    from sklearn.datasets import load_digits

    everything = torch.from_numpy(load_digits().images * 255 / 16).round()
    together = torch.cat([images, others, training_set(get_recipe("digits_1024").data).images])
    assert rows(together) == rows(everything / 255)


# --- the attack ---


def test_an_attack_stays_in_its_ball_and_does_more_harm_than_chance():
    images, labels, *_ = classifier_data("digits")
    x, y = images[:64], labels[:64]
    net = build_classifier(SMALL, 1, 10, 3).eval()
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    moved = attacked(net, x, y, Attack(0.75, 0.2, 10), 1)
    assert torch.equal(torch.rand(2), expected)
    far = (moved - x).flatten(1).norm(dim=1)
    assert far.max() <= 0.75 + 1e-5 and far.median() > 0.3 and moved.min() >= 0 and moved.max() <= 1
    chance = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    chance = (x + chance * (far / chance.flatten(1).norm(dim=1))[:, None, None, None]).clamp(0, 1)
    with torch.no_grad():
        plain, random, worst = (float(F.cross_entropy(net(each), y)) for each in (x, chance, moved))
    assert worst - plain > 3 * abs(random - plain)
    assert torch.equal(moved, attacked(net, x, y, Attack(0.75, 0.2, 10), 1))
    assert not torch.equal(moved, attacked(net, x, y, Attack(0.75, 0.2, 10), 2))


# --- training ---


def test_it_learns_and_reports_what_it_does(whole):
    found = find_classifier(TINY, here=Here(whole))
    _, _, others, their, _ = classifier_data("digits")
    assert (
        found.info["accuracy"]
        == round(float((found.classify(others) == their).float().mean()), 4)
        > 0.3
    )
    assert (
        found.info["validation_images"],
        found.info["attacked_images"],
        found.info["training_images"],
    ) == (200, 50, 573)
    assert (
        len(found.info["accuracy_by_epoch"]) == 5
        and 0 <= found.info["adversarial_accuracy"] <= found.info["accuracy"]
    )
    assert {x.dtype for x in found.artefact.tensors("classifier.safetensors").values()} == {
        torch.float16,
        torch.int64,
    }


def test_the_best_normal_epoch_is_where_adversarial_training_starts(whole, tmp_path, monkeypatch):
    """Epoch by epoch, from what checkpoints hold."""
    saved, save = [], Workspace.save
    monkeypatch.setattr(
        Workspace,
        "save",
        lambda self, name, tensors: (
            saved.append({key: x.clone() for key, x in tensors.items()}),
            save(self, name, tensors),
        ),
    )
    train_classifier(TINY, here=Here(Store(tmp_path, None), "cpu", progress=False))
    assert len(saved) == 5
    accuracies = saved[-1]["accuracies"]
    first, second = int(accuracies[:3].argmax()), 3 + int(accuracies[3:].argmax())
    name = "head.weight"
    assert torch.equal(saved[2][f"best.{name}"], saved[first][f"value.{name}"])
    assert torch.equal(saved[-1][f"best.{name}"], saved[second][f"value.{name}"])
    # A new optimiser: the fourth epoch's Adam has taken one epoch's steps, and those few lead away
    # from the best epoch.
    assert int(saved[3]["updates"]) == int(saved[0]["updates"]) < int(saved[2]["updates"])
    near, far = ((saved[3][f"value.{name}"] - saved[k][f"value.{name}"]).norm() for k in (first, 0))
    assert near < far
    stored = find_classifier(TINY, here=Here(whole)).artefact.tensors("classifier.safetensors")[
        name
    ]
    assert torch.equal(stored, saved[second][f"value.{name}"].half())


@pytest.mark.parametrize("finished", [1, 3, 5])
def test_training_that_was_stopped_goes_on_to_the_same_bytes(
    finished, whole, tmp_path, monkeypatch
):
    store, save, count = Store(tmp_path, None), Workspace.save, []

    def stop(self, name, tensors):
        save(self, name, tensors)
        count.append(name)
        if len(count) == finished:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            train_classifier(TINY, here=Here(store, "cpu", progress=False))
    assert find_classifier(TINY, here=Here(store)) is None
    torch.rand(7)  # someone else draws in between
    again = train_classifier(TINY, here=Here(store, "cpu", progress=False))
    assert again.info["epochs_in_these_seconds"] == 5 - finished
    reference = find_classifier(TINY, here=Here(whole)).artefact
    assert again.read("classifier.safetensors") == reference.read("classifier.safetensors")
    same = ("accuracy", "adversarial_accuracy", "accuracy_by_epoch")
    assert [again.info[key] for key in same] == [reference.info[key] for key in same]
    assert list((store.cache / "partial").rglob("*.safetensors")) == []


def test_published_comes_before_cached_before_trained(whole, store, monkeypatch):
    cached = find_classifier(TINY, here=Here(whole))
    assert not cached.artefact.published and find_classifier(TINY, here=Here(store)) is None
    store.copy(cached.artefact, "classifier")
    monkeypatch.setattr(
        "abc_lib.training.classifier.train._train", lambda *_: pytest.fail("trained again")
    )
    found = get_classifier(TINY, here=Here(store, "cpu", progress=False))
    assert found.artefact.published and found.identity == cached.identity
    assert find_classifier(TINY, here=Here(store.cached())) is None
    assert get_classifier(TINY, here=Here(whole.cached(), "cpu")).identity == cached.identity


def test_a_damaged_classifier_is_refused(whole, tmp_path, one_line):
    store = Store(tmp_path / "cache", tmp_path)
    copied = store.copy(find_classifier(TINY, here=Here(whole)).artefact, "classifier")
    path = copied.path / "classifier.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtefactError) as error:
        find_classifier(TINY, here=Here(store))
    assert one_line(error)


# --- use ---


def test_probabilities_classes_and_features_belong_together(whole):
    found, x = find_classifier(TINY, here=Here(whole)), rand(9, 1, 8, 8)
    p, features = found.probabilities(x), found.features(x)
    assert (
        p.shape == (9, 10) and features.shape == (9, 8) and torch.allclose(p.sum(1), torch.ones(9))
    )
    with torch.no_grad():
        assert torch.allclose(found.network.head(features).softmax(1), p, atol=1e-6)
    assert torch.equal(found.classify(x), p.argmax(1))
    assert torch.allclose(found.probabilities(x, batch=2), p, atol=1e-6)
    assert not found.network.training


@pytest.mark.parametrize(
    "images, words",
    [
        (rand(2, 1, 32, 32), "do not fit"),
        (rand(1, 8, 8), "do not fit"),
        (rand(2, 3, 8, 8), "do not fit"),
        (rand(0, 1, 8, 8), "no images"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "whole numbers"),
        (rand(1, 1, 8, 8) * 255, "values from"),
        (torch.full((1, 1, 8, 8), torch.nan), "values from nan"),
    ],
)
def test_images_of_another_kind_are_refused(images, words, whole, one_line):
    with pytest.raises(BadValue, match=words) as error:
        find_classifier(TINY, here=Here(whole)).classify(images)
    assert one_line(error)


def test_its_metric_is_the_distance_between_features(whole):
    found, a, b = (
        find_classifier(TINY, here=Here(whole)),
        rand(4, 1, 8, 8),
        rand(3, 1, 8, 8, seed=1),
    )
    metric = classifier_metric(found)
    expected = (found.features(a)[:, None].double() - found.features(b)[None].double()).norm(dim=2)
    assert (
        torch.allclose(metric.pairwise(a, b), expected, rtol=1e-4)
        and float(metric.distance(a, a).max()) == 0
    )
    assert (
        metric.name == "classifier" and "digits" in metric.label and "trained here" in metric.label
    )
    with pytest.raises(BadValue, match="do not fit"):
        metric.pairwise(rand(1, 3, 8, 8), rand(1, 3, 8, 8))


def test_a_family_with_a_classifier_has_one_metric_more(store):
    without = [metric.name for metric in family_metrics("digits", here=Here(store))]
    assert "euclidean" in without and "classifier" not in without
    assert [m.name for m in family_metrics("cifar10", here=Here(store))] == without
    published = find_classifier("digits")
    store.copy(published.artefact, "classifier")
    assert [metric.name for metric in family_metrics("digits", here=Here(store))] == [
        *without,
        "classifier",
    ]


# --- what ships ---


def test_the_published_digits_classifier_does_what_its_manifest_says():
    found = find_classifier("digits")
    assert found.artefact.published and found.artefact.provenance["commit"].isalnum()
    _, _, others, their, _ = classifier_data("digits")
    # Another processor rounds otherwise, and may turn an image over.
    assert float((found.classify(others) == their).float().mean()) == pytest.approx(
        found.info["accuracy"], abs=0.011
    )
    assert found.info["accuracy"] > 0.95
    images = training_set(get_recipe("digits_1024").data)
    assert float((found.classify(images.images) == images.labels).float().mean()) > 0.9


def test_the_table_has_the_classifiers_at_hand_beside_the_papers(store):
    table = classifier_table().set_index(["family", "scale"])
    digits, mnist = table.loc["digits", "laptop"], table.loc["mnist", "laptop"]
    assert digits["accuracy"] == find_classifier("digits").info["accuracy"] and np.isnan(
        digits["paper_accuracy"]
    )
    assert (mnist["paper_accuracy"], mnist["paper_adversarial_accuracy"], mnist["radius"]) == (
        0.9788,
        0.9370,
        3.0,
    )
    assert classifier_table(here=Here(store)).empty
