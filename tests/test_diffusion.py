"""The denoising loop against diffusers' own schedulers, and exogenous noise as a value."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from abc_lib.ground.errors import BadValue, UnknownName
from abc_lib.method.diffusion import (
    ExogenousNoise,
    add_noise,
    alphas_cumprod,
    denoise,
    sampler_steps,
)
from abc_lib.method.recipe import Diffusion, Sampling

SHAPE = (2, 4, 4)


def predictor(k: int, x: torch.Tensor, t: int) -> torch.Tensor:
    """Some smooth noise that depends on everything."""
    return torch.sin(2 * x + t / 300) + 0.1 * x.mean(dim=1, keepdim=True)


def noise_for(sampling: Sampling, count: int = 3) -> ExogenousNoise:
    return ExogenousNoise.draw(0, range(count), SHAPE, sampling).to("cpu", torch.float64)


def by_diffusers(
    noise: ExogenousNoise, diffusion: Diffusion, sampling: Sampling, monkeypatch
) -> torch.Tensor:
    """The textbook loop over a diffusers scheduler, which is handed our noise."""
    cls = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}[sampling.sampler]
    scheduler = cls(
        num_train_timesteps=diffusion.train_steps,
        beta_start=diffusion.beta_start,
        beta_end=diffusion.beta_end,
        beta_schedule=diffusion.beta_schedule,
        clip_sample=sampling.clip is not None,
        clip_sample_range=sampling.clip or 1.0,
    )
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    if sampling.sampler == "ddpm":
        scheduler.one = scheduler.one.double()
        handed = iter(noise.steps)
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(handed)
        )
    scheduler.set_timesteps(sampling.steps)
    x = noise.initial
    for k, t in enumerate(scheduler.timesteps):
        x = scheduler.step(predictor(k, x, int(t)), t, x).prev_sample
    if sampling.sampler == "ddpm":
        assert next(handed, None) is None, "noise was left over"
    return x


@pytest.mark.parametrize("clip", [None, 1.0, 2.0])
@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_denoise_is_diffusers_own_loop(sampler, steps, clip, monkeypatch):
    sampling = Sampling(sampler, steps, clip)
    noise = noise_for(sampling)
    ours = denoise(predictor, noise, Diffusion(), sampling)
    theirs = by_diffusers(noise, Diffusion(), sampling, monkeypatch)
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_another_schedule_is_followed_too(monkeypatch):
    diffusion, sampling = Diffusion(200, 1e-3, 0.05, "scaled_linear"), Sampling(steps=13)
    noise = noise_for(sampling)
    theirs = by_diffusers(noise, diffusion, sampling, monkeypatch)
    assert torch.allclose(
        denoise(predictor, noise, diffusion, sampling), theirs, rtol=1e-9, atol=1e-9
    )


def test_alphas_are_the_running_product_of_ho_et_als_betas():
    alphas = alphas_cumprod(Diffusion())
    assert alphas.shape == (1000,) and alphas.dtype == torch.float32
    assert torch.allclose(alphas, torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0))


def test_add_noise_is_the_forward_process():
    x, eps, t = torch.randn(3, *SHAPE), torch.randn(3, *SHAPE), torch.tensor([0, 500, 999])
    theirs = DDPMScheduler(beta_start=1e-4, beta_end=0.02).add_noise(x, eps, t)
    assert torch.allclose(add_noise(x, eps, t, alphas_cumprod(Diffusion())), theirs, atol=1e-6)


def test_the_papers_fifty_steps_are_evenly_spaced():
    assert [step.t for step in sampler_steps(Diffusion(), Sampling())] == list(range(980, -1, -20))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("steps", [7, 50, 1000])
def test_the_last_step_answers_with_the_image_and_adds_no_noise(sampler, steps):
    last = sampler_steps(Diffusion(), Sampling(sampler, steps))[-1]
    assert (last.t, last.to_x0, last.to_x, last.to_eps, last.to_noise) == (0, 1, 0, 0, 0)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_perfect_predictor_of_one_image_finds_that_image(sampler):
    image = torch.linspace(-0.9, 0.9, 32, dtype=torch.float64).reshape(SHAPE)
    alphas = alphas_cumprod(Diffusion()).double()

    def perfect(k, x, t):
        return (x - alphas[t].sqrt() * image) / (1 - alphas[t]).sqrt()

    sampling = Sampling(sampler)
    assert torch.allclose(
        denoise(perfect, noise_for(sampling), Diffusion(), sampling),
        image.expand(3, *SHAPE),
        atol=1e-9,
    )


def test_the_ancestral_sampler_keeps_the_variance_of_white_noise():
    # If images are standard normal, so is x at every step, and the best prediction of noise is
    # sqrt(1 - a) x.
    alphas, sampling = alphas_cumprod(Diffusion()).double(), Sampling(steps=1000, clip=None)
    noise = ExogenousNoise.draw(0, range(20), (1, 8, 8), sampling).to("cpu", torch.float64)
    x = denoise(lambda k, x, t: (1 - alphas[t]).sqrt() * x, noise, Diffusion(), sampling)
    assert (
        abs(float(x.std()) - 1) < 0.08 and abs(float(x.mean())) < 0.1
    )  # 1,280 values: s.d. 0.02 and 0.03


def test_the_predictor_is_told_the_number_and_the_time_of_each_step():
    told = []
    denoise(
        lambda k, x, t: told.append((k, t)) or x,
        noise_for(Sampling(steps=4)),
        Diffusion(),
        Sampling(steps=4),
    )
    assert told == [(0, 750), (1, 500), (2, 250), (3, 0)]


def test_a_visitor_sees_every_state_once_and_changes_nothing():
    sampling, seen = Sampling(steps=4), []
    noise = noise_for(sampling)
    found = denoise(predictor, noise, Diffusion(), sampling, visit=lambda k, x: seen.append((k, x)))
    assert [k for k, _ in seen] == [0, 1, 2, 3, 4]
    assert torch.equal(seen[0][1], noise.initial) and torch.equal(seen[-1][1], found)
    assert torch.equal(found, denoise(predictor, noise, Diffusion(), sampling))


@pytest.mark.parametrize("first", [1, 3, 7])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_trajectories_go_on_from_a_state(sampler, first):
    sampling, owner, states = Sampling(sampler, 7), torch.tensor([2, 0, 2]), []
    noise = noise_for(sampling)
    whole = denoise(
        predictor, noise, Diffusion(), sampling, owner, visit=lambda k, x: states.append(x)
    )
    seen = []
    rest = denoise(
        predictor,
        noise,
        Diffusion(),
        sampling,
        owner,
        visit=lambda k, x: seen.append(k),
        first=first,
        state=states[first],
    )
    assert torch.equal(rest, whole) and seen == list(range(first, 8))
    early = denoise(
        predictor,
        noise,
        Diffusion(),
        sampling,
        owner,
        visit=lambda k, x: seen.append(k),
        last=first,
    )
    assert torch.equal(early, states[first]) and seen[-first - 1 :] == list(range(first + 1))
    other = denoise(predictor, noise, Diffusion(), sampling, owner, first=0, state=states[0])
    assert torch.equal(other, whole)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"first": 2}, "from step 2 of 4 without a state"),
        ({"first": 5, "state": 0}, "from step 5 of 4"),
        ({"first": -1, "state": 0}, "from step -1 of 4"),
        ({"last": 5}, "stop before step 5"),
        ({"first": 3, "state": 0, "last": 2}, "stop before step 2"),
    ],
)
def test_steps_that_are_not_there_cannot_be_gone_on_from(options, words):
    sampling = Sampling(steps=4)
    noise = noise_for(sampling)
    options = {key: noise.initial if key == "state" else value for key, value in options.items()}
    with pytest.raises(BadValue, match=words) as error:
        denoise(predictor, noise, Diffusion(), sampling, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_owners_share_a_samples_noise(sampler):
    sampling = Sampling(sampler, 7)
    noise = noise_for(sampling)
    one_each = denoise(predictor, noise, Diffusion(), sampling)
    shared = denoise(predictor, noise, Diffusion(), sampling, torch.tensor([2, 0, 2, 1]))
    assert torch.equal(shared, one_each[[2, 0, 2, 1]])


def test_noise_is_standard_normal_of_the_right_shape():
    sampling = Sampling(steps=50)
    noise = ExogenousNoise.draw(3, range(4), (3, 8, 8), sampling)
    assert (
        noise.initial.shape == (4, 3, 8, 8)
        and noise.steps.shape == (49, 4, 3, 8, 8)
        and len(noise) == 4
    )
    assert noise.initial.dtype == noise.steps.dtype == torch.float32
    assert abs(float(noise.steps.mean())) < 0.02 and abs(float(noise.steps.std()) - 1) < 0.02
    assert ExogenousNoise.draw(3, range(4), (3, 8, 8), Sampling("ddim")).steps is None


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_sample_seven_is_sample_seven_however_many_are_drawn(sampler):
    sampling = Sampling(sampler, 5)
    many = ExogenousNoise.draw(0, range(10), SHAPE, sampling)
    alone = ExogenousNoise.draw(0, [7], SHAPE, sampling)
    assert torch.equal(many.initial[7], alone.initial[0]) and alone.indices.tolist() == [7]
    if sampler == "ddpm":
        assert torch.equal(many.steps[:, 7], alone.steps[:, 0])


def test_seeds_indices_and_steps_have_noise_of_their_own():
    noise, other = (
        ExogenousNoise.draw(seed, range(3), SHAPE, Sampling(steps=5)) for seed in (0, 1)
    )
    pieces = [
        *noise.initial,
        *noise.steps.flatten(0, 1),
        *other.initial,
        *other.steps.flatten(0, 1),
    ]
    assert len({piece.numpy().tobytes() for piece in pieces}) == len(pieces) == 30


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    ExogenousNoise.draw(0, range(3), SHAPE, Sampling(steps=5))
    assert torch.equal(torch.rand(3), expected)


def test_samples_are_picked_by_position():
    noise = ExogenousNoise.draw(0, [4, 8, 6], SHAPE, Sampling(steps=5))
    for which, expected in (
        ([2, 0, 2], [6, 4, 6]),
        (1, [8]),
        (range(2), [4, 8]),
        (torch.tensor([-1]), [6]),
    ):
        picked = noise[which]
        assert picked.indices.tolist() == expected
        fresh = ExogenousNoise.draw(0, expected, SHAPE, Sampling(steps=5))
        assert torch.equal(picked.initial, fresh.initial) and torch.equal(picked.steps, fresh.steps)
    assert ExogenousNoise.draw(0, [4, 8], SHAPE, Sampling("ddim"))[[1]].steps is None


@pytest.mark.parametrize("mask", [[False, True, False], torch.tensor([False, True, False])])
def test_a_mask_is_not_taken_for_positions(mask):
    noise = ExogenousNoise.draw(0, [4, 8, 6], SHAPE, Sampling(steps=5))
    try:
        picked = noise[mask]
    except BadValue:
        return
    assert picked.indices.tolist() == [8]


def test_no_samples_is_an_error():
    with pytest.raises(BadValue, match="at least one index"):
        ExogenousNoise.draw(0, [], SHAPE, Sampling())


def test_an_unknown_sampler_is_named():
    with pytest.raises(UnknownName, match="unknown sampler 'ddmp'; did you mean 'ddpm'"):
        sampler_steps(Diffusion(), Sampling("ddmp"))


@pytest.mark.parametrize(
    "steps, message",
    [
        (1001, "1001 sampling steps are more than the 1000"),
        (0, "sampling steps is 0"),
        (-3, "sampling steps is -3"),
    ],
)
def test_step_numbers_that_cannot_be_are_refused(steps, message):
    with pytest.raises(BadValue, match=message):
        sampler_steps(Diffusion(), Sampling(steps=steps))
