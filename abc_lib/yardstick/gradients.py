"""Exact gradients of single images in all parameters of a member, and their inner products."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from abc_lib.ground.errors import BadValue, Known

__all__ = ["FEATURES", "Kernels", "cosines", "influence", "kernels", "per_sample_gradients"]

AT_ONCE = 16
"""images whose gradients are worked out side by side"""
FEATURES = Known(
    "function to differentiate",
    {
        "loss": lambda out, noise: ((out - noise) ** 2).mean(),
        "square": lambda out, noise: (out**2).mean(),
    },
)
"""what is differentiated of a prediction: the diffusion loss, or its squared norm (D-TRAK)"""


@dataclass(frozen=True)
class Kernels:
    """Inner products of gradients in each of M members: ``among`` (M, N, N) of the sources,
    ``across`` (M, S, N) of queries with sources, ``own`` (M, S) of queries with themselves.
    """

    among: np.ndarray
    across: np.ndarray
    own: np.ndarray
    seconds: float = 0.0


def per_sample_gradients(
    network: torch.nn.Module,
    states: torch.Tensor,
    noise: torch.Tensor,
    times: torch.Tensor,
    feature: str = "loss",
) -> torch.Tensor:
    """Gradients (B, P) in all P parameters of the mean over K draws of a function of a prediction.

    ``states`` and ``noise`` (B, K, C, H, W), ``times`` (K,), the same for all B. A network is
    called as ``network(x, t)``. ``feature`` is one of :data:`FEATURES`.
    """
    function = FEATURES[feature]
    parameters = {name: each.detach() for name, each in network.named_parameters()}
    buffers = dict(network.named_buffers())

    def mean_over_draws(at: dict, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        return function(functional_call(network, (at, buffers), (x, times)), eps)

    # The fused attention has no rule for a batch of gradients; plain attention has.
    with sdpa_kernel(SDPBackend.MATH):
        one = vmap(grad(mean_over_draws), in_dims=(None, 0, 0))
        parts = []
        for k in range(0, len(states), AT_ONCE):
            found = one(parameters, states[k : k + AT_ONCE], noise[k : k + AT_ONCE])
            parts.append(torch.cat([each.flatten(1) for each in found.values()], dim=1))
    return torch.cat(parts)


def kernels(gradients: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> Kernels:
    """Inner products, from each member's gradients of queries (S, P) and of sources (N, P)."""
    among, across, own = [], [], []
    for of_queries, of_sources in gradients:
        among.append((of_sources @ of_sources.T).double().cpu().numpy())
        across.append((of_queries @ of_sources.T).double().cpu().numpy())
        own.append((of_queries**2).sum(1).double().cpu().numpy())
    return Kernels(np.stack(among), np.stack(across), np.stack(own))


def cosines(found: Kernels) -> np.ndarray:
    """Cosines of the gradients of queries and sources (S, N), the mean over members."""
    of_sources = np.sqrt(np.diagonal(found.among, axis1=1, axis2=2))
    return (found.across / (found.own**0.5)[:, :, None] / of_sources[:, None]).mean(0)


def influence(found: Kernels, damping: float) -> np.ndarray:
    """q' (G' G + d I)^-1 g_s of each query q and source s, (S, N), the mean over members.

    G (N, P) are the sources' gradients. Exact, without projection, in the dual form
    q' G' (G G' + d I)^-1, which needs an inverse of size N only. ``damping`` is in units of the
    mean squared norm of a source's gradient. Raises :class:`BadValue` unless it is positive.
    """
    if not damping > 0:
        raise BadValue(f"damping is {damping}; it must be positive")
    scores = []
    for among, across in zip(found.among, found.across, strict=True):
        ridge = damping * np.trace(among) / len(among) * np.eye(len(among))
        scores.append(np.linalg.solve(among + ridge, across.T).T)
    return np.mean(scores, axis=0)
