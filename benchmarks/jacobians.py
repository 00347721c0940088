"""Jacobians in the members' weights: ours against the straightforward way, in one run, in turns.

The straightforward way is what a reader of section 2.4 would write first, and what its
authors describe: PyTorch's dual tensors through the whole sampler, with n copies of
every state beside the n tangents. Both give the same samples and Jacobians to
float32 accuracy, which is checked. Prints the ratio of the two times, round by round.

    python benchmarks/jacobians.py [ensemble] [--samples 4] [--rounds 3] [--steps 50]

A second comparison is ``torch.func.jvp`` under ``vmap`` over the same sampler, which
does not copy the states either but has no rules of its own for the layers of a U-Net.
All run in one process on one thread, with the same samples side by side, so that the
ratios are about the way of working and not about cores.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import torch
import torch.autograd.forward_ad as forward
from torch.nn.attention import SDPBackend, sdpa_kernel

import abc_lib as abc


def sample(ensemble: abc.Ensemble, noise: abc.ExogenousNoise, c: torch.Tensor) -> torch.Tensor:
    """Images for weights ``c`` (B, n) or (n,) that may have tangents: the plain sum over members at each step."""

    def predict(_, x, t):
        times = torch.full((len(x),), t)
        return sum(member(x, times) * c[..., i].reshape(-1, 1, 1, 1) for i, member in enumerate(ensemble.members)) / ensemble.n

    x = abc.denoise(predict, noise, ensemble.recipe.diffusion, ensemble.recipe.sampling)
    return (x / ensemble.recipe.data.factor + ensemble.recipe.data.shift).clamp(0, 1)


def straightforward(ensemble: abc.Ensemble, noise: abc.ExogenousNoise) -> tuple[torch.Tensor, torch.Tensor]:
    """Each sample n times, copy i with the tangent of weight i."""
    n, copies = ensemble.n, noise[torch.arange(len(noise)).repeat_interleave(ensemble.n)]
    # PyTorch cannot differentiate its fused attention forward
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward.dual_level():
        c = forward.make_dual(torch.ones(len(copies), n), torch.eye(n).repeat(len(noise), 1))
        images, tangents = forward.unpack_dual(sample(ensemble, copies, c))
        return images.unflatten(0, (-1, n))[:, 0].clone(), tangents.unflatten(0, (-1, n)).clone()


def vmapped(ensemble: abc.Ensemble, noise: abc.ExogenousNoise) -> tuple[torch.Tensor, torch.Tensor]:
    """``jvp`` along each weight, side by side by ``vmap``."""

    def along(direction):
        return torch.func.jvp(lambda c: sample(ensemble, noise, c), (torch.ones(ensemble.n),), (direction,))

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        return torch.func.vmap(along, out_dims=(None, 1))(torch.eye(ensemble.n))


def timed(function: Callable, ensemble: abc.Ensemble, noise: abc.ExogenousNoise) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Seconds, samples and Jacobians."""
    start = time.perf_counter()
    factual, jacobians = function(ensemble, noise)
    return time.perf_counter() - start, factual, jacobians


def main() -> None:
    """Times all in turns and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ensemble", nargs="?", default="digits_64")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of the sampler, if not all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ensemble = abc.get_ensemble(abc.get_recipe(arguments.ensemble), device="cpu")
    if arguments.steps:
        ensemble = dataclasses.replace(ensemble, recipe=ensemble.recipe.replace(sampling={"steps": arguments.steps}))
    n, steps = ensemble.n, ensemble.recipe.sampling.steps
    noise = ensemble.draw_noise(0, range(arguments.samples))
    # One a member and state, and one a member and tangent; the first step's state has no tangents yet.
    evaluations = len(noise) * n * (1 + (steps - 1) * (1 + n))
    others = {"straightforward": straightforward, "vmap of jvp": vmapped}
    ratios: dict[str, list[float]] = {name: [] for name in others}
    for _ in range(arguments.rounds):
        fast, factual, jacobians = timed(abc.Ensemble.differentiate, ensemble, noise)
        print(f"ours {fast:7.2f} s, {evaluations / fast:,.0f} network evaluations a second, a tangent counted as one", flush=True)
        for name, function in others.items():
            slow, images, tangents = timed(function, ensemble, noise)
            differences = float((factual - images).abs().max()), float((jacobians - tangents).norm() / tangents.norm())
            # Fifty steps let the rounding of float32 grow a little.
            assert max(differences) < 1e-3, f"ours and {name} differ by {differences}"
            ratios[name].append(slow / fast)
            print(f"  {name} {slow:7.2f} s, {slow / fast:.2f} times ours; largest pixel difference {differences[0]:.1e}, "
                  f"relative difference of the Jacobians {differences[1]:.1e}", flush=True)
    for name, values in ratios.items():
        print(f"{arguments.ensemble}, {len(noise)} samples, {steps} steps: {name} takes {statistics.median(values):.2f} times as long "
              f"(from {min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
