"""How a landscape's time grows with sources, members and image size, beside appendix A.3.

A.3: a landscape takes O(N log(N) t), where t is the time of sampling one model and the
log(N) stands for the members of the ensemble. With n members and images of p pixels that
is N n t(p), so the exponents of N and n should be one. Measured on small untrained
ensembles with a short sampler and as many samples as fill a block of trajectories;
exponents by least squares on logarithms.

    python benchmarks/scaling.py [--device auto] [--rounds 0] [--quick]
"""

from math import comb

import numpy as np
from landscapes import MEMORY, ours
from measuring import Options, clock, main, say, threads_set

import abc_lib as abc
from abc_lib.method.recipe import Network
from abc_lib.training.budget import block_size

NETWORK = Network((16, 16), layers_per_block=1, groups=8)
FACTORS = ("N", "n", "pixels")


def grid(options: Options) -> list[tuple[int, int, int]]:
    """(N, n, side); as many sources as codewords allow, and fewer for the largest images."""
    if options.quick:
        return [(N, n, side) for side in (4, 8) for n in (6, 8) for N in (10, 20)]
    if options.on_cpu:
        Ns, ns, sides, most = (32, 64, 128, 256), (8, 12, 20), (8, 16, 32), 2**16
    else:
        Ns, ns, sides, most = (512, 1024, 2048, 4096), (12, 14, 16, 20), (8, 16, 32), 2**62
    return [
        (N, n, side)
        for side in sides
        for n in ns
        for N in Ns
        if comb(n, n // 2) >= N and N * side**2 <= most
    ]


def fit(points: list[dict]) -> dict:
    """seconds = constant * N^a * n^b * pixels^c: the exponents, their standard errors and R^2."""
    logs = np.log([[p[key] for key in FACTORS] for p in points])
    design = np.column_stack([np.ones(len(points)), logs])
    target = np.log([p["seconds"] for p in points])
    law, *_ = np.linalg.lstsq(design, target, rcond=None)
    left = target - design @ law
    variance = left @ left / max(1, len(points) - len(law))
    errors = np.sqrt(np.diag(variance * np.linalg.inv(design.T @ design)))
    return {
        "constant": float(np.exp(law[0])),
        "exponents": dict(zip(FACTORS, law[1:].tolist())),
        "errors": dict(zip(FACTORS, errors[1:].tolist())),
        "r2": float(1 - left.var() / target.var()),
    }


def compare(options: Options) -> dict:
    """Every point of the grid in each round; its time is the least, which others lengthen least."""
    steps = 2 if options.quick else 3
    recipe = abc.get_recipe("digits_64").replace(network=vars(NETWORK))
    cases, ensembles = grid(options), {}
    members = {
        side: [
            abc.build_network(NETWORK, (1, side, side), i, recipe.diffusion)
            for i in range(max(n for _, n, _ in cases))
        ]
        for side in sorted({side for *_, side in cases})
    }
    for N, n, side in cases:
        small = recipe.replace(sampling={"steps": steps})
        ensembles[N, n, side] = abc.Ensemble(
            small, abc.Codebook.draw(n, n // 2, N, 0), members[side][:n]
        ).to(options.device)
    threads, best = 1 if options.on_cpu else None, dict.fromkeys(cases, float("inf"))
    with threads_set(threads):
        for turn in range(options.how_many(1) + 1):
            # The first turn is short: it is there to set things up.
            for case in cases if turn else cases[:: max(1, len(cases) // 3)]:
                ensemble, N = ensembles[case], case[0]
                samples = 1 if options.quick else max(1, block_size(ensemble, MEMORY, 1) // N)
                noise = ensemble.draw_noise(0, range(samples))
                factual = ensemble.sample(noise)
                start = clock(options.device, threads)
                ours(ensemble, noise, factual, range(N), 1)
                taken = (clock(options.device, threads) - start) / samples
                best[case] = min(best[case], taken) if turn else best[case]
    points = [
        {"N": N, "n": n, "side": side, "pixels": side**2, "seconds": seconds}
        for (N, n, side), seconds in best.items()
    ]
    law = fit(points)
    exponents = ", ".join(f"{key} {value:.2f}" for key, value in law["exponents"].items())
    say(f"  exponents: {exponents}, R2 {law['r2']:.3f}")
    return {"points": points, "fit": law, "steps": steps, "threads": threads}


if __name__ == "__main__":
    main(compare, __doc__)
