"""Members by ONNX Runtime: as near to PyTorch as is said, and never taken for it."""

import pickle
import sys

import numpy as np
import pytest
import torch

from abc_lib.ground.errors import BadValue, NotAvailable, UnknownName
from abc_lib.ground.here import Here
from abc_lib.training.ensembles import get_ensemble
from abc_lib.training.graphs import TOLERANCE, member_graph, on_onnx


@pytest.fixture(scope="module")
def pair(trained):
    """The tiny ensemble by PyTorch and by ONNX Runtime."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    here = Here(trained.store, "cpu", jobs=1, progress=False)
    return trained.ensemble, get_ensemble(trained.recipe, here, backend="onnx")


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_member_is_the_same_function(pair, batch):
    for torch_member, onnx_member in zip(*(each.members for each in pair), strict=True):
        x = torch.randn(batch, *pair[0].shape, generator=torch.Generator().manual_seed(batch))
        times = torch.arange(batch) * 100
        expected = torch_member(x, times)
        assert torch.allclose(onnx_member(x, times), expected, atol=1e-5)
        # and of its own parameters, not of another member's
        other = pair[0].members[(pair[0].members.index(torch_member) + 1) % pair[0].n](x, times)
        assert not torch.allclose(expected, other, atol=1e-4)


def test_samples_and_counterfactuals_are_within_the_tolerance(pair):
    torch_one, onnx_one = pair
    noise, words = torch_one.draw_noise(0, range(3)), torch_one.codebook.leave_one_out()
    owner = torch.arange(3).repeat_interleave(4)
    for c, who in ((None, None), (np.tile(words[:4], (3, 1)), owner)):
        apart = (torch_one.sample(noise, c, who) - onnx_one.sample(noise, c, who)).abs().max()
        assert apart < TOLERANCE


def test_it_travels_to_another_process_and_says_who_it_is(pair):
    torch_one, onnx_one = pair
    noise = torch_one.draw_noise(0, [1])
    drawn = onnx_one.sample(noise)
    again = pickle.loads(pickle.dumps(onnx_one))
    assert torch.equal(again.sample(noise), drawn)
    # so that nothing it computes is stored as PyTorch's
    assert onnx_one.identity != torch_one.identity


def test_what_it_cannot_do_is_said_in_a_line(pair, trained, one_line):
    noise = pair[0].draw_noise(0, [0])
    with pytest.raises(BadValue, match="does not differentiate") as caught:
        pair[1].differentiate(noise)
    assert one_line(caught)
    with pytest.raises(UnknownName, match="backend") as caught:
        get_ensemble(trained.recipe, Here(trained.store, "cpu"), backend="jax")
    assert one_line(caught) and "torch" in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "make"), [("onnxruntime", on_onnx), ("onnxscript", member_graph)]
)
def test_without_the_extra_it_names_it(trained, monkeypatch, one_line, missing, make):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(NotAvailable, match="pip install") as caught:
        make(trained.ensemble)
    assert one_line(caught)
