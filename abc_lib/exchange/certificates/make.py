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


def make_certificate(
    ensemble: Ensemble, landscapes: Landscapes, index: int, tau: float | None = None
) -> Certificate:
    """The certificate of sample number ``index``, with all N distances.

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
        "radius": radius,
        "tau": tau,
        "statement": statement_of(radius, tau, book.num_sources),
    }
    return Certificate(sealed(content))


def _row(ensemble: Ensemble, landscapes: Landscapes, index: int) -> int:
    """Where the sample is in the landscapes, if they are exact ones of this ensemble."""
    if landscapes.tangent_steps:
        raise BadValue(
            "a hybrid landscape certifies nothing; compute an exact one (tangent_steps=0)"
        )
    mine = {
        "ensemble": ensemble.identity,
        "sampling": spec_of(ensemble.recipe.sampling),
        "seed": landscapes.seed,
        "metric": METRIC,
    }
    if not landscapes.artefacts or any(
        artefact.spec[key] != value
        for artefact in landscapes.artefacts
        for key, value in mine.items()
    ):
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
