"""Training: the same bits however often it was stopped, and only a member's own split in it."""

import dataclasses
import errno
import math
import os
import random
import shutil

import pytest
import torch
from diffusers import DDPMScheduler
from small import own_store
from stops import steps_that_stop

from abc_lib.ground.digests import identity_of
from abc_lib.ground.errors import AbcError, ArtefactError, BadValue, UnknownName
from abc_lib.ground.here import Here
from abc_lib.ground.seeds import derive
from abc_lib.ground.store import Store, Workspace
from abc_lib.images.registry import get_recipe
from abc_lib.images.training_set import training_set
from abc_lib.method.code import draw_codebook
from abc_lib.method.network import build_network
from abc_lib.training.batches import MIDDLE, learning_rate
from abc_lib.training.batches import Batches as _Batches
from abc_lib.training.ensembles import find_ensemble, get_ensemble, pack_ensemble, train_ensemble
from abc_lib.training.lockstep import newest_share
from abc_lib.training.members import Block, find_member, member_spec, train_members

DATA_FILES = ("member.safetensors", "losses.safetensors")


def split_of(recipe, member, images=None):
    images = training_set(recipe.data) if images is None else images
    return images.of_sources(draw_codebook(recipe).split(member))


def train(recipe, member, store, images=None, seconds=1000.0):
    mine = split_of(recipe, member) if images is None else images
    (artefact,) = train_members(recipe, [member], [mine], seconds, here=Here(store, "cpu"))
    return artefact


def bits(artefact):
    return [artefact.read(name) for name in DATA_FILES]


def altered(images, change):
    pixels = images.images.clone()
    change(pixels)
    return dataclasses.replace(images, images=pixels)


@pytest.fixture
def stop_at(monkeypatch):
    return steps_that_stop(monkeypatch)


# --- the same bits ---


def test_the_same_recipe_gives_the_same_bits(trained, store):
    for member in (0, 5):
        assert bits(train(trained.recipe, member, store)) == bits(trained.artefacts[member])


def test_members_seeds_and_recipes_differ(trained, store):
    again = trained.recipe.replace(training={"seed": 1})
    assert len({bits(a)[0] for a in trained.artefacts}) == 6
    assert bits(train(again, 0, store))[0] != bits(trained.artefacts[0])[0]
    assert member_spec(again, 0) != member_spec(trained.recipe, 0) != member_spec(trained.recipe, 1)


def test_training_does_not_depend_on_the_global_generator(trained, store):
    torch.manual_seed(12345)
    assert bits(train(trained.recipe, 1, store)) == bits(trained.artefacts[1])


def test_training_does_not_depend_on_the_number_of_threads(trained, store):
    torch.set_num_threads(2)
    try:
        (member,) = train_ensemble(
            trained.recipe, members=[1], here=Here(store, "cpu", jobs=1, progress=False)
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert bits(member) == bits(trained.artefacts[1])


def test_dropout_is_reproducible_too(tiny, store, stop_at):
    recipe = tiny.replace(network={"dropout": 0.3})
    whole = bits(train(recipe, 0, Store(store.cache / "one", None)))
    assert whole != bits(train(tiny, 0, store))
    stop_at(5)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, 0, store, seconds=0)
    stop_at(None)
    assert bits(train(recipe, 0, store)) == whole


@pytest.mark.parametrize("step", [1, 2, 5, 8, 11])
def test_a_member_stopped_before_any_step_goes_on_to_the_same_bits(trained, store, stop_at, step):
    stop_at(step)
    with pytest.raises(KeyboardInterrupt):
        train(trained.recipe, 2, store, seconds=0)
    stop_at(None)
    done = train(trained.recipe, 2, store, seconds=0)
    # It did go on: only the steps that were missing were run.
    assert done.info["steps_in_these_seconds"] == 12 - step
    assert bits(done) == bits(trained.artefacts[2])


def test_a_member_stopped_many_times_ends_with_the_same_bits(trained, store, stop_at):
    rng, step, stops = random.Random(4), 0, 0
    while (step := step + rng.randrange(1, 3)) < 12:
        stop_at(step)
        with pytest.raises(KeyboardInterrupt):
            train(trained.recipe, 3, store, seconds=0)
        stops += 1
    stop_at(None)
    assert stops > 5 and bits(train(trained.recipe, 3, store)) == bits(trained.artefacts[3])
    assert not list((store.cache / "partial").glob("*/*"))


def test_a_stop_while_a_checkpoint_is_written_costs_that_checkpoint_only(
    trained, store, stop_at, monkeypatch
):
    stop_at(None)
    real, calls = Workspace.save, iter(range(100))

    def save(self, name, tensors):
        if next(calls) == 4:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / f"{name}.0123456789abcdef.safetensors").write_bytes(b"cut short")
            raise KeyboardInterrupt
        real(self, name, tensors)

    monkeypatch.setattr(Workspace, "save", save)
    with pytest.raises(KeyboardInterrupt):
        train(trained.recipe, 2, store, seconds=0)
    done = train(trained.recipe, 2, store, seconds=0)
    assert done.info["steps_in_these_seconds"] == 8 and bits(done) == bits(trained.artefacts[2])


def test_nothing_is_left_over_when_the_end_is_interrupted(trained, store, stop_at, monkeypatch):
    stop_at(None)
    with monkeypatch.context() as patch:
        # Finished, but stopped before it could tidy up.
        patch.setattr(Workspace, "clear", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(trained.recipe, 2, store, seconds=0)
    assert list(store.cache.rglob("checkpoint-*")) != []
    train(trained.recipe, 2, store)
    assert list(store.cache.rglob("checkpoint-*")) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_checkpoint_is_not_believed(trained, store, stop_at, damage):
    stop_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(trained.recipe, 2, store, seconds=0)
    (piece,) = store.cache.rglob("checkpoint-*.safetensors")
    data = bytearray(piece.read_bytes())
    data[-5000] ^= 0x40
    piece.write_bytes({"flip": data, "cut": data[:-1], "empty": b""}[damage])
    stop_at(None)
    done = train(trained.recipe, 2, store)
    assert done.info["steps_in_these_seconds"] == 12 and bits(done) == bits(trained.artefacts[2])


def test_a_checkpoint_of_other_images_is_not_gone_on_with(trained, store, stop_at):
    mine = split_of(trained.recipe, 2)
    stop_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(trained.recipe, 2, store, altered(mine, lambda x: x.mul_(0.5)), seconds=0)
    stop_at(None)
    assert bits(train(trained.recipe, 2, store)) == bits(trained.artefacts[2])


def test_a_full_disk_stops_training_with_one_line_and_it_goes_on_afterwards(
    trained, store, stop_at, monkeypatch, one_line
):
    stop_at(6)
    with pytest.raises(KeyboardInterrupt):
        train(trained.recipe, 2, store, seconds=0)
    stop_at(None)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(ArtefactError, match="disk is full") as error:
            train(trained.recipe, 2, store, seconds=0)
    assert one_line(error)
    done = train(trained.recipe, 2, store)
    assert done.info["steps_in_these_seconds"] == 6 and bits(done) == bits(trained.artefacts[2])


def test_a_finished_member_is_found_and_not_trained_again(trained, store, stop_at):
    first = train(trained.recipe, 0, store)
    stop_at(0)
    again = train(trained.recipe, 0, store)
    assert again.manifest == first.manifest


# --- nothing but its own split ---


def test_a_member_depends_on_its_own_split_only(trained, store):
    code = draw_codebook(trained.recipe)
    seen, unseen = int(code.split(0)[0]), int((code.words[:, 0] == 0).argmax())
    mine = int((trained.images.sources == seen).nonzero()[0, 0])
    other = int((trained.images.sources == unseen).nonzero()[0, 0])

    def after(name, images):
        return bits(
            train(
                trained.recipe,
                0,
                Store(store.cache / name, None),
                split_of(trained.recipe, 0, images),
            )
        )

    same = bits(trained.artefacts[0])
    assert after("removed", trained.images.without(unseen)) == same
    assert after("repainted", altered(trained.images, lambda x: x[other].fill_(0.3))) == same
    # One pixel by one grey level is enough to be noticed.
    assert (
        after("one pixel", altered(trained.images, lambda x: x[mine, 0, 3, 3].add_(1 / 255)))[0]
        != same[0]
    )


def test_every_member_is_given_the_sources_of_its_column(trained):
    code = draw_codebook(trained.recipe)
    for member, artefact in enumerate(trained.artefacts):
        assert artefact.info["images"] == code.words[:, member].sum()
        assert artefact.info["split_checksum"] == split_of(trained.recipe, member).checksum
        assert artefact.info["origin"] == trained.images.origin


def test_the_control_is_trained_on_everything(trained, store):
    (control,) = train_ensemble(
        trained.recipe, members=["control"], here=Here(store, "cpu", jobs=1, progress=False)
    )
    assert control.info["images"] == 12 and control.info["member"] == "control"
    assert control.info["split_checksum"] == trained.images.checksum
    assert control.path.name.startswith("digits_64-laptop-control-")
    assert bits(control)[0] not in [bits(a)[0] for a in trained.artefacts]


def test_changed_data_is_noticed_when_a_member_is_finished(trained, one_line):
    changed = altered(split_of(trained.recipe, 0), lambda x: x.mul_(0.5))
    with pytest.raises(ArtefactError, match="trained on other images") as error:
        train(trained.recipe, 0, trained.store, changed)
    assert one_line(error)


def test_changed_data_is_noticed_when_the_whole_ensemble_is_finished(trained, one_line):
    changed = altered(trained.images, lambda x: x.mul_(0.5))
    with pytest.raises(ArtefactError, match="trained on other images") as error:
        train_ensemble(
            trained.recipe, changed, here=Here(trained.store, "cpu", jobs=1, progress=False)
        )
    assert one_line(error)


def test_a_member_without_images_gives_one_line(trained, store, one_line):
    with pytest.raises(BadValue, match="no images") as error:
        train(trained.recipe, 0, store, trained.images.of_sources([]))
    assert one_line(error)


# --- the steps themselves ---


@pytest.mark.parametrize("target", ["velocity", "image"])
def test_training_is_what_the_paper_says_written_out(trained, store, target):
    """Ho et al.: predict the noise; here as the velocity or the image, with plain Adam.

    The members are trained as a block; what is written out is one alone.
    """
    recipe, member = trained.recipe, 4
    artefact = trained.artefacts[member]
    if target == "image":
        recipe = recipe.replace(
            network={"predicts": "image"},
            training={"weighting": "image", "times": "middle", "block": 4},
        )
        artefact = train_ensemble(recipe, here=Here(store, "cpu", progress=False))[member]
    images = split_of(recipe, member).images
    net = build_network(
        recipe.network, (1, 8, 8), derive("initial", 0, member), recipe.diffusion
    ).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=1.0)
    scheduler = DDPMScheduler(beta_start=1e-4, beta_end=0.02)
    batches, losses = _Batches(recipe, member, len(images)), []
    assert recipe.training.weighting == target and not recipe.data.flips
    for step in range(12):
        which = batches.indices(step)
        times, noise, _, _ = batches.chance(step, (len(which), 1, 8, 8))
        clean = 2 * images[which] - 1
        noisy = scheduler.add_noise(clean, noise, times)
        a = scheduler.alphas_cumprod[times].reshape(-1, 1, 1, 1)
        if target == "image":
            # What the U-Net says is the image; its squared error counts as it is.
            loss = (net.unet(noisy, times).sample - clean).square().mean()
        else:
            loss = ((net(noisy, times) - noise).square() / a).mean()
        optimiser.param_groups[0]["lr"] = (
            3e-3 * min(1, (step + 1) / 3) * (1 + math.cos(math.pi * step / 12)) / 2
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    kept = artefact.tensors("losses.safetensors")["losses"]
    assert kept.tolist() == pytest.approx(losses, rel=2e-3)
    stored = artefact.tensors("member.safetensors")
    for name, value in net.state_dict().items():
        torch.testing.assert_close(stored[name].float(), value, rtol=2e-2, atol=3e-3)


def test_times_lie_in_the_middle_as_often_as_the_recipe_says(trained):
    middle = trained.recipe.replace(training={"times": "middle"})
    drawn = torch.cat([_Batches(middle, 0, 8).chance(k, (100, 1))[0] for k in range(200)])
    share = ((drawn >= MIDDLE[0]) & (drawn < MIDDLE[1])).float().mean()
    # four in five, and of the fifth that is drawn of all thousand those that fall there
    expected = 0.8 + 0.2 * (MIDDLE[1] - MIDDLE[0]) / 1000
    assert abs(share - expected) < 4 * (expected * (1 - expected) / 20_000) ** 0.5
    assert int(drawn.min()) < 20 and int(drawn.max()) > 980
    for part, name in (("times", "late"), ("weighting", "score")):
        with pytest.raises(UnknownName, match=f"'{name}'"):
            wrong = trained.recipe.replace(training={part: name})
            Block(wrong, [0], [split_of(wrong, 0)], "cpu")


# --- members side by side ---


@pytest.fixture(scope="module")
def blocks(trained, tmp_path_factory):
    """The tiny ensemble in blocks of four and two, never stopped."""
    recipe = trained.recipe.replace(training={"block": 4})
    store = Store(tmp_path_factory.mktemp("blocks"), None)
    return recipe, train_ensemble(recipe, here=Here(store, "cpu", progress=False))


def test_a_member_of_a_block_is_the_member_up_to_rounding(trained, blocks):
    for one, beside in zip(trained.artefacts, blocks[1], strict=True):
        theirs = beside.tensors("losses.safetensors")["losses"]
        torch.testing.assert_close(
            one.tensors("losses.safetensors")["losses"], theirs, rtol=1e-3, atol=1e-5
        )
        assert one.info["images"] == beside.info["images"]
        assert one.info["split_checksum"] == beside.info["split_checksum"]


def test_a_block_of_which_a_member_is_wanted_is_trained_whole(blocks, store):
    recipe, whole = blocks
    here = Here(store, "cpu", progress=False)
    (member,) = train_ensemble(recipe, members=[2], here=here)
    assert bits(member) == bits(whole[2])
    assert len(list((store.cache / "member").iterdir())) == 4
    # The other block's members are trained beside each other, and no finished one again.
    assert [bits(m) for m in train_ensemble(recipe, here=here)] == [bits(m) for m in whole]
    assert train_ensemble(recipe, members=[2], here=here)[0].manifest == member.manifest


@pytest.mark.parametrize("step", [1, 4, 11])
def test_a_block_stopped_before_any_step_goes_on_to_the_same_bits(blocks, store, stop_at, step):
    recipe, whole = blocks
    members = [0, 1, 2, 3]
    splits = [split_of(recipe, m) for m in members]
    stop_at(step)
    with pytest.raises(KeyboardInterrupt):
        train_members(recipe, members, splits, 0, here=Here(store, "cpu"))
    stop_at(None)
    done = train_members(recipe, members, splits, 0, here=Here(store, "cpu"))
    assert {m.info["steps_in_these_seconds"] for m in done} == {12 - step}
    assert [bits(m) for m in done] == [bits(m) for m in whole[:4]]


def test_a_block_killed_while_its_members_are_written_writes_the_same(blocks, store, monkeypatch):
    recipe, whole = blocks
    members = [0, 1, 2, 3]
    splits = [split_of(recipe, m) for m in members]
    real, written = Store.write, []

    def write(self, kind, label, *rest, **more):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(label)
        return real(self, kind, label, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", write)
        with pytest.raises(KeyboardInterrupt):
            train_members(recipe, members, splits, 0, here=Here(store, "cpu"))
    there = {path.name for path in (store.cache / "member").iterdir()}
    assert len(there) == 2
    done = train_members(recipe, members, splits, 0, here=Here(store, "cpu"))
    # From the last checkpoint on, and what was written stays.
    assert [bits(m) for m in done] == [bits(m) for m in whole[:4]]
    assert there < {path.name for path in (store.cache / "member").iterdir()}


# --- running averages, and one training that passes through shorter ones ---


@pytest.fixture(scope="module")
def averaged(trained):
    """Members in blocks, averages of their parameters, at a constant rate."""
    more = {"block": 4, "schedule": "constant", "warmup": 0, "average": 0.2}
    return trained.recipe.replace(training=more)


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_an_average_is_as_wide_as_it_says(width):
    shares = [newest_share(width, k) for k in range(1500)]
    # what is left of each step's parameters in the end
    left, weights = 1.0, []
    for share in reversed(shares):
        weights.insert(0, share * left)
        left *= 1 - share
    mean = sum(k * w for k, w in enumerate(weights))
    spread = sum((k - mean) ** 2 * w for k, w in enumerate(weights)) ** 0.5
    assert left == 0 and sum(weights) == pytest.approx(1)
    assert spread / 1500 == pytest.approx(width, rel=1e-3)


def test_what_is_stored_is_the_average_of_the_parameters_after_each_step(averaged, store):
    recipe = averaged.replace(training={"stored": "float32"})
    plain = recipe.replace(training={"average": 0.0})
    members = [0, 1, 2, 3]
    block = Block(plain, members, [split_of(plain, m) for m in members], "cpu")
    expected = {}
    for k in range(12):
        block.step(k)
        share = newest_share(0.2, k)
        for name, value in block.parameters().items():
            before = expected.get(name, torch.zeros_like(value))
            expected[name] = (1 - share) * before + share * value
    (done,) = train_ensemble(recipe, members=[2], here=Here(store, "cpu", progress=False))
    for name, value in done.tensors("member.safetensors").items():
        torch.testing.assert_close(value, expected[name][2], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(
        expected["unet.conv_in.weight"], block.parameters()["unet.conv_in.weight"]
    )


def test_a_training_leaves_the_members_of_those_it_passes_through(averaged, store, tmp_path):
    here = Here(store, "cpu", progress=False)
    short, middle = (averaged.exposed(times) for times in (4, 8))
    assert (short.training.steps, middle.training.steps) == (3, 6)
    train_ensemble(averaged, here=here, passing=(4, 8, 16))
    for recipe in (short, middle, averaged):
        left = train_ensemble(recipe, here=here)
        alone = Here(Store(tmp_path / str(recipe.training.steps), None), "cpu", progress=False)
        for one, other in zip(left, train_ensemble(recipe, here=alone), strict=True):
            assert bits(one) == bits(other)
            keys = set(one.info) - {"seconds"}
            assert {k: one.info[k] for k in keys} == {k: other.info[k] for k in keys}
    assert len(list((store.cache / "member").iterdir())) == 18
    # Nothing is wanted of the longest, and what it passed through is there already.
    assert train_ensemble(averaged, here=here, passing=(4,))[0].info["steps_in_these_seconds"] == 12


@pytest.mark.parametrize("step", [2, 3, 7])
def test_a_stopped_training_leaves_the_same_members(averaged, store, tmp_path, stop_at, step):
    members = [0, 1, 2, 3]
    splits = [split_of(averaged, m) for m in members]
    passing = [averaged.exposed(times) for times in (4, 8)]
    stop_at(step)
    with pytest.raises(KeyboardInterrupt):
        train_members(averaged, members, splits, 0, Here(store, "cpu"), passing)
    stop_at(None)
    train_members(averaged, members, splits, 0, Here(store, "cpu"), passing)
    whole = Here(Store(tmp_path / "whole", None), "cpu", progress=False)
    for recipe in (*passing, averaged):
        left = [find_member(recipe, m, store) for m in members]
        assert [bits(m) for m in left] == [bits(m) for m in train_ensemble(recipe, here=whole)[:4]]


def test_a_rate_that_falls_passes_through_nothing(trained, one_line):
    # All members are there, and still the answer is the same.
    with pytest.raises(BadValue, match="follows a cosine .* train each exposure by") as caught:
        train_ensemble(trained.recipe, here=Here(trained.store, "cpu"), passing=[4])
    assert one_line(caught)


@pytest.mark.parametrize("average", [-0.1, 0.3, math.nan])
def test_an_average_that_is_none_gives_one_line(trained, average, one_line):
    with pytest.raises(BadValue, match="choose a share from 0 to 0.25") as caught:
        trained.recipe.replace(training={"average": average})
    assert one_line(caught)


def test_training_makes_the_loss_fall(tiny, store):
    losses = train(tiny.replace(training={"steps": 150}), 0, store).tensors("losses.safetensors")[
        "losses"
    ]
    assert losses[-30:].mean() < 0.6 * losses[:10].mean()


def test_flips_are_seen_only_where_the_recipe_says(trained, store):
    flipping = trained.recipe.replace(data={"flips": True})

    def both(name, images):
        return [
            bits(train(r, 0, Store(store.cache / name / str(k), None), images))[0]
            for k, r in enumerate((trained.recipe, flipping))
        ]

    plain, flipped = both("digits", split_of(trained.recipe, 0))
    assert plain != flipped
    # Of images that are their own mirror images a flip changes nothing, so the rest of training is
    # the same.
    plain, flipped = both(
        "symmetric",
        altered(split_of(trained.recipe, 0), lambda x: x.add_(x.clone().flip(-1)).div_(2)),
    )
    assert plain == flipped


@pytest.mark.parametrize("size", [1, 5, 8, 12, 100])
def test_each_epoch_sees_each_image_once(tiny, size):
    batches = _Batches(tiny, 0, size)
    steps = -(-3 * size // 8)
    seen = torch.cat([batches.indices(step) for step in range(steps)]).tolist()
    epochs = [seen[k : k + size] for k in range(0, 3 * size, size)]
    assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
    assert size < 12 or epochs[0] != epochs[1] != epochs[2]


def test_a_batch_is_a_function_of_its_step(tiny):
    in_order = _Batches(tiny, 0, 12)
    expected = [(in_order.indices(k).tolist(), in_order.chance(k, (8, 1, 8, 8))) for k in range(20)]
    for k in random.Random(5).sample(range(20), 20):
        fresh = _Batches(tiny, 0, 12)
        assert fresh.indices(k).tolist() == expected[k][0] == in_order.indices(k).tolist()
        for now, before in zip(fresh.chance(k, (8, 1, 8, 8)), expected[k][1]):
            assert torch.equal(torch.as_tensor(now), torch.as_tensor(before))
    assert _Batches(tiny, 1, 12).indices(0).tolist() != expected[0][0]


def test_chance_is_spread_as_it_should_be(tiny):
    times, noise, flips, _ = _Batches(tiny, 0, 12).chance(0, (4000, 1, 2, 2))
    assert times.min() >= 0 and times.max() <= 999 and abs(times.float().mean() - 499.5) < 20
    assert (
        abs(noise.mean()) < 0.05
        and abs(noise.std() - 1) < 0.05
        and abs(flips.float().mean() - 0.5) < 0.05
    )


def test_learning_rates(tiny):
    cosine = tiny.replace(
        training={"steps": 100, "warmup": 10, "learning_rate": 1.0, "schedule": "cosine"}
    )
    assert learning_rate(cosine, 0) == pytest.approx(0.1)
    assert learning_rate(cosine, 50) == pytest.approx(0.5)
    assert learning_rate(cosine, 75) == pytest.approx((1 - math.sqrt(0.5)) / 2)
    assert 0 < learning_rate(cosine, 99) < 0.001
    rates = [learning_rate(cosine, k) for k in range(100)]
    assert rates[:10] == sorted(rates[:10]) and rates[9:] == sorted(rates[9:], reverse=True)
    constant = tiny.replace(training={"schedule": "constant", "learning_rate": 0.3})
    assert {learning_rate(constant, k) for k in range(12)} == {0.3}
    with pytest.raises(BadValue, match="linear.*constant or cosine"):
        learning_rate(tiny.replace(training={"schedule": "linear"}), 0)


@pytest.mark.parametrize("rate", [1e4, 1e6, 1e12, float("inf")])
def test_training_that_diverges_gives_one_line(tiny, store, rate, one_line):
    # Whether the loss overflows or only the parameters do, in the type they are stored in: no such
    # member is kept.
    recipe = tiny.replace(training={"learning_rate": rate, "schedule": "constant"})
    with pytest.raises(AbcError, match="diverged.*lower the learning rate") as error:
        train(recipe, 0, store)
    assert one_line(error)
    assert store.find_all("member", "digits_64-laptop-m00") == []


# --- finished ensembles ---


def test_what_is_loaded_is_what_was_stored_in_the_recipes_type(trained):
    assert trained.recipe.training.stored == "float16"
    for artefact, member in zip(trained.artefacts, trained.ensemble.members):
        stored, loaded = artefact.tensors("member.safetensors"), member.state_dict()
        assert stored.keys() == loaded.keys()
        for name, value in stored.items():
            assert value.dtype == torch.float16 and loaded[name].dtype == torch.float32
            assert torch.equal(loaded[name], value.float())


@pytest.mark.parametrize(
    "stored, dtype", [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_members_can_be_stored_in_other_types(tiny, store, stored, dtype):
    recipe = tiny.replace(training={"stored": stored, "steps": 2})
    artefacts = train_ensemble(recipe, here=Here(store, "cpu", jobs=1, progress=False))
    assert {t.dtype for t in artefacts[0].tensors("member.safetensors").values()} == {dtype}
    assert (
        pack_ensemble(recipe, artefacts, here=Here(store)).info["identity"]
        == find_ensemble(recipe, here=Here(store)).identity
    )


def test_a_packed_ensemble_is_its_members(trained, tmp_path):
    store = Store(trained.store.cache, tmp_path / "published")
    packed = pack_ensemble(trained.recipe, trained.artefacts, here=Here(store))
    packed.verify()
    found = find_ensemble(
        trained.recipe, here=Here(Store(tmp_path / "empty", tmp_path / "published"))
    )
    assert found.artefact.path == packed.path and found.recipe == trained.recipe
    assert found.identity == trained.ensemble.identity == packed.info["identity"] != ""
    assert (found.codebook.words == draw_codebook(trained.recipe).words).all()
    for one, other in zip(found.members, trained.ensemble.members, strict=True):
        for (name, value), (name_2, value_2) in zip(
            one.state_dict().items(), other.state_dict().items(), strict=True
        ):
            assert name == name_2 and torch.equal(value, value_2)
    assert packed.info["images"] == [a.info["images"] for a in trained.artefacts]
    assert packed.info["loss"] == [a.info["loss"] for a in trained.artefacts]


def test_the_identity_depends_on_every_member_and_their_order(trained):
    parameters = [a.tensors("member.safetensors") for a in trained.artefacts]
    identity = identity_of
    assert identity(parameters) == trained.ensemble.identity
    assert identity(parameters[::-1]) != identity(parameters)
    name = max(parameters[5], key=lambda n: parameters[5][n].numel())
    changed = parameters[:5] + [parameters[5] | {name: parameters[5][name].clone()}]
    assert identity(changed) == identity(parameters)
    changed[5][name].view(-1)[0] += 0.5
    assert identity(changed) != identity(parameters)


def test_an_ensemble_is_not_found_until_every_member_is_there(trained, store):
    for artefact in trained.artefacts:
        assert find_ensemble(trained.recipe, here=Here(store)) is None
        shutil.copytree(artefact.path, store.cache / artefact.path.relative_to(trained.store.cache))
    assert find_ensemble(trained.recipe, here=Here(store)).identity == trained.ensemble.identity


def test_only_missing_members_are_trained(trained, store, monkeypatch):
    for member in (0, 1, 2, 4):
        path = trained.artefacts[member].path
        shutil.copytree(path, store.cache / path.relative_to(trained.store.cache))
    steps, real = [], _Batches.indices
    monkeypatch.setattr(
        _Batches, "indices", lambda self, k: (steps.append(self.member), real(self, k))[1]
    )
    ensemble = get_ensemble(trained.recipe, here=Here(store, "cpu", jobs=1, progress=False))
    assert set(steps) == {3, 5} and len(steps) == 24
    assert ensemble.identity == trained.ensemble.identity and ensemble.device.type == "cpu"


def test_a_damaged_member_is_refused(trained, tmp_path, one_line):
    store, member = own_store(trained, tmp_path), trained.artefacts[3].path
    path = store.cache / member.relative_to(trained.store.cache) / "member.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtefactError, match="m03-.*member.safetensors") as error:
        get_ensemble(trained.recipe, here=Here(store, "cpu", progress=False))
    assert one_line(error)


def test_recipes_that_cannot_run_here_say_so_before_anything_is_trained(store, one_line):
    with pytest.raises(AbcError, match="CelebA is not at hand") as error:
        train_ensemble(get_recipe("celeba_ba_512"), here=Here(store, "cpu"))
    assert one_line(error) and not store.cache.exists()


def test_progress_is_told(trained, store, capfd):
    train_ensemble(trained.recipe, here=Here(store, "cpu", jobs=1, progress=True))
    shown = capfd.readouterr().err
    assert "training digits_64-laptop" in shown and "72/72" in shown
