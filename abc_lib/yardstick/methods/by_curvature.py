"""Influence functions with Kronecker-factored curvature, by curvlinops."""

import copy
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from abc_lib.yardstick.gradients import per_sample_gradients
from abc_lib.yardstick.methods.base import Method, Scores
from abc_lib.yardstick.methods.by_gradients import DAMPINGS
from abc_lib.yardstick.tasks import GRADIENT_MEMBERS, GRADIENT_TIMES, Task
from abc_lib.yardstick.truths import noised

__all__ = ["METHODS", "kronecker_influence"]

_AT_ONCE = 256


class _OneArgument(nn.Module):
    """The network as the library calls it: one argument, and outputs that are rows."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.network(batch["x"], batch["t"]).flatten(1)


def kronecker_influence(
    network: nn.Module,
    queries: torch.Tensor,
    sources: torch.Tensor,
    states: torch.Tensor,
    times: torch.Tensor,
    dampings: Iterable[float],
    corrected: bool = False,
    fisher: str = "mc",
) -> dict[float, np.ndarray]:
    """q' (F + d I)^-1 g_s by damping, (S, N), with K-FAC's F of the Gauss-Newton matrix, or
    EK-FAC's where ``corrected``.

    ``queries`` (S, P) and ``sources`` (N, P) are gradients in all parameters; those of linear and
    convolutional layers count, the only ones with factors. The matrix is that of the mean squared
    error at ``states`` (B, C, H, W) and ``times`` (B,). ``dampings`` are in units of its mean
    eigenvalue. ``fisher`` "mc" draws labels, "type-2" is exact and takes a pass for each output.
    """
    # imported late, as only these methods need it
    from curvlinops import EKFACLinearOperator, KFACInverseLinearOperator, KFACLinearOperator

    network = copy.deepcopy(network)
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    chosen = [p.requires_grad_() for layer in layers for p in layer.parameters()]
    data = [
        ({"x": x, "t": t}, torch.zeros(len(x), x[0].numel()))
        for x, t in zip(states.split(_AT_ONCE), times.split(_AT_ONCE), strict=True)
    ]
    kind = EKFACLinearOperator if corrected else KFACLinearOperator
    with torch.enable_grad():
        factors = kind(
            _OneArgument(network),
            nn.MSELoss(),
            chosen,
            data,
            check_deterministic=False,
            fisher_type=fisher,
            batch_size_fn=lambda batch: len(batch["x"]),
            num_data=len(states),
        )
        unit = float(factors.trace) / sum(p.numel() for p in chosen)
    places = _places(network)
    mine, theirs = (
        [each[:, places[id(p)]].reshape(len(each), *p.shape) for p in chosen]
        for each in (queries, sources)
    )
    columns = [each.movedim(0, -1).contiguous() for each in theirs]
    found = {}
    with torch.no_grad():
        for damping in dampings:
            inverse = KFACInverseLinearOperator(
                factors, damping=damping * unit, use_exact_damping=True
            )
            moves = inverse @ columns
            found[damping] = sum(
                q.flatten(1).double() @ move.flatten(0, -2).double()
                for q, move in zip(mine, moves, strict=True)
            ).numpy()
    return found


def _places(network: nn.Module) -> dict[int, slice]:
    """Where each parameter stands in a flat gradient."""
    places, start = {}, 0
    for parameter in network.parameters():
        places[id(parameter)] = slice(start, start + parameter.numel())
        start += parameter.numel()
    return places


def _scores(corrected: bool) -> Scores:
    def scores(task: Task) -> np.ndarray:
        x, noise, t = noised(task.recipe, task.sources, GRADIENT_TIMES, "sources")
        states, times = x.flatten(0, 1), t.repeat(len(x))
        found = []
        for member in task.needed().members[:GRADIENT_MEMBERS]:
            sources = per_sample_gradients(member, x, noise, t)
            given = task.query_gradients(member), sources, states, times, DAMPINGS, corrected
            found.append(kronecker_influence(member, *given))
        return task.choose({d: np.mean([each[d] for each in found], axis=0) for d in DAMPINGS})

    return scores


METHODS = (
    Method(
        "K-FAC influence",
        "influence functions (Mlodozeniec et al., 2025), linear and convolutional layers, one draw "
        "of labels, damping tuned",
        "gradients",
        _scores(False),
    ),
    Method(
        "EK-FAC influence",
        "the same with corrected eigenvalues (George et al., 2018; Grosse et al., 2023)",
        "gradients",
        _scores(True),
    ),
)
