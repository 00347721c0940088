"""The noise schedule, exogenous noise as a value, and one denoising loop (2.3, B.2)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from abc_lib.ground.errors import BadValue, positive_int, unknown
from abc_lib.ground.seeds import generator
from abc_lib.method.recipe import Diffusion, Sampling, Shape

__all__ = [
    "alphas_cumprod",
    "add_noise",
    "Step",
    "sampler_steps",
    "ExogenousNoise",
    "NoisePrediction",
    "denoise",
]

SAMPLERS = ("ddpm", "ddim")


def _scheduler(diffusion: Diffusion, kind: str = "ddpm") -> Any:
    from diffusers import DDIMScheduler, DDPMScheduler

    cls = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}[kind]
    return cls(
        num_train_timesteps=diffusion.train_steps,
        beta_start=diffusion.beta_start,
        beta_end=diffusion.beta_end,
        beta_schedule=diffusion.beta_schedule,
    )


def alphas_cumprod(diffusion: Diffusion) -> torch.Tensor:
    """Shape (train_steps,), float32: how much of the image is left at each step of noise."""
    return _scheduler(diffusion).alphas_cumprod


def add_noise(
    x: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, alphas: torch.Tensor
) -> torch.Tensor:
    """Images (B, C, H, W) at step ``t`` (B,) of the forward process."""
    a = alphas[t][:, None, None, None]
    return a.sqrt() * x + (1 - a).sqrt() * noise


@dataclass(frozen=True)
class Step:
    """One denoising step, from x at time ``t`` with the noise eps that a model sees in it.

    x0 = clip((x - from_eps * eps) / from_x), then
    x' = to_x0 * x0 + to_x * x + to_eps * eps + to_noise * z.
    """

    t: int
    from_x: float
    from_eps: float
    to_x0: float
    to_x: float
    to_eps: float
    to_noise: float


@lru_cache(maxsize=32)
def sampler_steps(diffusion: Diffusion, sampling: Sampling) -> tuple[Step, ...]:
    """The coefficients of every step, first to last.

    ``ddpm`` is the ancestral sampler of Ho et al. with the posterior variance
    (their sigma^2 = beta-tilde), ``ddim`` that of Song et al. with eta = 0. Time steps
    come from diffusers' schedulers, with their default ("leading") spacing.
    """
    if sampling.sampler not in SAMPLERS:
        raise unknown("sampler", sampling.sampler, SAMPLERS)
    positive_int("sampling steps", sampling.steps)
    if sampling.steps > diffusion.train_steps:
        raise BadValue(
            f"{sampling.steps} sampling steps are more than the {diffusion.train_steps} that were "
            "trained"
        )
    scheduler = _scheduler(diffusion, sampling.sampler)
    scheduler.set_timesteps(sampling.steps)
    alphas = scheduler.alphas_cumprod.double()
    stride = diffusion.train_steps // sampling.steps
    steps = []
    for t in scheduler.timesteps.tolist():
        a = float(alphas[t])
        before = float(alphas[t - stride]) if t - stride >= 0 else 1.0
        if sampling.sampler == "ddim":
            to_x0 = before**0.5
            to_x = 0.0
            to_eps = (1 - before) ** 0.5
            variance = 0.0
        else:
            alpha = a / before
            to_x0 = before**0.5 * (1 - alpha) / (1 - a)
            to_x = alpha**0.5 * (1 - before) / (1 - a)
            to_eps = 0.0
            variance = (1 - before) / (1 - a) * (1 - alpha)
        steps.append(Step(t, a**0.5, (1 - a) ** 0.5, to_x0, to_x, to_eps, variance**0.5))
    return tuple(steps)


@dataclass(frozen=True)
class ExogenousNoise:
    """All the chance in a sample, as a value.

    ``initial`` (S, C, H, W) is where denoising starts; ``steps`` (T, S, C, H, W) is
    what the ancestral sampler adds at each step, None for DDIM. ``indices`` (S,) are
    the samples' numbers: sample 7 of a seed is the same however many are drawn.
    """

    initial: torch.Tensor
    steps: torch.Tensor | None
    indices: torch.Tensor

    @classmethod
    def draw(
        cls, seed: int, indices: Iterable[int], shape: Shape, sampling: Sampling
    ) -> "ExogenousNoise":
        """Standard normal noise for the samples with these numbers; always made on the CPU."""
        numbers = torch.as_tensor(list(indices), dtype=torch.int64)
        if len(numbers) == 0:
            raise BadValue("no samples were asked for; give at least one index")
        ancestral = sampling.sampler == "ddpm"
        # The last step of the ancestral sampler adds no noise.
        rows = sampling.steps if ancestral else 1
        drawn = torch.stack(
            [
                torch.randn(rows, *shape, generator=generator("exogenous noise", seed, int(i)))
                for i in numbers
            ],
            dim=1,
        )
        return cls(drawn[0], drawn[1:] if ancestral else None, numbers)

    def __len__(self) -> int:
        return len(self.initial)

    def __getitem__(self, which: Any) -> "ExogenousNoise":
        """The noise of some of these samples, by position (repeats allowed)."""
        rows = torch.as_tensor(which, device=self.indices.device).reshape(-1)
        if rows.dtype == torch.bool:
            rows = rows.nonzero().reshape(-1)
        there = rows.to(self.initial.device)
        steps = None if self.steps is None else self.steps[:, there]
        return ExogenousNoise(self.initial[there], steps, self.indices[rows])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "ExogenousNoise":
        """On another device or in another precision."""
        steps = None if self.steps is None else self.steps.to(device, dtype)
        return ExogenousNoise(self.initial.to(device, dtype), steps, self.indices)


NoisePrediction = Callable[[int, Any, int], Any]
"""``predict(k, x, t)``: the noise that a model sees in x (B, C, H, W) at time t, in step k"""


def denoise(
    predict: NoisePrediction,
    noise: ExogenousNoise,
    diffusion: Diffusion,
    sampling: Sampling,
    owner: torch.Tensor | None = None,
    visit: Callable[[int, Any], None] | None = None,
    first: int = 0,
    state: torch.Tensor | None = None,
    last: int | None = None,
) -> Any:
    """G(f, eps) of section 2.4: from exogenous noise to samples, (B, C, H, W).

    States are tensors, or dual numbers where ``predict`` returns those.
    ``owner`` (B,) says which sample's noise each of B trajectories uses, so that many
    counterfactuals share one noise without copying it; by default trajectory i uses
    sample i. ``visit(k, x)`` is shown the states before step k, and the samples as step T.
    Trajectories that have come to a ``state`` (B, C, H, W) before step ``first`` go on from there;
    with ``last`` they stop before that step.
    """
    if owner is None:
        owner = torch.arange(len(noise), device=noise.initial.device)
    steps = sampler_steps(diffusion, sampling)
    if not 0 <= first <= len(steps) or (first > 0 and state is None):
        lack = " without a state" if state is None else ""
        raise BadValue(f"denoising cannot go on from step {first} of {len(steps)}{lack}")
    last = len(steps) if last is None else last
    if not first <= last <= len(steps):
        raise BadValue(
            f"denoising from step {first} of {len(steps)} cannot stop before step {last}"
        )
    x = noise.initial[owner] if state is None else state
    for k, step in list(enumerate(steps))[first:last]:
        if visit is not None:
            visit(k, x)
        eps = predict(k, x, step.t)
        x0 = (x - step.from_eps * eps) / step.from_x
        if sampling.clip is not None:
            x0 = x0.clamp(-sampling.clip, sampling.clip)
        x = step.to_x0 * x0 + step.to_x * x + step.to_eps * eps
        if step.to_noise:
            if noise.steps is None:
                raise BadValue("this noise is for ddim; the ancestral sampler needs some a step")
            x = x + step.to_noise * noise.steps[k][owner]
    if visit is not None:
        visit(last, x)
    return x
