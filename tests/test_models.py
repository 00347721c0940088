"""The U-Nets: shapes, patches, seeds, and velocity as noise."""

import pytest
import torch

from abc_lib.ground.errors import BadValue
from abc_lib.method.network import build_network
from abc_lib.method.recipe import Diffusion, Network
from abc_lib.training.budget import activation_bytes, num_parameters

PLAIN = Network((8, 16), layers_per_block=1, groups=4)
PATCHED = Network((8, 16), layers_per_block=1, groups=4, patch=2)


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def alpha(t: torch.Tensor) -> torch.Tensor:
    """How much image is left, worked out here from the betas of Ho et al."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)[t][:, None, None, None]


@pytest.mark.parametrize(
    "network",
    [PLAIN, PATCHED, Network((8, 8, 16), 1, (1,), (1,), groups=4, head_dim=4)],
    ids=["plain", "patched", "attention"],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_has_the_shape_of_the_images(network, channels):
    net = build_network(network, (channels, 8, 16), 0).eval()
    with torch.no_grad():
        assert net(images(2, channels, 8, 16), torch.tensor([3, 900])).shape == (2, channels, 8, 16)
        assert net(images(2, channels, 8, 16), torch.tensor(3)).shape == (2, channels, 8, 16)


def test_a_scalar_time_is_the_same_time_for_all():
    net = build_network(Network((8, 16), 1, groups=4, predicts="velocity"), (1, 8, 8), 0).eval()
    x = images(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(
            net(x, torch.tensor(500)), net(x, torch.tensor([500, 500])), atol=1e-6
        )


def test_attention_stands_where_the_recipe_says():
    net = build_network(Network((8, 8, 16), 1, (1,), (0,), groups=4, head_dim=4), (1, 8, 8), 0)
    assert [type(b).__name__ for b in net.unet.down_blocks] == [
        "DownBlock2D",
        "AttnDownBlock2D",
        "DownBlock2D",
    ]
    assert [type(b).__name__ for b in net.unet.up_blocks] == [
        "AttnUpBlock2D",
        "UpBlock2D",
        "UpBlock2D",
    ]


def test_the_same_seed_gives_the_same_parameters_and_another_seed_others():
    one, same, other = (build_network(PLAIN, (1, 8, 8), seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    build_network(PLAIN, (1, 8, 8), 5)
    assert torch.equal(torch.rand(3), expected)


def test_building_leaves_the_generators_of_the_gpus_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    build_network(PLAIN, (1, 8, 8), 5)
    assert seeded == []


def test_patches_move_pixels_into_channels_and_back():
    net = build_network(PATCHED, (3, 8, 8), 0).eval()
    x, t = images(2, 3, 8, 8), torch.tensor([10, 700])
    # channel c, row and column within the patch: the order of pixel-unshuffle
    small = x.reshape(2, 3, 4, 2, 4, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 12, 4, 4)
    with torch.no_grad():
        out = net.unet(small, t).sample
        expected = out.reshape(2, 3, 2, 2, 4, 4).permute(0, 1, 4, 2, 5, 3).reshape(2, 3, 8, 8)
        assert torch.equal(net(x, t), expected)


def test_a_velocity_network_answers_with_the_noise_that_its_velocity_means():
    velocity = build_network(
        Network((8, 16), 1, groups=4, predicts="velocity"), (1, 8, 8), 0
    ).eval()
    raw = build_network(PLAIN, (1, 8, 8), 0).eval()  # the same parameters, output as it is
    x, t = images(3, 1, 8, 8), torch.tensor([0, 400, 999])
    with torch.no_grad():
        eps, v = velocity(x, t), raw(x, t)
    a = alpha(t)
    # x = sqrt(a) x0 + sqrt(1 - a) eps and v = sqrt(a) eps - sqrt(1 - a) x0, solved for x0 and eps
    x0 = a.sqrt() * x - (1 - a).sqrt() * v
    assert torch.allclose(a.sqrt() * x0 + (1 - a).sqrt() * eps, x, atol=1e-5)
    assert torch.allclose(a.sqrt() * eps - (1 - a).sqrt() * x0, v, atol=1e-5)


def test_an_image_network_answers_with_the_noise_that_its_image_means():
    network = Network((8, 16), 1, groups=4, predicts="image")
    image = build_network(network, (1, 8, 8), 0).eval()
    raw = build_network(PLAIN, (1, 8, 8), 0).eval()  # the same parameters, output as it is
    x, t = images(3, 1, 8, 8), torch.tensor([0, 400, 999])
    with torch.no_grad():
        eps, x0 = image(x, t), raw(x, t)
    a = alpha(t)
    assert torch.allclose(a.sqrt() * x0 + (1 - a).sqrt() * eps, x, atol=1e-5)


def test_the_noise_schedule_is_not_among_the_stored_parameters():
    net = build_network(PLAIN, (1, 8, 8), 0, Diffusion())
    assert all(name.startswith("unet.") for name in net.state_dict())
    assert num_parameters(net) == sum(value.numel() for value in net.state_dict().values())


def test_dropout_acts_in_training_only():
    net = build_network(Network((8, 16), 1, groups=4, dropout=0.5), (1, 8, 8), 0)
    x, t = images(2, 1, 8, 8), torch.tensor(3)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        net.eval()
        assert torch.equal(net(x, t), net(x, t))
        net.train()
        assert not torch.equal(net(x, t), net(x, t))


@pytest.mark.parametrize(
    "network, shape", [(PLAIN, (1, 9, 8)), (PLAIN, (1, 8, 9)), (PATCHED, (1, 6, 8))]
)
def test_images_that_cannot_be_halved_often_enough_are_refused(network, shape):
    with pytest.raises(BadValue, match=f"multiples of {2 * network.patch}"):
        build_network(network, shape, 0)


def test_an_unknown_target_is_refused():
    with pytest.raises(BadValue, match="cannot predict 'score'; choose noise, velocity or image"):
        build_network(Network((8, 16), groups=4, predicts="score"), (1, 8, 8), 0)


def test_activation_bytes_bound_the_memory_and_grow_with_the_image():
    net = build_network(PLAIN, (1, 16, 16), 0).eval()
    small, large = activation_bytes(net, (1, 8, 8)), activation_bytes(net, (1, 16, 16))
    # at least the widest level's outputs, and nearly proportional to the number of pixels
    assert small > 4 * 8 * 8 * 8 and 3 * small < large <= 4 * small
    assert activation_bytes(net.double(), (1, 8, 8)) == pytest.approx(2 * small, rel=0.01)


def test_activation_bytes_leave_no_hooks_behind():
    net = build_network(PLAIN, (1, 8, 8), 0).eval()
    activation_bytes(net, (1, 8, 8))
    assert not any(module._forward_hooks for module in net.modules())


def test_patches_need_less_memory_than_full_resolution():
    plain, patched = (build_network(network, (1, 16, 16), 0).eval() for network in (PLAIN, PATCHED))
    assert activation_bytes(patched, (1, 16, 16)) < activation_bytes(plain, (1, 16, 16)) / 2
