"""Exact landscapes: ours against the straightforward way, in one run, in turns.

The straightforward way is what a reader of section 2.2 would write first: for each
source in turn, the members that never saw it, one after another, on the states of all
samples at once. Both give the same distances, which is checked. Prints the ratio of
the two times, round by round.

    python benchmarks/landscapes.py [ensemble] [--samples 16] [--sources 32] [--rounds 3]

Both run in one process on one thread, so that the ratio is about the way of working
and not about cores; ours also runs in parallel, which the other could be made to do.
"""

import argparse
import statistics
import time

import numpy as np
import torch

import abc_lib as abc


def straightforward(ensemble: abc.Ensemble, noise: abc.ExogenousNoise, sources: np.ndarray) -> torch.Tensor:
    """Counterfactuals (S, K, C, H, W), one ensemble pass for each source."""
    rows = []
    for source in sources:
        alive = np.flatnonzero(ensemble.codebook.survivors(int(source)))

        def predict(k, x, t, alive=alive):
            times = torch.full((len(x),), t)
            return torch.stack([ensemble.members[i](x, times) for i in alive]).mean(0)

        with torch.inference_mode():
            x = abc.denoise(predict, noise, ensemble.recipe.diffusion, ensemble.recipe.sampling)
        rows.append((x / ensemble.recipe.data.factor + ensemble.recipe.data.shift).clamp(0, 1))
    return torch.stack(rows, dim=1)


def ours(ensemble: abc.Ensemble, noise: abc.ExogenousNoise, sources: np.ndarray, block: int) -> torch.Tensor:
    """The same, in blocks of trajectories: each step evaluates each member once on those that keep it."""
    owner = np.repeat(np.arange(len(noise)), len(sources))
    source = np.tile(sources, len(noise))
    parts = []
    for start in range(0, len(owner), block):
        part = slice(start, start + block)
        parts.append(ensemble.sample(noise, ensemble.codebook.leave_one_out(source[part]), torch.from_numpy(owner[part])))
    return torch.cat(parts).unflatten(0, (len(noise), len(sources)))


def main() -> None:
    """Times both in turns and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ensemble", nargs="?", default="digits_1024")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--sources", type=int, default=32, help="how many of the N sources to leave out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block", type=int, nargs="+", default=[64, 128, 256, 512])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ensemble = abc.get_ensemble(abc.get_recipe(arguments.ensemble), device="cpu")
    noise = ensemble.draw_noise(0, range(arguments.samples))
    sources = np.arange(min(arguments.sources, ensemble.codebook.num_sources))
    evaluations = len(noise) * len(sources) * ensemble.recipe.sampling.steps * (ensemble.n - ensemble.codebook.weight)
    ratios: dict[int, list[float]] = {block: [] for block in arguments.block}
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        plain = straightforward(ensemble, noise, sources)
        slow = time.perf_counter() - start
        for block in arguments.block:
            start = time.perf_counter()
            blocks = ours(ensemble, noise, sources, block)
            fast = time.perf_counter() - start
            difference = float((plain - blocks).abs().max())
            assert difference < 1e-4, f"the two ways differ by {difference}"
            ratios[block].append(slow / fast)
            print(f"block {block:4}: straightforward {slow:6.1f} s, ours {fast:6.1f} s, {evaluations / fast:,.0f} member evaluations "
                  f"a second, ratio {slow / fast:.2f}, largest pixel difference {difference:.1e}", flush=True)
    for block, values in ratios.items():
        print(f"{arguments.ensemble}, block {block}: ratio {statistics.median(values):.2f} (from {min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
