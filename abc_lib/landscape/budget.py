"""How much goes side by side within a memory budget."""

import re

import numpy as np

from ..ensemble import Ensemble
from ..errors import BadValue
from ..models import activation_bytes


def parse_bytes(budget: int | str) -> int:
    """A memory budget in bytes, from a number or a text such as ``512MiB`` or ``2GB``."""
    if isinstance(budget, int) and not isinstance(budget, bool):
        value = budget
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(budget), re.IGNORECASE)
        if not match:
            raise BadValue(f"memory budget '{budget}' is not understood; write it like 512MiB or 2GiB")
        power = " KMGT".index(match[2].upper() or " ")
        value = int(float(match[1]) * (1024 if match[3] else 1000) ** power)
    if value < 1:
        raise BadValue(f"memory budget {budget!r} leaves nothing to work with; write it like 512MiB or 2GiB")
    return value


def _side_by_side(memory: int, jobs: int, each: int, what: str, preferred: int) -> int:
    """``preferred``, or as many as ``memory`` bytes hold for every job at ``each`` bytes."""
    fits = memory // (jobs * each)
    if fits < 1:
        raise BadValue(
            f"a memory budget of {memory / 2**20:.1f} MiB does not hold one {what} for each of {jobs} jobs "
            f"({each / 2**20:.1f} MiB each); raise the budget or use n_jobs=1"
        )
    return int(min(preferred, fits))


def _preferred(ensemble: Ensemble) -> int:
    # Measured: larger blocks fall out of a CPU's cache, smaller ones waste calls.
    return 256 if ensemble.device.type == "cpu" else 4096


def _decoded(ensemble: Ensemble) -> int:
    """Bytes of a state's image and of a double one beside it, where it is not the state itself."""
    return 0 if ensemble.recipe.data.space == "pixel" else 4 * 4 * int(np.prod(ensemble.space.image_shape))


def block_size(ensemble: Ensemble, memory: int, jobs: int) -> int:
    """How many trajectories go side by side: what is fastest, or less if ``memory`` bytes for all jobs ask for it."""
    numbers = int(np.prod(ensemble.shape))
    # Activations, the state and its companions in the loop, and some to spare for each member.
    per_trajectory = activation_bytes(ensemble.members[0], ensemble.shape) + 4 * numbers * (8 + ensemble.n) + _decoded(ensemble)
    return _side_by_side(memory, jobs, per_trajectory, "trajectory", _preferred(ensemble))


def samples_at_once(ensemble: Ensemble, memory: int, jobs: int) -> int:
    """How many samples are differentiated side by side: what is fastest, or less if ``memory`` bytes for all jobs ask for it."""
    numbers = int(np.prod(ensemble.shape))
    # A tangent takes what an evaluation takes, the primal's factors and a spare copy of the largest layer included.
    per_sample = (ensemble.n + 1) * (activation_bytes(ensemble.members[0], ensemble.shape) + 4 * numbers * 8 + _decoded(ensemble))
    # As many tangents as a block of a landscape has trajectories.
    return _side_by_side(memory, jobs, per_sample, "Jacobian", max(1, _preferred(ensemble) // ensemble.n))
