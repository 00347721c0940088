"""Certificates checked: what they say made again from the members, the code and the seed."""

import numbers
import random
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from abc_lib.exchange.certificates.content import check_content, codebook_of, placebo_words
from abc_lib.exchange.certificates.file import Certificate
from abc_lib.exchange.certificates.hashes import member_sha256, noise_hashes, refused
from abc_lib.exchange.certificates.specs import plain, recipe_of
from abc_lib.ground.errors import BadValue, NotAvailable
from abc_lib.ground.here import Here
from abc_lib.ground.seeds import derive
from abc_lib.ground.tasks import job_count, run_tasks
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.training.budget import block_size
from abc_lib.training.ensembles import find_ensemble

TOLERANCE = 0.01
"""how far a distance may be from the certificate's; see :func:`verify_certificate`"""
IMAGE_TOLERANCE = 1e-3
"""how far a pixel of the sample may be from the certificate's, of images in [0, 1]"""


@dataclass(frozen=True)
class Report:
    """What was confirmed of a certificate, and how closely.

    ``sources`` are those whose counterfactuals were made again, of ``num_sources``, and
    ``placebos`` of ``num_placebos`` the codewords that no source owns; ``placebo_words`` says
    where the radius lies among these. ``deviation`` is the largest difference of a distance, at
    source ``worst`` or along a placebo,
    ``image_deviation`` that of a pixel of the sample. ``same_noise`` says whether this
    CPU draws the exogenous noise to the same bit, or only from the same stream of random
    numbers. ``seed`` is what the sources were drawn with, None if they were not drawn.
    """

    name: str
    index: int
    radius: float
    tau: float | None
    statement: str | None
    sources: tuple[int, ...]
    num_sources: int
    members: int
    deviation: float
    worst: int
    image_deviation: float
    tolerance: float
    image_tolerance: float
    same_noise: bool
    seed: int | None
    placebos: tuple[int, ...] = ()
    num_placebos: int = 0
    placebo_words: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every source was looked at, so that radius and statement are confirmed too."""
        return len(self.sources) == self.num_sources

    @property
    def lines(self) -> list[str]:
        """For a reader, a line each."""
        N, count = self.num_sources, len(self.sources)
        drawn = "" if self.seed is None else f" (drawn with seed {self.seed})"
        looked = "all" if self.complete else f"{count} of"
        noise = "to the bit"
        if not self.same_noise:
            noise = "by its stream of random numbers; this CPU rounds normal numbers otherwise"
        follows = f"radius {self.radius:.6g} over {N} sources"
        if self.statement:
            follows += f". {self.statement}"
        elif self.placebo_words:
            follows += f". {self.placebo_words}"
        stated = f"stated, and not contradicted by the {count}"
        placebos = []
        if self.num_placebos:
            made = f"{len(self.placebos)} of {self.num_placebos}"
            placebos = [f"confirmed: {made} distances along codewords that no source owns"]
        return [
            f"sample {self.index} of {self.name}",
            f"confirmed: recipe, code and {self.members} members bit for bit, exogenous noise "
            f"{noise}",
            f"confirmed: the sample; largest deviation of a pixel {self.image_deviation:.1e}, "
            f"tolerance {self.image_tolerance:g}",
            f"confirmed: {looked} {N} distances{drawn}; largest deviation {self.deviation:.1e} at "
            f"source {self.worst}, tolerance {self.tolerance:g}",
            *placebos,
            f"{'confirmed' if self.complete else stated}: {follows}",
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def _whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _chosen(sources: object, N: int, seed: int | None) -> tuple[list[int], int | None]:
    """The sources to look at, and the seed if they were drawn."""
    if isinstance(sources, str) and sources == "all":
        return list(range(N)), None
    if _whole(sources):
        if not 1 <= sources <= N:
            raise BadValue(f"{sources} sources cannot be drawn from {N}; choose 1 to {N}")
        # Whoever forges a certificate must not know where it will be looked at.
        seed = secrets.randbelow(2**31) if seed is None else int(seed)
        drawn = random.Random(derive("certificate", seed)).sample(range(N), int(sources))
        return sorted(drawn), seed
    picked = list(sources) if isinstance(sources, Iterable) else []
    if not picked or not all(_whole(source) and 0 <= source < N for source in picked):
        raise BadValue(f"sources are 'all', a number of them, or a list of numbers in 0..{N - 1}")
    return sorted({int(source) for source in picked}), None


def _find(content: dict, here: Here) -> Ensemble:
    ensemble = find_ensemble(recipe_of(content), here)
    if ensemble is None:
        raise NotAvailable(
            f"the members of {content['ensemble']['artefact']} are not on this machine: put that "
            "folder into data/published/ensemble, or give the ensemble"
        )
    return ensemble.to(here.device)


def _first_difference(stated: object, actual: object, field: str) -> str | None:
    """The name of the first field where two JSON values differ."""
    if isinstance(stated, dict) and isinstance(actual, dict):
        inner = (
            _first_difference(stated.get(key), actual.get(key), f"{field}.{key}")
            for key in sorted({*stated, *actual})
        )
        return next(filter(None, inner), None)
    return None if stated == actual else field


def _check_ensemble(content: dict, ensemble: Ensemble) -> None:
    """That recipe, code and members at hand are those of the certificate."""
    recipe, stated = ensemble.recipe, content["ensemble"]
    where = _first_difference(
        content["recipe"]["spec"], plain(recipe.model_spec), "recipe.spec"
    ) or _first_difference(content["sampling"], asdict(recipe.sampling), "sampling")
    if where:
        raise refused(where, "is not that of the ensemble at hand")
    mine, theirs = ensemble.codebook.words, codebook_of(content).words
    differing = np.flatnonzero((mine != theirs).any(axis=1)) if mine.shape == theirs.shape else [0]
    if len(differing):
        field = f"ensemble.codebook[{differing[0]}]"
        raise refused(field, "is not the codeword of the ensemble at hand")
    for i, member in enumerate(ensemble.members):
        if member_sha256(member) != stated["members"][i]:
            raise refused(f"ensemble.members[{i}]", "is not the hash of the member at hand")
    if ensemble.identity != stated["identity"]:
        why = f"is not that of the ensemble at hand, {ensemble.identity}"
        raise refused("ensemble.identity", why)


def _check_noise(content: dict, noise: ExogenousNoise) -> bool:
    stated, drawn = content["noise"], noise_hashes(noise, content["noise"]["seed"])
    if stated["stream_sha256"] != drawn["stream_sha256"]:
        raise refused("noise.stream_sha256", "is not that of this seed and index")
    same = stated["rounding"] == drawn["rounding"]
    if same and stated["sha256"] != drawn["sha256"]:
        raise refused("noise.sha256", "is not that of the exogenous noise of this seed and index")
    return same


def _distances_task(
    ensemble: Ensemble, noise: ExogenousNoise, factual: torch.Tensor, start: int, c: np.ndarray
) -> tuple[int, np.ndarray]:
    made = ensemble.sample(noise, c, torch.zeros(len(c), dtype=torch.int64))
    return start, distance(made, factual).numpy()


def _distances(
    ensemble: Ensemble, noise: ExogenousNoise, factual: torch.Tensor, c: np.ndarray, here: Here
) -> np.ndarray:
    """How far the counterfactual under each row of weights (K, n) lies, sampled here and now."""
    jobs = job_count(here.jobs, ensemble.device)
    # A worker takes seconds to start, longer than a few counterfactuals.
    size = min(block_size(ensemble, here.memory, jobs), max(64, -(-len(c) // jobs)))
    starts = range(0, len(c), size)
    made = {}
    for start, distances in run_tasks(
        _distances_task,
        ((ensemble, noise, factual, start, c[start : start + size]) for start in starts),
        len(starts),
        ensemble.device,
        here,
        total=len(starts),
        description=f"checking {ensemble.recipe.label}",
        unit="block",
    ):
        made[start] = distances
    return np.concatenate([made[start] for start in starts]).astype(float)


def _chosen_placebos(P: int, sources: object, seed: int | None) -> list[int]:
    """The placebos to look at: all where all sources are, as many as are drawn, or none."""
    if not _whole(sources):
        return list(range(P)) if isinstance(sources, str) else []
    drawn = random.Random(derive("certificate placebos", seed)).sample(range(P), min(P, sources))
    return sorted(drawn)


def verify_certificate(
    certificate: Certificate,
    sources: str | int | Iterable[int] = "all",
    ensemble: Ensemble | None = None,
    tolerance: float = TOLERANCE,
    seed: int | None = None,
    image_tolerance: float = IMAGE_TOLERANCE,
    here: Here | None = None,
) -> Report:
    """Makes again what a certificate says, and reports what was confirmed.

    The file is held against itself; recipe, code and members against those at hand
    (``ensemble``, by default the published or cached one of the certificate's recipe),
    bit for bit; the noise is drawn again; the sample and its counterfactuals without
    ``sources`` are sampled again and measured. ``sources`` is "all", a list, or how many
    to draw with ``seed``, by default one that nobody can foresee: if one of N distances
    is wrong, k draws find it with probability k / N. Only "all" confirms the radius and
    the statement. As many placebos as sources are looked at, with a list none.

    Raises :class:`CertificateRefused` that names the first field that does not fit,
    :class:`NotAvailable` where the members are not at hand.

    Images and distances may deviate, since processors round differently. Measured
    against published landscapes (four samples of digits_64 and two of mnist_1024, 24
    counterfactuals of each): other batch sizes, float64, no oneDNN, and vector
    instructions switched off moved pixels by up to 1.3e-6 and distances by up to 1.2e-4.
    ``tolerance`` is 0.01, eighty times that and about one grey level in one pixel
    at 3x256x256; ``image_tolerance`` is a quarter of a grey level. GPUs were not
    measured. So what is confirmed of a radius below tau is that it is below tau +
    ``tolerance``.
    """
    here = here or Here()
    for value in (tolerance, image_tolerance):
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not number or not 0 <= value < float("inf"):
            raise BadValue(f"a tolerance is a number from 0 on, not {value!r}")
    content = certificate.content
    # Also a certificate whose content was changed after it was made.
    check_content(content)
    stated = certificate.distances
    picked, seed = _chosen(sources, len(stated), seed)
    if ensemble is None:
        ensemble = _find(content, here)
    _check_ensemble(content, ensemble)
    shape, size = content["factual"]["shape"], list(ensemble.space.image_shape)
    if shape != size:
        raise refused("factual.shape", f"is {shape}, but samples of this ensemble are {size}")
    index = content["noise"]["index"]
    noise = ensemble.draw_noise(content["noise"]["seed"], [index])
    same_noise = _check_noise(content, noise)
    factual = ensemble.sample(noise)
    image_deviation = float((factual[0] - certificate.factual).abs().max())
    if not image_deviation <= image_tolerance:
        raise refused(
            "factual.base64",
            f"is not the sample of this noise: a pixel is {image_deviation:.3g} off, the tolerance "
            f"is {image_tolerance:g}",
        )
    chance = certificate.placebos
    P = 0 if chance is None else len(chance)
    free = _chosen_placebos(P, sources, seed)
    book = ensemble.codebook
    words = [book.words[picked]] + ([book.unowned(P)[free]] if free else [])
    c = (1 - np.concatenate(words)) * (book.n / (book.n - book.weight))
    both = _distances(ensemble, noise, factual, c, here)
    made, along = both[: len(picked)], both[len(picked) :]
    deviations = np.abs(made - stated[picked])
    row = int(deviations.argmax())
    worst, deviation = picked[row], float(deviations[row])
    if not deviation <= tolerance:
        raise refused(
            f"landscape.distances[{worst}]",
            f"is {stated[worst]:.6g}, but the counterfactual without source {worst} "
            f"lies {made[row]:.6g} away; the tolerance is {tolerance:g}",
        )
    for which, placebo in zip(free, along, strict=True):
        if not abs(placebo - chance[which]) <= tolerance:
            raise refused(
                f"placebos[{which}]",
                f"is {chance[which]:.6g}, but the sample moves by {placebo:.6g} along that "
                f"codeword, which no source owns; the tolerance is {tolerance:g}",
            )
    if free:
        deviation = max(deviation, float(np.abs(along - chance[free]).max()))
    return Report(
        name=ensemble.recipe.label,
        index=index,
        radius=certificate.radius,
        tau=certificate.tau,
        statement=certificate.statement,
        sources=tuple(picked),
        num_sources=len(stated),
        members=ensemble.n,
        deviation=deviation,
        worst=worst,
        image_deviation=image_deviation,
        tolerance=float(tolerance),
        image_tolerance=float(image_tolerance),
        same_noise=same_noise,
        seed=seed,
        placebos=tuple(free),
        num_placebos=P,
        placebo_words=placebo_words(certificate.radius, chance.tolist()) if P else None,
    )
