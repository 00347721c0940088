"""Samples that equal all their counterfactuals, pixel for pixel."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from small import tiny_recipe
from stops import counted

from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.images.registry import get_recipe
from abc_lib.method.code import draw_codebook
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.network import build_network
from abc_lib.method.recipe import Code
from abc_lib.results.jacobians import compute as compute_jacobians
from abc_lib.results.jacobians import read as read_jacobians
from abc_lib.results.landscapes import compute as compute_landscapes
from abc_lib.results.landscapes import read as read_landscapes
from abc_lib.results.unattributable import FINE_MARGIN, MARGIN, _double, _levels, _rounds, verdicts
from abc_lib.results.unattributable import get as find_unattributable
from abc_lib.results.unattributable import read as read_unattributable
from abc_lib.results.unattributable import stored as stored_unattributable
from abc_lib.training.ensembles import train_ensemble

QUIET = {"jobs": 1, "progress": False}
S = 24


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """8 members, of which each source takes one: 12 binarised digits in 8 groups.

    The members are one model, each with its parameters shaken a little, which takes a tenth of the
    time of training eight until they agree so far that some samples equal all counterfactuals and
    some do not.
    """
    recipe = tiny_recipe(40).replace(
        data={"size": 16, "num_sources": 8, "sources": "group", "binarise": True}, code=Code(8, 1)
    )
    store = Store(tmp_path_factory.mktemp("binary"), None)
    (model,) = train_ensemble(recipe, members=["control"], here=Here(store, "cpu", **QUIET))
    parameters, chance = model.tensors("member.safetensors"), torch.Generator().manual_seed(0)
    members = []
    for _ in range(8):
        member = build_network(recipe.network, (1, 8, 8), 0, recipe.diffusion).eval()
        member.load_state_dict(
            {
                name: value.float() * (1 + 0.1 * torch.randn(value.shape, generator=chance))
                for name, value in parameters.items()
            }
        )
        members.append(member.requires_grad_(False))
    return Ensemble(recipe, draw_codebook(recipe), members, "shaken")


@pytest.fixture(scope="module")
def landscapes(binary, tmp_path_factory):
    return read_landscapes(
        compute_landscapes(
            binary,
            range(S),
            0,
            here=Here(Store(tmp_path_factory.mktemp("landscapes"), None), **QUIET),
        )
    )


@pytest.fixture(scope="module")
def found(binary, tmp_path_factory):
    return find_unattributable(
        binary, S, here=Here(Store(tmp_path_factory.mktemp("found"), None), **QUIET)
    )


def test_samples_of_a_binarised_ensemble_are_black_and_white(binary):
    noise = binary.draw_noise(0, range(4))
    images = binary.sample(noise)
    assert set(images.unique().tolist()) == {0.0, 1.0}
    before = binary.space.decode(binary.denoise(noise))
    assert torch.equal(images, (before > 0.5).float()) and len(before.unique()) > 2


def test_they_are_those_whose_whole_landscape_is_zero(found, landscapes):
    zero = landscapes.radii == 0
    assert 0 < zero.sum() < S, "the test needs samples of both kinds"
    assert found.indices.tolist() == np.flatnonzero(zero).tolist()
    assert torch.equal(found.factual, landscapes.factual)
    assert not found.undecided.any()
    for i in range(S):
        if zero[i]:
            assert found.witness[i] == -1 and found.tested[i] == 8
        else:
            assert landscapes.distances[i, found.witness[i]] > 0 and 1 <= found.tested[i] <= 8


def test_work_is_saved_on_samples_that_differ_early(found):
    info = found.artefact.info
    assert info["counterfactuals"] < S * 8 and info["counterfactuals"] >= found.tested.sum()


@pytest.mark.parametrize(
    "change",
    [
        "blocks of 1",
        "blocks of 7",
        pytest.param("no oneDNN", marks=pytest.mark.filterwarnings("ignore:TF32")),
    ],
)
def test_equality_does_not_hang_on_blocks_or_kernels(binary, found, change, store, monkeypatch):
    if change.startswith("blocks"):
        monkeypatch.setattr(
            "abc_lib.results.unattributable.trajectories_side_by_side",
            lambda *_: int(change.split()[-1]),
        )
    with torch.backends.mkldnn.flags(enabled=change != "no oneDNN"):
        other = find_unattributable(binary, 4, here=Here(store, **QUIET))
    assert torch.equal(other.factual, found.factual[:4])
    assert (other.witness == found.witness[:4]).all() and (other.tested == found.tested[:4]).all()


def test_float64_decides_as_float32_does_where_that_can_tell(binary, found, store):
    # so wide a margin that every pixel is near
    other = find_unattributable(binary, 8, margin=0.6, here=Here(store, **QUIET))
    assert other.artefact.info["in_float64"] == other.artefact.info["counterfactuals"] > 0
    assert (
        (other.witness == found.witness[:8]).all()
        and (other.tested == found.tested[:8]).all()
        and not other.undecided.any()
    )


def test_float32_is_as_near_to_float64_as_the_margin_takes_for_granted(binary):
    owner = np.arange(8)
    c = binary.codebook.leave_one_out(owner % 8)
    near = _levels(binary, 0, owner, owner, c)
    exact = _levels(_double(binary), 0, owner, owner, c, torch.float64)
    assert exact.dtype == torch.float64 and float((near.double() - exact).abs().max()) < MARGIN / 10
    assert next(binary.members[0].parameters()).dtype == torch.float32


def test_what_not_even_float64_can_tell_is_not_called_unattributable(
    binary, landscapes, store, monkeypatch
):
    monkeypatch.setattr("abc_lib.results.unattributable.FINE_MARGIN", 0.6)
    other = find_unattributable(binary, 6, margin=0.6, here=Here(store, **QUIET))
    assert other.undecided.all() and len(other.indices) == 0 and (other.witness == -1).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6),
    st.sampled_from([1e-3, 0.1, 0.3]),
)
def test_a_verdict_is_right_for_everything_within_its_margin(pixels, margin):
    a, b = (torch.tensor(each, dtype=torch.float64)[None] for each in zip(*pixels))
    verdict = int(verdicts(a, b, margin))
    bounds = (-0.999, 0.999)
    colours = lambda x: {bool(x + b * margin > 0.5) for b in bounds}  # noqa: E731
    possible = [(colours(x), colours(y)) for x, y in pixels]
    if verdict == 0:
        assert all(x == y and len(x) == 1 for x, y in possible)
    if verdict == 1:
        assert any(x.isdisjoint(y) for x, y in possible)


@pytest.mark.parametrize("N", [1, 2, 3, 8, 190])
def test_rounds_go_through_every_source_once(N):
    rounds = _rounds(N)
    assert [k for first, last in rounds for k in range(first, last)] == list(range(N))


def test_a_stopped_search_goes_on_and_a_finished_one_is_read(binary, found, store, monkeypatch):
    from abc_lib.results import unattributable as module

    real = module.verdicts

    def blocks(stop_at=None):
        """Counts blocks: what float32 cannot tell is asked once more within one."""
        tried = counted(real, stop_at)
        monkeypatch.setattr(
            module, "verdicts", lambda *asked: (tried if asked[2] == MARGIN else real)(*asked)
        )
        return tried

    monkeypatch.setattr(module, "trajectories_side_by_side", lambda *_: 16)
    blocks(stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        find_unattributable(binary, 12, here=Here(store, **QUIET))
    assert stored_unattributable(binary.recipe, here=Here(store)) is None
    tried = blocks()
    again = find_unattributable(binary, 12, here=Here(store, **QUIET))
    needed = len(tried.calls)
    assert (again.witness == found.witness[:12]).all()
    tried.calls.clear()
    fresh = find_unattributable(binary, 12, here=Here(Store(store.cache / "fresh", None), **QUIET))
    assert len(tried.calls) == needed + 2 and (fresh.witness == again.witness).all()
    tried.calls.clear()
    assert (
        find_unattributable(binary, 12, here=Here(store, **QUIET)).tested == found.tested[:12]
    ).all() and not tried.calls
    stored = stored_unattributable(binary.recipe, here=Here(store))
    assert stored.indices.tolist() == again.indices.tolist() and torch.equal(
        stored.factual, found.factual[:12]
    )
    assert stored_unattributable(binary.recipe, 1, here=Here(store)) is None
    assert (
        stored_unattributable(binary.recipe.replace(training={"seed": 3}), here=Here(store)) is None
    )


def test_the_interval_is_clopper_and_pearsons(found):
    k = len(found.indices)
    low, high = found.interval()
    # the shares at which so many, or so few, come up in one of forty series
    assert binom.sf(k - 1, S, low) == pytest.approx(0.025, rel=1e-6) and binom.cdf(
        k, S, high
    ) == pytest.approx(0.025, rel=1e-6)
    nobody = dataclasses.replace(found, witness=np.zeros(S, dtype=np.int64))
    assert nobody.interval()[0] == 0 and nobody.interval()[1] == pytest.approx(1 - 0.025 ** (1 / S))


def test_the_published_samples_of_the_digits_are_read():
    found = stored_unattributable(get_recipe("digits_binary_190"))
    assert found is not None and found.num_sources == 190 and len(found) >= 100
    found.artefact.verify()
    assert read_unattributable(found.artefact).indices.tolist() == found.indices.tolist()


def test_slips_take_one_line(trained, binary, store, one_line):
    for message, slip in (
        (
            "samples of digits_64 are not discrete",
            lambda: find_unattributable(trained.ensemble, 4, here=Here(store)),
        ),
        (
            "samples of digits_64 are not discrete",
            lambda: stored_unattributable(get_recipe("digits_64"), here=Here(store)),
        ),
        ("samples is 0", lambda: find_unattributable(binary, 0, here=Here(store))),
    ):
        with pytest.raises(BadValue, match=message) as error:
            slip()
        assert one_line(error)


def test_jacobians_of_a_binarised_ensemble_are_those_before_the_threshold(binary, store):
    jacobians = read_jacobians(compute_jacobians(binary, [0], here=Here(store, **QUIET)))
    assert float(jacobians.jacobians.abs().max()) > 0
    assert FINE_MARGIN < MARGIN
