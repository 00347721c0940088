"""The Euclidean distance of figure 7, against images that were really made large."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_lib.errors import BadValue
from abc_lib.metrics import euclidean, resize_matrix


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def materialised(a: torch.Tensor, b: torch.Tensor, resolution: int = 256) -> torch.Tensor:
    """Both images scaled to 3 x 256 x 256, then the norm of their difference."""
    large = [F.interpolate(x.double().expand(-1, 3, -1, -1), size=(resolution, resolution), mode="bilinear", align_corners=False)
             for x in (a, b)]
    return (large[0] - large[1]).flatten(1).norm(dim=1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 32, 32), (3, 32, 32), (3, 8, 32), (1, 5, 7), (3, 256, 256)])
def test_the_distance_is_that_of_images_made_large(shape):
    a, b = images(4, *shape), images(4, *shape, seed=1)
    assert torch.allclose(euclidean(a, b), materialised(a, b), rtol=1e-9, atol=0)


@pytest.mark.parametrize("resolution", [16, 64])
def test_other_resolutions_too_even_smaller_ones(resolution):
    a, b = images(2, 1, 32, 32), images(2, 1, 32, 32, seed=1)
    assert torch.allclose(euclidean(a, b, resolution), materialised(a, b, resolution), rtol=1e-9, atol=0)


def test_black_and_white_are_as_far_apart_as_two_images_can_be():
    black, white = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
    assert float(euclidean(black, white)) == pytest.approx((3 * 256 * 256) ** 0.5, rel=1e-12)


def test_a_grey_image_counts_as_three_equal_channels():
    a, b = images(2, 1, 8, 8), images(2, 1, 8, 8, seed=1)
    assert torch.allclose(euclidean(a, b), euclidean(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)), rtol=1e-12)


def test_leading_dimensions_broadcast():
    a, b = images(4, 1, 3, 8, 8), images(5, 3, 8, 8, seed=1)
    found = euclidean(a, b)
    assert found.shape == (4, 5) and found.dtype == torch.float64
    assert torch.allclose(found, torch.stack([materialised(x.expand(5, -1, -1, -1), b) for x in a]), rtol=1e-9)
    assert euclidean(a[0, 0], b[0]).shape == ()


def test_float32_images_lose_nothing_in_the_distance():
    a, b = images(3, 1, 8, 8).float(), images(3, 1, 8, 8, seed=1).float()
    assert torch.equal(euclidean(a, b), euclidean(a.double(), b.double()))


def test_a_change_of_one_grey_level_is_seen_and_no_change_is_exactly_zero():
    a = images(1, 8, 8)
    b = a.clone()
    b[0, 3, 3] += 1 / 255
    assert float(euclidean(a, a)) == 0 and 0.01 < float(euclidean(a, b)) < 1


small = st.lists(st.floats(0, 1, width=32), min_size=12, max_size=12).map(lambda v: torch.tensor(v).reshape(3, 2, 2))


@settings(max_examples=60, deadline=None)
@given(small, small, small)
def test_it_is_a_metric(a, b, c):
    ab, bc, ac = (float(euclidean(*pair, 16)) for pair in ((a, b), (b, c), (a, c)))
    assert float(euclidean(a, a, 16)) == 0 and ab == float(euclidean(b, a, 16))
    assert (ab > 0) == (not torch.equal(a, b)) or (a - b).abs().max() < 1e-150
    assert ac <= (ab + bc) * (1 + 1e-9)


def test_the_resize_keeps_constant_images():
    assert torch.allclose(resize_matrix(8).sum(dim=1), torch.ones(256, dtype=torch.float64))
    assert resize_matrix(8).shape == (256, 8)


@pytest.mark.parametrize("place", [0, 1])
def test_nan_is_refused(place):
    pair = [images(2, 1, 8, 8), images(2, 1, 8, 8, seed=1)]
    pair[place][1, 0, 0, 0] = float("nan")
    with pytest.raises(BadValue, match="NaN"):
        euclidean(*pair)


@pytest.mark.parametrize("one, two", [((1, 8, 8), (3, 8, 8)), ((1, 8, 8), (1, 16, 16)), ((3, 8, 16), (3, 16, 8))])
def test_images_of_two_shapes_are_refused(one, two):
    with pytest.raises(BadValue, match="cannot be compared"):
        euclidean(images(*one), images(*two))


@pytest.mark.parametrize("channels", [2, 4])
def test_only_grey_and_colour_have_a_distance(channels):
    with pytest.raises(BadValue, match=f"have {channels} channels"):
        euclidean(images(channels, 8, 8), images(channels, 8, 8))


def test_an_image_without_a_channel_is_refused():
    with pytest.raises(BadValue):
        euclidean(images(8, 8), images(8, 8))
