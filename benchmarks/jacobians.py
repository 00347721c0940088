"""Jacobians in the members' weights: ours against the straightforward way, in turns.

The straightforward way is what a reader of section 2.4 would write first, and what its
authors describe: PyTorch's dual tensors through the whole sampler, with n copies of
every state beside the n tangents. A second one is ``torch.func.jvp`` under ``vmap``, which
does not copy the states either but has no rules of its own for the layers of a U-Net. All
give the same samples and Jacobians to float32 accuracy, which is checked.

    python benchmarks/jacobians.py [--device auto] [--rounds 0] [--quick]

All run on one thread, with the same samples side by side, so that the ratios are about
the way of working and not about cores. The sampler has fewer steps than usual: all but
the first cost the same.
"""

from collections.abc import Callable

import torch
import torch.autograd.forward_ad as forward
from measuring import (
    Options,
    Work,
    doing,
    ensemble_of,
    evaluation_flops,
    in_turns,
    main,
    peak_memory,
    row,
    say,
    with_steps,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

import abc_lib as abc

ENSEMBLES = {"digits_1024": 4, "mnist_1024": 2}
"""and how many samples go side by side"""


def sample(ensemble: abc.Ensemble, noise: abc.ExogenousNoise, c: torch.Tensor) -> torch.Tensor:
    """Images for weights ``c`` (B, n) or (n,), maybe with tangents: members simply summed."""

    def predict(_, x, t):
        times = torch.full((len(x),), t, device=x.device)
        return (
            sum(
                member(x, times) * c[..., i].reshape(-1, 1, 1, 1)
                for i, member in enumerate(ensemble.members)
            )
            / ensemble.n
        )

    recipe = ensemble.recipe
    x = abc.denoise(predict, noise.to(ensemble.device), recipe.diffusion, recipe.sampling)
    return (x / recipe.data.factor + recipe.data.shift).clamp(0, 1)


def straightforward(
    ensemble: abc.Ensemble, noise: abc.ExogenousNoise
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each sample n times, copy i with the tangent of weight i."""
    n, copies = ensemble.n, noise[torch.arange(len(noise)).repeat_interleave(ensemble.n)]
    # PyTorch cannot differentiate its fused attention forward
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward.dual_level():
        directions = torch.eye(n, device=ensemble.device).repeat(len(noise), 1)
        images, tangents = forward.unpack_dual(
            sample(ensemble, copies, forward.make_dual(torch.ones_like(directions), directions))
        )
        return images.unflatten(0, (-1, n))[:, 0].cpu(), tangents.unflatten(0, (-1, n)).cpu()


def vmapped(ensemble: abc.Ensemble, noise: abc.ExogenousNoise) -> tuple[torch.Tensor, torch.Tensor]:
    """``jvp`` along each weight, side by side by ``vmap``."""
    u = torch.ones(ensemble.n, device=ensemble.device)

    def along(direction):
        return torch.func.jvp(lambda c: sample(ensemble, noise, c), (u,), (direction,))

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        images, tangents = torch.func.vmap(along, out_dims=(None, 1))(torch.diag(u))
        return images.cpu(), tangents.cpu()


WAYS: dict[str, Callable] = {
    "ours": abc.Ensemble.differentiate,
    "straightforward": straightforward,
    "vmap of jvp": vmapped,
}


def apart(mine, others) -> float:
    """The largest difference of pixels or the relative one of Jacobians, whichever is more."""
    pixels = (mine[0] - others[0]).abs().max()
    jacobians = (mine[1] - others[1]).norm() / others[1].norm()
    return float(max(pixels, jacobians))


def setting(name: str, options: Options, samples: int, steps: int = 6):
    """The ensemble, with a short sampler, and noise."""
    ensemble = with_steps(ensemble_of(name, options), 3 if options.quick else steps)
    return ensemble, ensemble.draw_noise(0, range(samples))


def _once(name: str, options: Options, samples: int, way: str) -> None:
    # three steps take the memory of six
    WAYS[way](*setting(name, options, samples, 3))


def compare(options: Options) -> dict:
    """Two ensembles, each against both other ways."""
    rows, tolerance = [], 1e-3 if options.on_cpu else 5e-2
    for name, samples in ({"digits_64": 1} if options.quick else ENSEMBLES).items():
        samples = samples if options.on_cpu else 16 * samples
        ensemble, noise = setting(name, options, samples)
        n, steps, flops = ensemble.n, ensemble.recipe.sampling.steps, evaluation_flops(ensemble)
        place = "one thread" if options.on_cpu else options.device
        say(f"  {name}, {place}: {samples} samples, {n} members")
        # the first call of a kind sets things up
        for way in WAYS.values() if not options.quick else ():
            way(with_steps(ensemble, 3), noise[[0]])
        turns = in_turns(
            {way: doing(samples, WAYS[way], ensemble, noise) for way in WAYS},
            apart,
            tolerance,
            options,
            options.how_many(3),
            1 if options.on_cpu else None,
        )
        # A member and state is one evaluation, and so is a member and tangent; the first step's
        # state has no tangents yet. The straightforward way carries tangents of zero there and
        # each state n times throughout.
        least = n * (1 + (steps - 1) * (1 + n))
        evaluations = {"ours": least, "vmap of jvp": least, "straightforward": n * steps * 2 * n}
        work = {
            way: Work(
                count, count * flops, peak_memory(options, _once, name, options, samples, way)
            )
            for way, count in evaluations.items()
        }
        what = (
            f"Jacobians of {samples} samples side by side in all members' weights, through {steps} "
            "steps: {} against one primal with n tangents"
        )
        ways = {
            "straightforward": "forward mode with the primal copied for each tangent",
            "vmap of jvp": "PyTorch's jvp under vmap",
        }
        for way, text in ways.items():
            rows.append(
                row(f"Jacobian, {name}", what.format(text), "sample", turns, work, tolerance, way)
            )
    return {"rows": rows}


if __name__ == "__main__":
    main(compare, __doc__)
