"""How much goes side by side within a memory budget."""

import numpy as np
import torch
import torch.nn as nn

from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.tasks import job_count
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Shape


def num_parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(p.numel() for p in module.parameters())


def activation_bytes(module: nn.Module, shape: Shape) -> int:
    """An upper bound on the memory one image takes in a forward pass without gradients, in bytes.

    The outputs of all leaf modules added up, as if none were freed before the end.
    """
    total = 0

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor):
            total += output.numel() * output.element_size()

    leaves = [m for m in module.modules() if not list(m.children())]
    hooks = [m.register_forward_hook(count) for m in leaves]
    parameter = next(module.parameters())
    try:
        with torch.inference_mode():
            module(
                torch.zeros(1, *shape, device=parameter.device, dtype=parameter.dtype),
                torch.zeros(1, device=parameter.device, dtype=torch.long),
            )
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _side_by_side(memory: int, jobs: int, each: int, what: str, preferred: int) -> int:
    """``preferred``, or as many as ``memory`` bytes hold for every job at ``each`` bytes."""
    fits = memory // (jobs * each)
    if fits < 1:
        raise BadValue(
            f"a memory budget of {memory / 2**20:.1f} MiB does not hold one {what} for each of "
            f"{jobs} jobs "
            f"({each / 2**20:.1f} MiB each); raise the budget or use jobs=1"
        )
    return int(min(preferred, fits))


def _preferred(ensemble: Ensemble) -> int:
    # Measured (benchmarks/landscapes.py): smaller blocks waste calls, at 256 nearly a third of the
    # time of the digits' networks; larger ones hardly gain.
    return 512 if ensemble.device.type == "cpu" else 4096


def _decoded(ensemble: Ensemble) -> int:
    """Bytes of a state's image and of a double one beside it, where it is not the state itself."""
    return (
        0
        if ensemble.recipe.data.space == "pixel"
        else 4 * 4 * int(np.prod(ensemble.space.image_shape))
    )


def block_size(ensemble: Ensemble, memory: int, jobs: int) -> int:
    """How many trajectories go side by side: what is fastest, or less if ``memory`` bytes for all
    jobs ask for it.
    """
    numbers = int(np.prod(ensemble.shape))
    # Activations, the state and its companions in the loop, and some to spare for each member.
    per_trajectory = (
        activation_bytes(ensemble.members[0], ensemble.shape)
        + 4 * numbers * (8 + ensemble.n)
        + _decoded(ensemble)
    )
    return _side_by_side(memory, jobs, per_trajectory, "trajectory", _preferred(ensemble))


def samples_at_once(ensemble: Ensemble, memory: int, jobs: int) -> int:
    """How many samples are differentiated side by side: what is fastest, or less if ``memory``
    bytes for all jobs ask for it.
    """
    numbers = int(np.prod(ensemble.shape))
    # A tangent takes what an evaluation takes, the primal's factors and a spare copy of the largest
    # layer included.
    per_sample = (ensemble.n + 1) * (
        activation_bytes(ensemble.members[0], ensemble.shape) + 4 * numbers * 8 + _decoded(ensemble)
    )
    # As many tangents as a block of a landscape has trajectories.
    return _side_by_side(
        memory, jobs, per_sample, "Jacobian", max(1, _preferred(ensemble) // ensemble.n)
    )


def trajectories_side_by_side(ensemble: Ensemble, here: Here) -> int:
    """:func:`block_size` for the memory and the jobs that there are here."""
    return block_size(ensemble, here.memory, job_count(here.jobs, ensemble.device))


def samples_side_by_side(ensemble: Ensemble, count: int, here: Here) -> int:
    """:func:`samples_at_once` here, for ``count`` samples: no more than keep all jobs busy."""
    jobs = job_count(here.jobs, ensemble.device)
    return min(samples_at_once(ensemble, here.memory, jobs), -(-count // jobs))
