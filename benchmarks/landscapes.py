"""Exact landscapes: ours against the straightforward way, in turns.

The straightforward way is what a reader of section 2.2 would write first: for each
source in turn, the members that never saw it, one after another, on the states of all
samples at once; then both images scaled to 3x256x256 and subtracted. Both give the same
counterfactuals and distances, which is checked.

    python benchmarks/landscapes.py [--device auto] [--rounds 0] [--quick]

Measured twice. With the whole machine: the straightforward way on PyTorch's default
threads, as people run it; ours as landscapes are computed, one thread a task and one
task a core. And on one thread each, so that the ratio is about the way of working only.
Every source costs the same, so the straightforward way is timed on few of them. On a CPU also
ours against itself in blocks of half the size, on one thread.
"""

import numpy as np
import torch
import torch.nn.functional as F
from measuring import (
    DEFAULT_THREADS,
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
    warm_workers,
    with_steps,
)

import abc_lib as abc
from abc_lib.ground.tasks import job_count, run_tasks
from abc_lib.training.budget import block_size

MEMORY = 2 * 2**30
ENSEMBLES = ("digits_1024", "mnist_1024")


def enlarged(x: torch.Tensor) -> torch.Tensor:
    """Images at 3x256x256, as distances are measured."""
    x = F.interpolate(x, size=(256, 256), mode="nearest")
    return x.expand(-1, 3, -1, -1)


def straightforward(
    ensemble: abc.Ensemble, noise: abc.ExogenousNoise, factual: torch.Tensor, sources
) -> tuple[torch.Tensor, torch.Tensor]:
    """Counterfactuals (S, K, C, H, W) and distances (S, K), one ensemble pass for each source."""
    data, noise = ensemble.recipe.data, noise.to(ensemble.device)
    images, distances = [], []
    large = enlarged(factual.to(ensemble.device))
    for source in sources:
        alive = np.flatnonzero(ensemble.codebook.survivors(int(source)))

        def predict(k, x, t, alive=alive):
            times = torch.full((len(x),), t, device=x.device)
            return torch.stack([ensemble.members[i](x, times) for i in alive]).mean(0)

        with torch.inference_mode():
            x = abc.denoise(predict, noise, ensemble.recipe.diffusion, ensemble.recipe.sampling)
            x = (x / data.factor + data.shift).clamp(0, 1)
            distances.append((enlarged(x) - large).flatten(1).norm(dim=1).cpu())
            images.append(x.cpu())
    return torch.stack(images, dim=1), torch.stack(distances, dim=1)


def _block(ensemble, noise, factual, owner: np.ndarray, source: np.ndarray, start: int):
    images = ensemble.sample(
        noise, ensemble.codebook.leave_one_out(source), torch.from_numpy(owner)
    )
    return start, images, abc.distance(images, factual[owner])


def ours(
    ensemble: abc.Ensemble,
    noise: abc.ExogenousNoise,
    factual: torch.Tensor,
    sources,
    jobs: int | None = None,
    size: int | None = None,
):
    """The same as the library computes them: in blocks, each member once a step on its part."""
    total = len(noise) * len(sources)
    size = size or block_size(ensemble, MEMORY, job_count(jobs, ensemble.device))

    def task(start: int):
        owner, column = np.divmod(np.arange(start, min(start + size, total)), len(sources))
        mine, local = np.unique(owner, return_inverse=True)
        return ensemble, noise[mine], factual[mine], local, np.asarray(sources)[column], start

    starts = range(0, total, size)
    done = run_tasks(
        _block,
        (task(start) for start in starts),
        len(starts),
        ensemble.device,
        abc.Here(jobs=jobs, progress=False),
        total=len(starts),
        description="",
        unit="block",
    )
    parts = [part[1:] for part in sorted(done, key=lambda part: part[0])]
    return tuple(torch.cat(each).unflatten(0, (len(noise), len(sources))) for each in zip(*parts))


def apart(mine, others) -> float:
    """The largest difference of pixels, or of distances as a part of the largest, of both."""
    (a, r), (b, s) = mine, others
    columns = min(a.shape[1], b.shape[1])
    pixels = (a[:, :columns] - b[:, :columns]).abs().max()
    distances = (r[:, :columns] - s[:, :columns]).abs().max() / s.max().clamp(min=1)
    return float(max(pixels, distances))


def setting(name: str, options: Options, samples: int, steps: int | None = None):
    """The ensemble, by request with a shorter sampler, noise, and the samples themselves."""
    ensemble = ensemble_of(name, options)
    ensemble = with_steps(ensemble, steps) if steps else ensemble
    noise = ensemble.draw_noise(0, range(samples))
    return ensemble, noise, ensemble.sample(noise)


def _once(
    name: str, options: Options, samples: int, count: int, plain: bool, size: int | None = None
) -> None:
    # for the memory, which three steps take as fifty do: a child reads the ensemble anew
    ensemble, noise, factual = setting(name, options, samples, 3)
    if plain:
        straightforward(ensemble, noise, factual, range(count))
    else:
        ours(ensemble, noise, factual, range(count), 1, size)


def compare(options: Options) -> dict:
    """Both ensembles, with the whole machine and on one thread."""
    rows = []
    samples, rounds = 2 if options.quick else 16, options.how_many(3)
    # PyTorch on a GPU takes convolutions in TF32, and fifty steps let that grow.
    tolerance = 1e-3 if options.on_cpu else 5e-2
    warm_workers(options)
    for name in ("digits_64",) if options.quick else ENSEMBLES:
        case = setting(name, options, samples)
        ensemble = case[0]
        n, N, steps = ensemble.n, ensemble.codebook.num_sources, ensemble.recipe.sampling.steps
        alive = n - ensemble.codebook.weight
        flops, block = evaluation_flops(ensemble), block_size(ensemble, MEMORY, options.processes)
        few = 2
        one_block = min(N, max(1, block // samples))
        memory = {
            plain: peak_memory(
                options, _once, name, options, samples, count, plain, threads=threads
            )
            for plain, count, threads in ((False, one_block, 1), (True, few, DEFAULT_THREADS))
        }
        cases = (
            [(DEFAULT_THREADS, options.jobs, "all cores"), (1, 1, "one thread")]
            if options.on_cpu
            else [(None, None, "")]
        )
        for threads, jobs, title in cases:
            processes = options.processes if jobs is None else 1
            # A block for every process, so that none waits.
            many = 4 if options.quick else min(N, max(1, processes * block // samples))
            place = title or options.device
            say(f"  {name}, {place}: {samples} samples, ours {many}, straightforward {few} sources")
            turns = in_turns(
                {
                    "ours": doing(samples * many, ours, *case, range(many), jobs),
                    "straightforward": doing(samples * few, straightforward, *case, range(few)),
                },
                apart,
                tolerance,
                options,
                rounds,
                threads,
                processes,
            )
            evaluations = {
                "ours": _evaluations(ensemble, samples, many, block),
                "straightforward": alive * steps,
            }
            work = {
                way: Work(
                    evaluations[way],
                    evaluations[way] * flops,
                    memory[way == "straightforward"],
                    processes if way == "ours" else 1,
                )
                for way in evaluations
            }
            rows.append(
                row(
                    f"exact landscapes, {name}" + (f", {title}" if title else ""),
                    "every counterfactual of 16 samples, exactly: one ensemble pass for each "
                    "source against blocks of trajectories"
                    + {
                        "all cores": ", each with all cores",
                        "one thread": ", each on one thread",
                    }.get(title, ""),
                    "counterfactual",
                    turns,
                    work,
                    tolerance,
                )
            )
        if options.on_cpu:
            rows.append(_halved(name, case, flops, options, rounds))
    return {"rows": rows}


def _evaluations(ensemble: abc.Ensemble, samples: int, sources: int, size: int) -> float:
    """Evaluations of members for one of ours, in blocks of ``size``."""
    total, n = samples * sources, ensemble.n
    # The first step is taken once a sample and block, by all members.
    first = n * max(samples, -(-total // size)) / total
    return (n - ensemble.codebook.weight) * (ensemble.recipe.sampling.steps - 1) + first


def _halved(name: str, case, flops: float, options: Options, rounds: int) -> dict:
    """Blocks as the library takes them against blocks of half their size, on one thread."""
    ensemble, noise, _ = case
    samples, block = len(noise), block_size(ensemble, MEMORY, 1)
    many = 4 if options.quick else min(ensemble.codebook.num_sources, max(1, block // samples))
    total = samples * many
    say(f"  {name}, one thread: {total} counterfactuals, blocks of {block} and {block // 2}")
    sizes = {"ours": block, "half": max(1, block // 2)}
    turns = in_turns(
        {
            way: doing(total, ours, *case, range(many), 1, size)
            for way, size in sizes.items()
        },
        apart, 1e-3, options, rounds, 1,
    )  # fmt: skip
    work = {}
    for way, size in sizes.items():
        evaluations = _evaluations(ensemble, samples, many, size)
        asked = name, options, samples, many, False, size
        memory = peak_memory(options, _once, *asked, threads=1)
        work[way] = Work(evaluations, evaluations * flops, memory)
    return row(
        f"exact landscapes, {name}, blocks of {block} and {block // 2}",
        "the library's own blocks of trajectories against blocks of half their size, each on one "
        "thread",
        "counterfactual",
        turns,
        work,
        1e-3,
        "half",
    )


if __name__ == "__main__":
    main(compare, __doc__)
