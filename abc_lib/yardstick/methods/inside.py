"""Methods that look into members: their losses, their activations, and what a step changes."""

import numpy as np
import torch
from torch.func import functional_call

from abc_lib.ground.errors import BadValue
from abc_lib.method.ensemble import Ensemble
from abc_lib.results import landscapes
from abc_lib.yardstick.gradients import AT_ONCE, per_sample_gradients
from abc_lib.yardstick.tasks import GRADIENT_TIMES, Task, error_products, noised

UNLEARNING_MEMBERS = 2
"""members that unlearn a query; a step a query is the dearest of all"""
STEP = 0.01
"""of unlearning, as a share of the length of a member's parameters"""
LAYER = "mid_block"
"""of the U-Net, whose activations are compared"""


def ensemble_of(task: Task) -> Ensemble:
    """The task's ensemble; raises :class:`BadValue` for a task that was read back."""
    if task.ensemble is None:
        raise BadValue("this task has no ensemble to look into; make it with make_task")
    return task.ensemble


def differential(task: Task) -> np.ndarray:
    """The rise of the loss at first order in c, from its derivative 2 G u / n^2 at c = u."""
    n = task.codebook.n
    slope = 2 * task.gram.mean(0).sum(2) / n**2
    return slope @ (task.codebook.leave_one_out() - 1).T


def moved(task: Task) -> np.ndarray:
    """How far generated queries move by ablation; NaN of others."""
    scores = np.full(task.shape, np.nan)
    count = int(task.generated.sum())
    found = landscapes.get(ensemble_of(task), count, 0, here=task.here)
    scores[task.generated] = found.distances
    return scores


def covariance(task: Task) -> np.ndarray:
    """Covariance over members of their losses on a query and on a source."""
    products = error_products(ensemble_of(task), task.sources).mean(0)
    of_sources = np.diagonal(products, axis1=1, axis2=2)
    of_queries = np.diagonal(task.gram.mean(0), axis1=1, axis2=2)
    a, b = (each - each.mean(1, keepdims=True) for each in (of_queries, of_sources))
    return a @ b.T / task.codebook.n


@torch.inference_mode()
def activations(task: Task) -> np.ndarray:
    """Cosines of the members' inner activations, averaged over members and times."""
    ensemble, scores = ensemble_of(task), 0.0
    seen: list[torch.Tensor] = []
    for member in ensemble.members:
        handle = getattr(member.unet, LAYER).register_forward_hook(
            lambda module, given, out: seen.append(out.flatten(1).double())
        )
        try:
            of = []
            for name, images in (("queries", task.queries), ("sources", task.sources)):
                states, _, t = noised(task.recipe, images, GRADIENT_TIMES, name)
                for k in range(GRADIENT_TIMES):
                    member(states[:, k], t[k].expand(len(states)))
                of.append(torch.stack(seen))
                seen.clear()
        finally:
            handle.remove()
        # what all images share says nothing of which is like which
        q, s = ((each - of[1].mean(1, keepdim=True)) for each in of)
        unit = [each / each.norm(dim=2, keepdim=True).clamp(min=1e-12) for each in (q, s)]
        scores = scores + (unit[0] @ unit[1].mT).mean(0).numpy()
    return scores / ensemble.n


@torch.inference_mode()
def rises(
    network: torch.nn.Module,
    steps: torch.Tensor,
    states: torch.Tensor,
    noise: torch.Tensor,
    times: torch.Tensor,
) -> np.ndarray:
    """How much each source's loss rises when parameters move along ``steps`` (S, P): (S, N).

    ``states`` and ``noise`` (N, K, C, H, W) are the same before and after.
    """
    parameters = {name: each.detach() for name, each in network.named_parameters()}
    buffers, sizes = dict(network.named_buffers()), [p.numel() for p in parameters.values()]
    x, t = states.flatten(0, 1), times.repeat(len(states))

    def losses(at: dict) -> torch.Tensor:
        out = functional_call(network, (at, buffers), (x, t))
        return (out - noise.flatten(0, 1)).square().reshape(len(states), -1).mean(1)

    before, found = losses(parameters), []
    for step in steps:
        parts = zip(parameters.items(), step.split(sizes), strict=True)
        found.append(losses({name: p + part.view_as(p) for (name, p), part in parts}) - before)
    return torch.stack(found).numpy()


def unlearning(task: Task) -> np.ndarray:
    """One ascent step on a query's loss, and how much the loss on each source rises by it."""
    scores = np.zeros(task.shape)
    for member in ensemble_of(task).members[:UNLEARNING_MEMBERS]:
        length = STEP * torch.cat([p.detach().flatten() for p in member.parameters()]).norm()
        draws = noised(task.recipe, task.sources, GRADIENT_TIMES, "sources")
        given = noised(task.recipe, task.queries, GRADIENT_TIMES, "queries")
        for k in range(0, len(task), AT_ONCE):
            some = slice(k, k + AT_ONCE)
            up = per_sample_gradients(member, given[0][some], given[1][some], given[2])
            up = up * (length / up.norm(dim=1, keepdim=True).clamp(min=1e-12))
            scores[some] += rises(member, up, *draws)
    return scores / UNLEARNING_MEMBERS
