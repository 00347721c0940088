"""Members and a code, as one model that takes weights (2.2 to 2.4)."""

from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.devices import one_thread
from abc_lib.ground.duals import Dual
from abc_lib.ground.errors import BadValue
from abc_lib.ground.store import Artefact
from abc_lib.method.code import Codebook
from abc_lib.method.diffusion import ExogenousNoise, denoise
from abc_lib.method.network import NoisePredictor
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import Space


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
    artefact: Artefact | None = None
    """where the members were read from: it knows when, on what and from which data they were trained"""
    space: Space | None = None
    """how their states become images; for pixels it need not be given"""

    def __post_init__(self):
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
    def shape(self) -> tuple[int, int, int]:
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

    def weights(self, c: np.ndarray | torch.Tensor | None, batch: int) -> torch.Tensor:
        """``c`` as a float32 matrix (B, n) on the ensemble's device; None is the whole ensemble."""
        if c is None:
            c = np.ones(self.n)
        c = torch.as_tensor(c, dtype=torch.float32)
        if c.shape[-1] != self.n or c.ndim > 2 or (c.ndim == 2 and len(c) not in (1, batch)):
            raise BadValue(
                f"weights of shape {tuple(c.shape)} do not fit {batch} trajectories and {self.n} members"
            )
        return c.to(self.device).expand(batch, self.n)

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

    @torch.inference_mode()
    def denoise(
        self,
        noise: ExogenousNoise,
        c=None,
        owner: torch.Tensor | None = None,
        visit=None,
        first: int = 0,
        state: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Trajectories with weights ``c`` (n,) or (B, n) from exogenous noise, in the members' range.

        The first step is computed once a sample, not once a trajectory: there all
        trajectories of a sample are still in the same state. ``owner``, ``visit``,
        ``first`` and ``state`` are those of :func:`abc_lib.diffusion.denoise`.
        """
        if self.device.type == "cpu" and torch.get_num_threads() > 1:
            with one_thread():
                return self.denoise(noise, c, owner, visit, first, state)
        noise = noise.to(self.device)
        if owner is None:
            owner = torch.arange(len(noise))
        owner = owner.to(self.device)
        c = self.weights(c, len(owner))

        def predict(k: int, x: torch.Tensor, t: int) -> torch.Tensor:
            if k == 0 and state is None and len(owner) > len(noise):
                times = torch.full((len(noise),), t, device=x.device)
                total = torch.zeros_like(x)
                for member, share in zip(self.members, (c / self.n).T):
                    keep = share.nonzero().squeeze(1)
                    if len(keep):
                        total.index_add_(
                            0,
                            keep,
                            member(noise.initial, times)[owner[keep]]
                            * share[keep][:, None, None, None],
                        )
                return total
            return self.predict(x, t, c)

        return denoise(
            predict, noise, self.recipe.diffusion, self.recipe.sampling, owner, visit, first, state
        )

    def sample(
        self, noise: ExogenousNoise, c=None, owner: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Images in [0, 1], (B, C, H, W), on the CPU; arguments as :meth:`denoise`."""
        return self.space.to_images(self.denoise(noise, c, owner)).cpu()

    def trajectory(self, noise: ExogenousNoise, c=None) -> torch.Tensor:
        """The states of :meth:`sample` from the initial noise to the images, (T + 1, B, C, H, W), in [0, 1], on the CPU."""
        states = []
        self.denoise(noise, c, visit=lambda k, x: states.append(self.space.to_images(x).cpu()))
        return torch.stack(states)

    def draw_noise(self, seed: int, indices) -> ExogenousNoise:
        """Exogenous noise of the right shape for this ensemble's sampler."""
        return ExogenousNoise.draw(seed, indices, self.shape, self.recipe.sampling)

    def _dual_prediction(self, x: torch.Tensor | Dual, t: int) -> Dual:
        """(f . c)(x) at c = u and its derivatives: d(f . c)/dc_j = f_j(x) / n + sum_i J_i(x) dx/dc_j / n."""
        times = torch.full((len(x),), t, device=x.device)
        value, moved = 0, torch.zeros(self.n, *x.shape, device=x.device, dtype=x.dtype)
        for i, member in enumerate(self.members):
            out = member(x, times)
            if isinstance(out, Dual):
                moved += out.tangents
                out = out.primal
            moved[i] += out
            value = value + out
        return Dual(value / self.n, moved / self.n)

    @torch.inference_mode()
    def differentiate(self, noise: ExogenousNoise, visit=None) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples (S, C, H, W) in [0, 1] and their Jacobians in c at c = u, (S, n, C, H, W), on the CPU (2.4).

        Forward-mode differentiation through the whole sampler: at each step a member is
        evaluated once on the states, and the n tangents ride on that evaluation. The
        sampler is the one that samples; only its numbers are dual. All S go side by side,
        in the precision of ``noise`` and the members. ``visit(k, x)`` is shown the dual
        states before step k, in the members' range. In latents the derivatives go on through
        the decoder (see :meth:`abc_lib.spaces.Space.to_images`).
        """
        images = self.space.to_images(self._dual_states(noise, visit))
        return images.primal.cpu(), images.tangents.transpose(0, 1).cpu()

    @torch.inference_mode()
    def _dual_states(self, noise: ExogenousNoise, visit, last: int | None = None) -> Dual:
        """The dual states before step ``last``, by default the samples, in the members' range."""
        if self.device.type == "cpu" and torch.get_num_threads() > 1:
            with one_thread():
                return self._dual_states(noise, visit, last)
        return denoise(
            lambda _, x, t: self._dual_prediction(x, t),
            noise.to(self.device),
            self.recipe.diffusion,
            self.recipe.sampling,
            visit=visit,
            last=last,
        )

    def tangents(
        self, noise: ExogenousNoise, steps, jacobians: bool = True
    ) -> dict[str, torch.Tensor]:
        """What hybrid counterfactuals start from: :meth:`differentiate` with the dual states on the way.

        ``factual`` (S, C, H, W) and ``jacobians`` (S, n, C, H, W) as there; for each k > 0 of
        ``steps``, ``state-k`` and ``tangents-k`` of the same shapes, in the members' range:
        where the samples are before step k, and how that changes with c. Without
        ``jacobians`` the tangents are carried no further than the last of ``steps``.
        """
        found = {}

        def visit(k, x):
            if k in steps and k > 0:
                found[f"state-{k}"] = x.primal.cpu().contiguous()
                found[f"tangents-{k}"] = x.tangents.transpose(0, 1).cpu().contiguous()

        if jacobians:
            factual, moved = self.differentiate(noise, visit)
            return found | {"factual": factual.contiguous(), "jacobians": moved.contiguous()}
        k = max(steps)
        state = self._dual_states(noise, visit, k).primal
        return found | {
            "factual": self.space.to_images(self.denoise(noise, first=k, state=state))
            .cpu()
            .contiguous()
        }

    def sample_hybrid(
        self, noise: ExogenousNoise, c, owner: torch.Tensor, moving: dict[str, torch.Tensor], k: int
    ) -> torch.Tensor:
        """Images as :meth:`sample`, but carried through the first ``k`` steps by tangents (``moving``, of :meth:`tangents`).

        Early on, all trajectories of a sample lie close together, and where weights c take
        them is nearly linear in c. From step k on they are denoised exactly.
        """
        if k == 0:
            return self.sample(noise, c, owner)
        change = self.weights(c, len(owner)).cpu() - 1
        state = moving[f"state-{k}"][owner] + torch.einsum(
            "bi,bichw->bchw", change, moving[f"tangents-{k}"][owner]
        )
        return self.space.to_images(
            self.denoise(noise, c, owner, first=k, state=state.to(self.device))
        ).cpu()
