"""Certificates from landscapes."""

import dataclasses

import numpy as np

from abc_lib.exchange.certificates.content import FORMAT, VERSION, sealed, statement_of
from abc_lib.exchange.certificates.file import Certificate
from abc_lib.exchange.certificates.hashes import encode_image, member_sha256, noise_hashes
from abc_lib.exchange.certificates.specs import plain
from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.store import Store
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import METRIC, Landscapes
from abc_lib.results.placebos.landscapes import PlaceboLandscapes, of_sample


def make_certificate(
    ensemble: Ensemble,
    landscapes: Landscapes,
    index: int,
    tau: float | None = None,
    placebos: PlaceboLandscapes | None = None,
) -> Certificate:
    """The certificate of sample number ``index``, with all N distances, and with those along
    codewords that no source owns where ``placebos`` has them.

    With ``tau`` it states that the sample is nearly unattributable, its radius being
    below tau (3.5); with radius 0, that it is unattributable. Nothing is sampled here: the
    distances are the landscape's. Raises :class:`BadValue` where that is not an exact
    one of this ensemble, does not have the sample, or the radius is not below tau.
    """
    recipe, book = ensemble.recipe, ensemble.codebook
    row = _row(ensemble, landscapes, index)
    distances = [float(distance) for distance in landscapes.distances[row]]
    radius, clip = max(distances), recipe.sampling.clip
    if tau is not None:
        tau = float(tau)
        if not radius < tau <= 1e6:
            raise BadValue(
                f"sample {index} cannot be certified for tau = {tau:g}: its radius {radius:.6g} is "
                "not below it; choose a larger tau (up to 1e6) or none"
            )
    chance = _placebos(ensemble, placebos, landscapes.seed, index)
    noise = ensemble.draw_noise(landscapes.seed, [index])
    spec = plain(recipe.model_spec)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "recipe": {
            "name": recipe.name,
            "scale": recipe.scale,
            "digest": digest(spec),
            "spec": spec,
        },
        "ensemble": {
            "artefact": Store.folder_name(recipe.label, recipe.model_spec),
            "identity": ensemble.identity,
            "members": [member_sha256(member) for member in ensemble.members],
            "codebook": ["".join(map(str, word)) for word in book.words.tolist()],
        },
        "sampling": dataclasses.asdict(recipe.sampling)
        | {"clip": None if clip is None else float(clip)},
        "noise": noise_hashes(noise, landscapes.seed),
        "factual": encode_image(landscapes.factual[row]),
        "landscape": {"metric": METRIC, "distances": distances},
        "placebos": chance,
        "radius": radius,
        "tau": tau,
        "statement": statement_of(radius, tau, book.num_sources, chance),
    }
    return Certificate(sealed(content))


def _of(ensemble: Ensemble, value: Landscapes | PlaceboLandscapes) -> bool:
    """Whether all of it was computed with these members, as its artefacts say."""
    mine = {
        "ensemble": ensemble.identity,
        "sampling": spec_of(ensemble.recipe.sampling),
        "seed": value.seed,
        "metric": METRIC,
    }
    return bool(value.artefacts) and all(
        artefact.spec[key] == wanted for artefact in value.artefacts for key, wanted in mine.items()
    )


def _placebos(
    ensemble: Ensemble, placebos: PlaceboLandscapes | None, seed: int, index: int
) -> list[float] | None:
    """A sample's distances along free codewords, if there are any of this ensemble."""
    distances = of_sample(placebos, seed, index)
    if distances is None:
        return None
    if not _of(ensemble, placebos):
        raise BadValue(
            f"the placebos of {placebos.name} are not known to be those of this ensemble; compute "
            "them with placebos.get"
        )
    return distances.tolist()


def _row(ensemble: Ensemble, landscapes: Landscapes, index: int) -> int:
    """Where the sample is in the landscapes, if they are exact ones of this ensemble."""
    if landscapes.tangent_steps:
        raise BadValue(
            "a hybrid landscape certifies nothing; compute an exact one (tangent_steps=0)"
        )
    if not _of(ensemble, landscapes):
        raise BadValue(
            f"the landscapes of {landscapes.name} are not known to be those of this ensemble; "
            "compute them with landscapes.compute"
        )
    rows = np.flatnonzero(landscapes.indices == index)
    if len(rows) != 1:
        raise BadValue(
            f"sample {index} has no landscape here; compute it with landscapes.compute(ensemble, "
            f"[{index}])"
        )
    return int(rows[0])
