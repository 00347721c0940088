"""Dual numbers: every rule against PyTorch's own forward mode, alone and in whole networks."""

import pytest
import torch
import torch.autograd.forward_ad as forward
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from abc_lib.ground import duals
from abc_lib.ground.duals import Dual
from abc_lib.method.network import build_network
from abc_lib.method.recipe import Network

# Directions: not the size of any batch, so that the two cannot be taken for each other unnoticed.
N = 3
SHAPE = (2, 4, 6, 6)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


def dual(*shape, seed=0, n=N):
    return Dual(normal(*shape, seed=seed), normal(n, *shape, seed=seed + 100))


def by_torch(function, *inputs):
    """Value and tangents by ``jvp``, one direction after another, on plain attention."""
    primals = tuple(each.primal for each in inputs)
    with sdpa_kernel(SDPBackend.MATH):
        moved = [
            torch.func.jvp(function, primals, tuple(each.tangents[i] for each in inputs))[1]
            for i in range(len(inputs[0].tangents))
        ]
        return function(*primals), torch.stack(moved)


def agree(function, *inputs):
    """Whether a function of duals has PyTorch's value and tangents, and leaves its arguments."""
    before = [(each.primal.clone(), each.tangents.clone()) for each in inputs]
    expected = by_torch(function, *inputs)
    found = function(*inputs)
    assert isinstance(found, Dual)
    assert (
        found.primal.shape == expected[0].shape
        and found.primal.dtype == expected[0].dtype == found.tangents.dtype
    )
    torch.testing.assert_close(found.primal, expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.tangents, expected[1], rtol=1e-11, atol=1e-11)
    for each, (primal, tangents) in zip(inputs, before):
        assert torch.equal(each.primal, primal) and torch.equal(each.tangents, tangents)


@pytest.fixture
def rules_only(monkeypatch):
    """Whatever has tangents but no rule fails."""
    real = duals._by_jvp

    def no_rule(function, arguments, options):
        found = real(function, arguments, options)
        assert not isinstance(found, (Dual, tuple, list)) or isinstance(found, torch.Size), (
            f"{function} went through the fallback"
        )
        return found

    monkeypatch.setattr(duals, "_by_jvp", no_rule)


WEIGHT, BIAS = normal(5, 4, 3, 3, seed=1), normal(5, seed=2)
PLAIN = normal(*SHAPE, seed=3)
# With a rule each: the fallback is shut while these are tried.
ONE = {
    "conv2d": lambda x: F.conv2d(x, WEIGHT, BIAS),
    "conv2d without bias": lambda x: F.conv2d(x, WEIGHT),
    "conv2d with stride and padding": lambda x: F.conv2d(x, WEIGHT, BIAS, stride=2, padding=1),
    "conv2d positional": lambda x: torch.conv2d(x, WEIGHT, BIAS, 2, 1),
    "conv2d in groups": lambda x: F.conv2d(x, normal(6, 2, 1, 1), groups=2, padding="same"),
    "group_norm": lambda x: F.group_norm(x, 2, normal(4, seed=4), normal(4, seed=5), 1e-6),
    "group_norm without affine": lambda x: F.group_norm(x, 4),
    "group_norm of one group, without bias": lambda x: F.group_norm(x, 1, normal(4, seed=4)),
    "group_norm of sequences": lambda x: F.group_norm(x.reshape(2, 4, 36), 2, normal(4), normal(4)),
    "silu": F.silu,
    "silu of silu": lambda x: F.silu(F.silu(x) * 2 + 1),
    "group_norm, silu, factor, convolution": lambda x: F.conv2d(
        F.silu(F.group_norm(x, 2, normal(4), normal(4))) * PLAIN, WEIGHT, BIAS
    ),
    "pending factor, then a sum with itself": lambda x: F.silu(x) + F.silu(x) * 3,
    "linear": lambda x: F.linear(x, normal(7, 6), normal(7)),
    "linear without bias": lambda x: F.linear(x, normal(7, 6)),
    "cat": lambda x: torch.cat([x, F.silu(x), x * 2], dim=1),
    "cat of batches": lambda x: torch.cat((x, x)),
    "add a tensor": lambda x: x + PLAIN,
    "add to a tensor": lambda x: PLAIN + x,
    "add what broadcasts": lambda x: x + PLAIN[:1, :, :1, :1],
    "add to what broadcasts": lambda x: PLAIN[0, 0] + x,
    "add numbers": lambda x: 1 + x + 0.1,
    "add": lambda x: torch.add(x, PLAIN).add(2),
    "subtract": lambda x: x - PLAIN,
    "subtract from": lambda x: PLAIN - x,
    "subtract what broadcasts": lambda x: x - PLAIN[0],
    "subtract from what broadcasts": lambda x: PLAIN[:, :1] - x,
    "subtract numbers": lambda x: 0.3 - (x - 0.1),
    "subtract itself": lambda x: x * 3 - x,
    "multiply": lambda x: x * PLAIN,
    "multiply from the left": lambda x: PLAIN[:, :1, :1, :1] * x,
    "multiply by what has fewer dimensions": lambda x: x * PLAIN[0, 0],
    "multiply by numbers": lambda x: 0.1 * x * 3,
    "multiply by a tensor without dimensions": lambda x: torch.mul(
        torch.tensor(0.7, dtype=torch.float64), x
    ),
    "divide by a number": lambda x: x / 0.3,
    "divide by one": lambda x: x / 1,
    "interpolate": lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"),
    "interpolate to a size": lambda x: F.interpolate(x, size=(3, 9), mode="nearest"),
    "interpolate bilinearly": lambda x: F.interpolate(x, size=13, mode="bilinear"),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 3),
    "view": lambda x: x.view(2, 2, -1),
    "reshape": lambda x: torch.reshape(x.reshape(8, 36), (4, 72)),
    "flatten": lambda x: x.flatten(2),
    "unsqueeze": lambda x: x.unsqueeze(1).unsqueeze(-1),
    "transpose": lambda x: x.transpose(1, 2),
    "transpose from the end": lambda x: torch.transpose(x, -1, -3),
    "transpose by name": lambda x: x.transpose(dim0=0, dim1=-1),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "permute from the end": lambda x: torch.permute(x, (-1, 0, -2, 1)),
    "contiguous after transpose": lambda x: F.silu(x).transpose(1, 2).contiguous().view(2, 24, 6),
    "softmax": lambda x: x.softmax(dim=-1),
    "softmax over another dimension": lambda x: F.softmax(x, dim=1),
    "softmax from the end": lambda x: torch.softmax(F.silu(x), -2),
    "matmul": lambda x: x @ normal(2, 4, 6, 5),
    "matmul from the left": lambda x: torch.matmul(normal(2, 4, 5, 6), x),
    "matmul that broadcasts": lambda x: torch.matmul(normal(1, 4, 5, 6), x),
    "matmul with itself": lambda x: torch.matmul(x, x.transpose(-1, -2)),
    "bmm": lambda x: torch.bmm(x.reshape(8, 6, 6), normal(8, 6, 2)),
    "dropout when not training": lambda x: F.dropout(x, 0.5, False),
    "to another precision and back": lambda x: x.to(torch.float64) + x.to("cpu", torch.float64),
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "clamp on one side": lambda x: torch.clamp(x, min=0.1),
    "clamp by name": lambda x: torch.clamp(x, min=-1, max=0.2),
    "attention": lambda x: F.scaled_dot_product_attention(x, x * 2, F.silu(x)),
    "scaled attention": lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.3),
}
# No rule, or not for these arguments: the fallback has to be found, and right.
OTHER = {
    "exp": torch.exp,
    "tanh as a method": lambda x: x.tanh(),
    "power": lambda x: (x * x + 1) ** 1.5,
    "power of a number": lambda x: 2.0**x,
    "absolute value": abs,
    "times itself": lambda x: x * x,
    "divided by itself": lambda x: x / (x * x + 1),
    "divided by a tensor": lambda x: x / PLAIN,
    "a number divided by it": lambda x: 2 / x,
    "grows by addition": lambda x: x[:1] + PLAIN,
    "grows by multiplication": lambda x: PLAIN * x[:, :1],
    "both broadcast": lambda x: x[:1] + x[:, :1],
    "add with alpha": lambda x: torch.add(x, PLAIN, alpha=2),
    "subtract with alpha": lambda x: torch.sub(PLAIN, x, alpha=3),
    "a dual weight": lambda x: F.conv2d(PLAIN, x[:, :, :3, :3], x[:, 0, 0, 0]),
    "a dual bias": lambda x: F.linear(x, normal(2, 6), x[0, 0, 0, :2]),
    "affine that is dual": lambda x: F.group_norm(x, 2, x[0, :, 0, 0], x[1, :, 0, 0]),
    "convolution without a batch": lambda x: F.conv2d(x[0], WEIGHT),
    "cat from the end": lambda x: torch.cat([x, x], dim=-1),
    "cat with a plain tensor": lambda x: torch.cat([x, PLAIN], dim=1),
    "stack": lambda x: torch.stack([x, x * 2]),
    "pad with ones": lambda x: F.pad(x, (1, 1), value=1.0),
    "permute by name": lambda x: x.permute(dims=(3, 2, 1, 0)),
    "matmul of fewer dimensions": lambda x: torch.matmul(normal(N, 5, 6), x[0, 0]),
    "matmul of more dimensions": lambda x: x @ normal(6, 5),
    "matmul of duals of other dimensions": lambda x: torch.matmul(x, x[0, 0]),
    "vector products": lambda x: torch.matmul(x[0, 0, 0], x[0, 0, 1]),
    "softmax in another precision": lambda x: F.softmax(x, dim=-1, dtype=torch.float64),
    "clamp by tensors": lambda x: torch.clamp(x, PLAIN - 1, PLAIN + 1),
    "causal attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "masked attention": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=PLAIN[0, 0]),
    "attention to a plain value": lambda x: F.scaled_dot_product_attention(x, x, PLAIN),
    "attention of a plain query": lambda x: F.scaled_dot_product_attention(PLAIN, x, x),
    "transposed": lambda x: x[0, 0].T + x[0, 0].mT,
    "indexing": lambda x: x[:, None, 1:, ::2] * 2,
    "indexing by a list": lambda x: x[:, [2, 0, 2]],
    "layer_norm": lambda x: F.layer_norm(x, (6,)),
    "mean": lambda x: x.mean(dim=(2, 3), keepdim=True),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "the largest of several results": lambda x: x.max(dim=1).values,
    "the parts of a whole": lambda x: x.chunk(2, dim=1)[1] - x.chunk(2, dim=1)[0],
    "relu in place": lambda x: F.relu(x * 2, inplace=True),
}


@pytest.mark.parametrize("name", ONE)
def test_a_rule_is_pytorchs_forward_mode(name, rules_only):
    agree(ONE[name], dual(*SHAPE))
    agree(lambda x: ONE[name](F.silu(x) * 2), dual(*SHAPE))  # with a factor that is still pending


@pytest.mark.parametrize("name", OTHER)
def test_other_operations_are_right_too(name):
    agree(OTHER[name], dual(*SHAPE))


@torch.inference_mode()
def test_the_fallback_works_where_nothing_is_recorded():
    x = dual(*SHAPE)
    torch.testing.assert_close(x.exp().tangents, x.tangents * x.primal.exp())
    assert x.exp().primal.is_inference()


@pytest.mark.parametrize(
    "function",
    [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: torch.cat([a, b], 1), torch.matmul],
)
def test_rules_of_two_duals(function, rules_only):
    agree(function, dual(*SHAPE), dual(*SHAPE, seed=7))


def test_attention_of_three_duals_over_sequences_of_other_lengths(rules_only):
    inputs = dual(2, 3, 5, 4), dual(2, 3, 7, 4, seed=1), dual(2, 3, 7, 6, seed=2)
    agree(F.scaled_dot_product_attention, *inputs)


@pytest.mark.parametrize("value, factor", [(-0.5, 1), (0.5, 1), (-0.6, 0), (0.6, 0), (0.0, 1)])
def test_at_its_bounds_a_clamp_moves_as_inside(value, factor):
    x = Dual(torch.full((1, 2), value, dtype=torch.float64), normal(N, 1, 2))
    found = x.clamp(-0.5, 0.5)
    assert torch.equal(found.primal, x.primal.clamp(-0.5, 0.5)) and torch.equal(
        found.tangents, x.tangents * factor
    )
    if abs(value) != 0.5:
        agree(lambda v: v.clamp(-0.5, 0.5), x)


def test_as_many_directions_as_batches_are_not_mixed_up():
    for name in (
        "matmul",
        "matmul of fewer dimensions",
        "linear",
        "group_norm",
        "attention",
        "matmul of duals of other dimensions",
    ):
        agree((ONE | OTHER)[name], dual(*SHAPE, n=2))
        agree((ONE | OTHER)[name], dual(*SHAPE, n=1))


def test_division_by_zero_is_infinite_as_it_is_without_tangents():
    found = dual(1, 1) / 0
    assert found.primal.isinf().all() and found.tangents.isinf().all()


def test_plus_equals_makes_a_new_number():
    a, b = dual(*SHAPE), dual(*SHAPE, seed=5)
    first, kept = a, (a.primal.clone(), a.tangents.clone())
    a += b
    a *= 2
    torch.testing.assert_close(a.tangents, 2 * (kept[1] + b.tangents))
    assert (
        a is not first
        and torch.equal(first.primal, kept[0])
        and torch.equal(first.tangents, kept[1])
    )


def test_changing_a_dual_in_place_is_refused():
    x = dual(2, 2)
    for change in (lambda: x.add_(1), lambda: x.clamp_(0, 1), lambda: x.__setitem__(0, 1)):
        with pytest.raises((TypeError, AttributeError)):
            change()
    with pytest.raises(TypeError, match="use add instead of add_"):
        x.add_(1)


def test_what_is_not_a_real_number_has_no_tangents():
    x = dual(*SHAPE)
    assert (
        x.shape == x.size() == torch.Size(SHAPE)
        and x.dtype == torch.float64
        and x.ndim == 4
        and len(x) == 2
    )
    assert (
        torch.equal(x > 0, x.primal > 0)
        and torch.equal(x == 0, x.primal == 0)
        and torch.equal(x.argmax(1), x.primal.argmax(1))
    )
    assert x.to(torch.int64).dtype == torch.int64
    values, positions = x.max(dim=1)
    assert isinstance(values, Dual) and torch.equal(positions, x.primal.max(dim=1).indices)


def test_tangents_are_resolved_once():
    x = F.silu(dual(2, 3))
    assert torch.equal(x.tangents, x.tangents)


# --- whole networks ---

NETWORKS = {
    "digits": (Network((8, 16), 1, groups=4, predicts="velocity"), (1, 8, 8)),
    "with attention": (Network((8, 16), 2, (1,), (0,), groups=4, head_dim=4), (1, 8, 8)),
    "patches of 4": (
        Network((8, 16), 1, (1,), (0,), patch=4, groups=4, head_dim=8, predicts="velocity"),
        (3, 16, 16),
    ),
    "noise from patches": (Network((8, 8), 1, patch=4, groups=4), (1, 16, 16)),
}


def forward_mode(member, primal, tangents, t):
    """PyTorch's dual numbers on copies of the primal."""
    n, copies = len(tangents), primal.repeat(len(tangents), 1, 1, 1)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward.dual_level():
        value, moved = forward.unpack_dual(
            member(forward.make_dual(copies, tangents.flatten(0, 1)), t.repeat(n))
        )
    return value[: len(primal)], moved.unflatten(0, tangents.shape[:2])


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-11), (torch.float32, 2e-5)])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_duals_is_pytorchs_forward_mode(name, dtype, tolerance, rules_only):
    network, shape = NETWORKS[name]
    member = build_network(network, shape, 0).to(dtype).eval()
    primal, tangents = normal(2, *shape, dtype=dtype), normal(N, 2, *shape, seed=1, dtype=dtype)
    t = torch.tensor([980, 20])
    expected = forward_mode(member, primal, tangents, t)
    with torch.inference_mode():
        found = member(Dual(primal, tangents), t)
    assert found.primal.dtype == found.tangents.dtype == dtype
    for a, b in zip((found.primal, found.tangents), expected):
        assert b.abs().max() > 0.1
        assert (a - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_plain_attention_gives_the_same_output_as_the_fused_kernels_of_an_ordinary_pass(
    name, monkeypatch
):
    network, shape = NETWORKS[name]
    member = build_network(network, shape, 0).eval()
    fused, primal, t = [], normal(2, *shape, dtype=torch.float32), torch.tensor([980, 20])
    real = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *a, **k: (fused.append(isinstance(a[0], Dual)), real(*a, **k))[1],
    )
    with torch.inference_mode():
        ordinary = member(primal, t)
        with sdpa_kernel(SDPBackend.MATH):
            plain = member(primal, t)
        found = member(Dual(primal, torch.zeros(N, *primal.shape)), t)
    torch.testing.assert_close(plain, ordinary, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.primal, ordinary, rtol=1e-5, atol=1e-5)
    assert not found.tangents.any()
    # The attention that these networks have (in the middle, whatever the blocks) does go this way,
    # once in each pass.
    assert fused and fused.count(True) * 3 == len(fused)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_primal_goes_through_a_network_once_whatever_n_is(n, monkeypatch):
    network, shape = NETWORKS["with attention"]
    member = build_network(network, shape, 0).eval()
    rows, real = [], torch.conv2d
    monkeypatch.setattr(
        duals.torch, "conv2d", lambda x, *a, **k: (rows.append(len(x)), real(x, *a, **k))[1]
    )
    with torch.inference_mode():
        member(
            Dual(normal(2, *shape, dtype=torch.float32), normal(n, 2, *shape, dtype=torch.float32)),
            torch.tensor([5, 5]),
        )
    layers = sum(isinstance(module, torch.nn.Conv2d) for module in member.modules())
    # Each layer sees the 2 states and their n tangents: side by side in one call, or in two.
    assert sum(rows) == layers * (2 + 2 * n) and set(rows) <= {2, 2 * n, 2 + 2 * n}
