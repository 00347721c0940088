"""Members by ONNX Runtime against PyTorch, on one thread, in turns: one sample, and a landscape.

    python benchmarks/backends.py [--rounds 0] [--quick]

Both sample with the same code and noise, and only members are evaluated otherwise. Their samples
agree to the tolerance that the library states, which is checked. On a GPU there is nothing to
compare: the backend is for the CPU.
"""

import torch
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
)

import abc_lib as abc
from abc_lib.training.graphs import TOLERANCE, on_onnx

ENSEMBLES = ("digits_256", "mnist_1024")
BLOCK = 64
"""counterfactuals of one sample side by side"""


def draw(ensemble: abc.Ensemble, sources: int) -> torch.Tensor:
    """Sample 0, or its counterfactuals without each of the first sources."""
    noise = ensemble.draw_noise(0, [0])
    if not sources:
        return ensemble.sample(noise)
    words = ensemble.codebook.leave_one_out()[:sources]
    return ensemble.sample(noise, words, torch.zeros(len(words), dtype=torch.int64))


def _once(name: str, options: Options, sources: int, onnx: bool) -> None:
    ensemble = ensemble_of(name, options)
    draw(on_onnx(ensemble) if onnx else ensemble, sources)


def compare(options: Options) -> dict:
    """Both ensembles, one sample and a block of counterfactuals."""
    rows = []
    for name in ("digits_64",) if options.quick else ENSEMBLES if options.on_cpu else ():
        ensemble = ensemble_of(name, options)
        torch_flops, n = evaluation_flops(ensemble), ensemble.n
        steps, alive = ensemble.recipe.sampling.steps, n - ensemble.codebook.weight
        fast = on_onnx(ensemble)
        draw(fast, 0)  # its sessions are opened once
        for sources, unit in ((0, "sample"), (BLOCK, "counterfactual")):
            say(f"  {name}, {sources or 'one'} {unit}")
            count = sources or 1
            turns = in_turns(
                {
                    "ours": doing(count, draw, fast, sources),
                    "PyTorch": doing(count, draw, ensemble, sources),
                },
                lambda a, b: float((a - b).abs().max()),
                TOLERANCE,
                options,
                options.how_many(5),
                1,
            )
            evaluations = alive * (steps - 1) + n / count if sources else n * steps
            work = {
                way: Work(
                    evaluations,
                    evaluations * torch_flops,
                    peak_memory(options, _once, name, options, sources, way == "ours"),
                )
                for way in ("ours", "PyTorch")
            }
            rows.append(
                row(
                    f"members by ONNX Runtime, {name}, {sources or 1} side by side",
                    f"{'one sample' if not sources else f'{BLOCK} counterfactuals of a sample'} "
                    "with backend onnx, on one thread",
                    unit,
                    turns,
                    work | {"other": work["PyTorch"]},
                    TOLERANCE,
                    "PyTorch",
                )
            )
    return {"rows": rows}


if __name__ == "__main__":
    main(compare, __doc__)
