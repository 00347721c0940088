"""Members and a code, as one model that takes weights (2.2 to 2.4)."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from abc_lib.ground.duals import Dual
from abc_lib.ground.errors import BadValue
from abc_lib.method.code import Codebook
from abc_lib.method.diffusion import ExogenousNoise, denoise
from abc_lib.method.network import NoisePredictor
from abc_lib.method.recipe import Recipe, Shape
from abc_lib.method.space import Space, same_bits

Weights = np.ndarray | torch.Tensor
"""c (n,) or (B, n), one number a member"""
Visit = Callable[[int, Any], None]
"""``visit(k, x)`` is shown the states before step k"""


class Kept(Protocol):
    """What something was read from: it knows when, on what and from which data it was made."""

    @property
    def published(self) -> bool:
        """Whether it came with the repository."""


@dataclass
class Ensemble:
    """n members and the code that says what each of them saw.

    The prediction is f . c = sum_i f_i c_i / n (2.4). Weights ``c`` default to all
    ones, the whole ensemble; :meth:`Codebook.ablation` gives those that remove sources.
    """

    recipe: Recipe
    codebook: Codebook
    members: list[NoisePredictor]
    identity: str = ""
    """a hash of the members' parameters"""
    artefact: Kept | None = None
    """where the members were read from"""
    space: Space = None  # type: ignore[assignment]
    """how their states become images; for pixels it need not be given"""

    def __post_init__(self) -> None:
        self.space = self.space or Space(self.recipe.data)
        if len(self.members) != self.codebook.n:
            raise BadValue(
                f"{len(self.members)} members do not fit a code of length {self.codebook.n}"
            )
        for member in self.members:
            member.eval().requires_grad_(False)

    @property
    def n(self) -> int:
        """The number of members."""
        return len(self.members)

    @property
    def device(self) -> torch.device:
        """Where the members are."""
        return next(self.members[0].parameters()).device

    @property
    def shape(self) -> Shape:
        """C, H, W of a state: of a sample in pixels, of its latent in latents."""
        unet, patch = self.members[0].unet, self.members[0].patch
        side = unet.config.sample_size * patch
        return unet.config.in_channels // patch**2, side, side

    def to(self, device: torch.device | str) -> "Ensemble":
        """Moves the members, in place, and returns the ensemble."""
        for member in self.members:
            member.to(device)
        self.space.to(device)
        return self

    # --- sampling under weights (2.2, 2.4) ---

    def weights(self, c: Weights | None, batch: int) -> torch.Tensor:
        """``c`` as a float32 matrix (B, n) on the ensemble's device; None is the whole ensemble."""
        rows = torch.as_tensor(np.ones(self.n) if c is None else c, dtype=torch.float32)
        fits = rows.ndim <= 2 and rows.shape[-1] == self.n
        if not fits or (rows.ndim == 2 and len(rows) not in (1, batch)):
            raise BadValue(
                f"weights of shape {tuple(rows.shape)} do not fit {batch} trajectories and "
                f"{self.n} members"
            )
        return rows.to(self.device).expand(batch, self.n)

    def predict(self, x: torch.Tensor, t: int | torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """(f . c)(x): noise predicted for states x (B, C, H, W) at step t, with weights c (B, n).

        Each member is evaluated once, in one batch, on just the states that give it a
        weight other than zero.
        """
        total = torch.zeros_like(x)
        share = c / self.n
        for i, member in enumerate(self.members):
            keep = share[:, i].nonzero().squeeze(1)
            if len(keep) == 0:
                continue
            whole = len(keep) == len(x)
            states = x if whole else x[keep]
            times = torch.as_tensor(t, device=x.device).expand(len(states))
            eps = member(states, times) * share[keep, i][:, None, None, None]
            total = total + eps if whole else total.index_add_(0, keep, eps)
        return total

    def _predict_first(
        self, x: torch.Tensor, t: int, c: torch.Tensor, owner: torch.Tensor
    ) -> torch.Tensor:
        """:meth:`predict` where trajectory b is still in the state ``x[owner[b]]``."""
        times = torch.full((len(x),), t, device=x.device)
        total = x.new_zeros(len(owner), *x.shape[1:])
        for member, share in zip(self.members, (c / self.n).T):
            keep = share.nonzero().squeeze(1)
            if len(keep):
                eps = member(x, times)[owner[keep]]
                total.index_add_(0, keep, eps * share[keep][:, None, None, None])
        return total

    @torch.inference_mode()
    def denoise(
        self,
        noise: ExogenousNoise,
        c: Weights | None = None,
        owner: torch.Tensor | None = None,
        visit: Visit | None = None,
        first: int = 0,
        state: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Trajectories with weights ``c`` (n,) or (B, n) from noise, in the members' range.

        The first step is computed once a sample, not once a trajectory: there all
        trajectories of a sample are still in the same state. ``owner``, ``visit``,
        ``first`` and ``state`` are those of :func:`abc_lib.method.diffusion.denoise`.
        """
        noise = noise.to(self.device)
        owner = (torch.arange(len(noise)) if owner is None else owner).to(self.device)
        rows = self.weights(c, len(owner))
        shared = state is None and len(owner) > len(noise)

        def predict(k: int, x: torch.Tensor, t: int) -> torch.Tensor:
            if k == 0 and shared:
                return self._predict_first(noise.initial, t, rows, owner)
            return self.predict(x, t, rows)

        diffusion, sampling = self.recipe.diffusion, self.recipe.sampling
        with same_bits(self.device):
            return denoise(predict, noise, diffusion, sampling, owner, visit, first, state)

    def sample(
        self, noise: ExogenousNoise, c: Weights | None = None, owner: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Images in [0, 1], (B, C, H, W), on the CPU; arguments as :meth:`denoise`."""
        return self.space.to_images(self.denoise(noise, c, owner)).cpu()

    def trajectory(self, noise: ExogenousNoise, c: Weights | None = None) -> torch.Tensor:
        """The states of :meth:`sample` from the initial noise to the images, as images.

        (T + 1, B, C, H, W), in [0, 1], on the CPU.
        """
        states: list[torch.Tensor] = []
        self.denoise(noise, c, visit=lambda k, x: states.append(self.space.to_images(x).cpu()))
        return torch.stack(states)

    def draw_noise(self, seed: int, indices: Iterable[int]) -> ExogenousNoise:
        """Exogenous noise of the right shape for this ensemble's sampler."""
        return ExogenousNoise.draw(seed, indices, self.shape, self.recipe.sampling)

    # --- derivatives in the weights (2.4) ---

    def _predict_dual(self, x: torch.Tensor | Dual, t: int) -> Dual:
        """(f . c)(x) at c = u with its derivatives in c.

        d(f . c)/dc_j = f_j(x) / n + sum_i J_i(x) dx/dc_j / n.
        """
        times = torch.full((len(x),), t, device=x.device)
        value = torch.zeros(x.shape, device=x.device, dtype=x.dtype)
        moved = torch.zeros(self.n, *x.shape, device=x.device, dtype=x.dtype)
        for i, member in enumerate(self.members):
            out = member(x, times)
            if isinstance(out, Dual):
                moved += out.tangents
                out = out.primal
            moved[i] += out
            value = value + out
        return Dual(value / self.n, moved / self.n)

    @torch.inference_mode()
    def _dual_states(
        self, noise: ExogenousNoise, visit: Visit | None, last: int | None = None
    ) -> Dual:
        """The dual states before step ``last``, by default the samples, in the members' range."""

        def predict(k: int, x: torch.Tensor | Dual, t: int) -> Dual:
            return self._predict_dual(x, t)

        noise = noise.to(self.device)
        diffusion, sampling = self.recipe.diffusion, self.recipe.sampling
        with same_bits(self.device):
            return denoise(predict, noise, diffusion, sampling, visit=visit, last=last)

    @torch.inference_mode()
    def differentiate(
        self, noise: ExogenousNoise, visit: Visit | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples and their Jacobians in c at c = u (2.4), on the CPU.

        (S, C, H, W) in [0, 1] and (S, n, C, H, W). Forward-mode differentiation through the
        whole sampler: at each step a member is evaluated once on the states, and the n tangents
        ride on that evaluation. The sampler is the one that samples; only its numbers are dual.
        All S go side by side, in the precision of ``noise`` and the members. ``visit(k, x)`` is
        shown the dual states before step k, in the members' range. In latents the derivatives go
        on through the decoder (:meth:`Space.decode`).
        """
        images = self.space.to_images(self._dual_states(noise, visit))
        return images.primal.cpu(), images.tangents.transpose(0, 1).cpu()

    # --- hybrids: the first steps by tangents (2.4) ---

    def tangents(
        self, noise: ExogenousNoise, steps: Collection[int], jacobians: bool = True
    ) -> dict[str, torch.Tensor]:
        """What hybrids start from: :meth:`differentiate` with the dual states on the way.

        ``factual`` (S, C, H, W) and ``jacobians`` (S, n, C, H, W) as there; for each k > 0 of
        ``steps``, ``state-k`` and ``tangents-k`` of the same shapes, in the members' range:
        where the samples are before step k, and how that changes with c. Without
        ``jacobians`` the tangents are carried no further than the last of ``steps``.
        """
        moving: dict[str, torch.Tensor] = {}

        def visit(k: int, x: Dual) -> None:
            if k in steps and k > 0:
                moving[f"state-{k}"] = x.primal.cpu().contiguous()
                moving[f"tangents-{k}"] = x.tangents.transpose(0, 1).cpu().contiguous()

        if jacobians:
            factual, moved = self.differentiate(noise, visit)
            return moving | {"factual": factual.contiguous(), "jacobians": moved.contiguous()}
        k = max(steps)
        state = self._dual_states(noise, visit, k).primal
        factual = self.space.to_images(self.denoise(noise, first=k, state=state))
        return moving | {"factual": factual.cpu().contiguous()}

    def sample_hybrid(
        self,
        noise: ExogenousNoise,
        c: Weights | None,
        owner: torch.Tensor,
        moving: dict[str, torch.Tensor],
        k: int,
    ) -> torch.Tensor:
        """Images as :meth:`sample`, but carried through the first ``k`` steps by tangents.

        ``moving`` are those of :meth:`tangents`. Early on, all trajectories of a sample lie close
        together, and where weights c take them is nearly linear in c. From step k on they are
        denoised exactly.
        """
        if k == 0:
            return self.sample(noise, c, owner)
        change = self.weights(c, len(owner)).cpu() - 1
        moved = torch.einsum("bi,bichw->bchw", change, moving[f"tangents-{k}"][owner])
        state = (moving[f"state-{k}"][owner] + moved).to(self.device)
        return self.space.to_images(self.denoise(noise, c, owner, first=k, state=state)).cpu()
