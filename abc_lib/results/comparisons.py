"""Exact, predicted and hybrid counterfactuals side by side (appendix C.2, figure 8).

A hybrid counterfactual lets the tangents carry it through the first j steps, where all
trajectories of a sample lie close together, and is denoised exactly from there on:
j = 0 is the exact counterfactual, j = T the differential prediction. The steps that
are left are the only ones that cost something for every source. In latents j = T is the
prediction of the latent, decoded as it is, while the differential prediction goes through
the decoder's derivative: the difference of the two is what the decoder's curvature does.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from abc_lib.ground.digests import digest
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Workspace, parquet_bytes
from abc_lib.ground.tasks import run_blocks
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import METRIC
from abc_lib.method.recipe import Recipe
from abc_lib.results.kind import BySample, fresh_rows, made, name_and_scale, sample_numbers
from abc_lib.training.budget import samples_side_by_side, trajectories_side_by_side

__all__ = [
    "KIND",
    "Comparison",
    "get",
    "hybrid_cost",
    "origin",
    "pixel_correlations",
    "publish",
    "read",
    "stored",
    "tried_switches",
]


@dataclass(frozen=True)
class Comparison:
    """Every counterfactual of S samples without each of K ``sources``, exactly and by other means.

    All (S, K): ``exact`` and ``predicted`` distances to the sample, and
    ``pixel_correlations``, Pearson's correlation over pixels of the exact change and the
    predicted one (figure 8, bottom), NaN where one of them is constant. For each number
    of tangent steps in ``switches`` (J,): ``hybrid`` (J, S, K), the hybrid counterfactual's
    distance to the sample, and ``errors`` (J, S, K), its distance to the exact one.
    Distances are Euclidean on images in [0, 1] scaled to 3x256x256.
    """

    name: str
    scale: str
    seed: int
    indices: np.ndarray
    sources: np.ndarray
    exact: np.ndarray
    predicted: np.ndarray
    pixel_correlations: np.ndarray
    switches: np.ndarray
    hybrid: np.ndarray
    errors: np.ndarray
    costs: np.ndarray
    """network evaluations for each of ``switches`` as a share of those of the exact landscape over
    all N sources, (J,)
    """
    artefact: Artefact

    def __len__(self) -> int:
        return len(self.indices)

    def only(self, rows: list[int]) -> "Comparison":
        """Those of some samples, by row."""
        return dataclasses.replace(
            self,
            indices=self.indices[rows],
            exact=self.exact[rows],
            predicted=self.predicted[rows],
            pixel_correlations=self.pixel_correlations[rows],
            hybrid=self.hybrid[:, rows],
            errors=self.errors[:, rows],
        )


def pixel_correlations(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """Pearson's correlation over the pixels of images (K, C, H, W) and (K, C, H, W): (K,) float64,
    NaN where one is constant.
    """
    a, b = (each.double().flatten(1) for each in (a, b))
    a, b = (each - each.mean(1, keepdim=True) for each in (a, b))
    # the mean of equal numbers may differ from them in the last digit, which is no variation
    constant = [each.abs().amax(1) <= 1e-12 for each in (a, b)]
    r = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return torch.where(constant[0] | constant[1], torch.nan, r.clamp(-1, 1)).numpy()


def hybrid_cost(ensemble: Ensemble, tangent_steps: int) -> float:
    """Network evaluations of a hybrid landscape as a share of the exact one's, a tangent counting
    as an evaluation.

    The tangents are carried once a sample, n members times (1 + n) directions a step
    (one direction fewer in the first, where the state does not depend on c yet); the
    other steps are paid for every source.
    """
    n, code, steps = ensemble.n, ensemble.codebook, ensemble.recipe.sampling.steps
    exact = code.num_sources * (n - code.weight) * steps
    tangents = n * (1 + (tangent_steps - 1) * (1 + n)) if tangent_steps else 0
    return (tangents + code.num_sources * (n - code.weight) * (steps - tangent_steps)) / exact


def _tangent_task(
    ensemble: Ensemble,
    noise: ExogenousNoise,
    switches: tuple[int, ...],
    workspace: Workspace,
    name: str,
) -> int:
    workspace.save(name, ensemble.tangents(noise, switches))
    return len(noise)


def _block_task(
    ensemble: Ensemble,
    noise: ExogenousNoise,
    moving: dict[str, torch.Tensor],
    pairs: tuple[np.ndarray, np.ndarray],
    switches: tuple[int, ...],
    workspace: Workspace,
    name: str,
) -> int:
    """Counterfactuals of ``noise[owner]`` without ``source``, for (owner, source) in ``pairs``."""
    c = ensemble.codebook.leave_one_out(pairs[1])
    owner = torch.from_numpy(pairs[0])
    factual = moving["factual"][owner]
    exact = ensemble.sample(noise, c, owner)
    change = torch.from_numpy(c - 1).to(factual.dtype)
    predicted = factual + torch.einsum("bi,bichw->bchw", change, moving["jacobians"][owner])
    correlations = pixel_correlations(exact - factual, predicted - factual)
    columns = {
        "exact": distance(exact, factual),
        "predicted": distance(predicted, factual),
        "correlation": torch.from_numpy(correlations),
    }
    for k in switches:
        image = ensemble.sample_hybrid(noise, c, owner, moving, k)
        columns[f"hybrid-{k}"] = distance(image, factual)
        columns[f"error-{k}"] = distance(image, exact)
    workspace.save(name, columns)
    return len(owner)


class _Comparisons(BySample[Comparison]):
    folder, title = "comparison", "Comparisons"

    def accepts(self, spec: dict, wanted: dict) -> bool:
        """Comparisons over all sources."""
        return spec["sources"] is None

    def build(self, model, spec, workspace, here):
        """Tangents of the samples first, then all counterfactuals in all ways, in blocks."""
        import pandas as pd

        recipe, indices = model.recipe, spec["indices"]
        switches = tuple(spec["switches"])
        sources = np.array(spec["sources"] or range(model.codebook.num_sources))
        noise = model.draw_noise(spec["seed"], indices)
        size = samples_side_by_side(model, len(indices), here)
        starts = {f"tangents-{size}-{start:06d}": start for start in range(0, len(indices), size)}
        tangents = {
            name: (model, noise[range(start, min(start + size, len(indices)))], switches)
            for name, start in starts.items()
        }
        what = f"Jacobians of {recipe.label}"
        run_blocks(_tangent_task, tangents, workspace, model.device, here, what)

        # Blocks do not cross the samples of one piece of tangents, so that a task carries one
        # piece at most; which samples those are depends on both sizes, and so does a block's name.
        width = trajectories_side_by_side(model, here)
        blocks = {}
        for piece, start in starts.items():
            total = min(size, len(indices) - start) * len(sources)
            for first in range(0, total, width):
                name = f"block-{size}-{width}-{start:06d}-{first:09d}"
                blocks[name] = piece, start, np.arange(first, min(first + width, total))

        def task(name: str) -> tuple:
            piece, start, flat = blocks[name]
            owner, source = np.divmod(flat, len(sources))
            mine, local = np.unique(owner, return_inverse=True)
            moving = {key: value[mine] for key, value in workspace.need(piece).items()}
            return model, noise[start + mine], moving, (local, sources[source]), switches

        tasks = {name: partial(task, name) for name in blocks}
        what = f"comparisons of {recipe.label}"
        pieces = run_blocks(_block_task, tasks, workspace, model.device, here, what)
        table = {key: torch.cat([piece[key] for piece in pieces]).numpy() for key in pieces[0]}
        frame = pd.DataFrame(
            {
                "sample": np.repeat(np.array(indices, dtype=np.int32), len(sources)),
                "source": np.tile(sources.astype(np.int32), len(indices)),
                # distances to seven digits are more than two processors agree on
                **{key: table[key].astype(np.float32) for key in sorted(table)},
            }
        )
        info = {
            "block": width,
            "model": digest(recipe.model_spec),
            "costs": [hybrid_cost(model, k) for k in switches],
        }
        return {"comparison.parquet": parquet_bytes(frame)}, info

    def read(self, artefact: Artefact) -> Comparison:
        """An artefact's comparison, with every byte checked."""
        spec = artefact.spec
        frame = artefact.table("comparison.parquet")
        rows = len(spec["indices"])
        shape = (len(spec["switches"]), rows, len(frame) // rows)

        def column(key: str) -> np.ndarray:
            return frame[key].to_numpy(dtype=float).reshape(rows, -1)

        def stack(what: str) -> np.ndarray:
            columns = [column(f"{what}-{k}") for k in spec["switches"]]
            return np.array(columns, dtype=float).reshape(shape)

        return Comparison(
            *name_and_scale(artefact),
            spec["seed"],
            np.array(spec["indices"]),
            frame["source"].to_numpy().reshape(rows, -1)[0],
            column("exact"),
            column("predicted"),
            column("correlation"),
            np.array(spec["switches"], dtype=int),
            stack("hybrid"),
            stack("error"),
            np.array(artefact.info["costs"], dtype=float),
            artefact,
        )

    def merge(self, artefacts: list[Artefact]) -> list[Comparison]:
        """Each sample once: where it was also compared with switches, that counts."""
        most_first = sorted(artefacts, key=lambda a: -len(a.spec["switches"]))
        return [self.read(artefact).only(rows) for artefact, rows in fresh_rows(most_first)]


KIND = _Comparisons()


def get(
    ensemble: Ensemble,
    indices: Iterable[int],
    sources: Iterable[int] | None = None,
    switches: Iterable[int] = (),
    seed: int = 0,
    here: Here | None = None,
) -> Comparison:
    """Some samples' counterfactuals without each of ``sources`` (default: all) in all three ways.

    ``switches`` are the numbers of tangent steps to try. What is at hand is read; the rest is
    computed, and a stopped run goes on where it was. Raises :class:`BadValue` for samples,
    sources or steps that cannot be.
    """
    book, steps = ensemble.codebook, ensemble.recipe.sampling.steps
    numbers = sample_numbers(indices)
    chosen = None if sources is None else book.checked(list(sources)).tolist()
    if chosen is not None and (not chosen or len(set(chosen)) != len(chosen)):
        raise BadValue("sources are asked for by number: at least one, all different")
    switches = sorted({int(k) for k in switches})
    if switches and not (0 <= switches[0] and switches[-1] <= steps):
        wrong = switches[0] if switches[0] < 0 else switches[-1]
        raise BadValue(f"tangents can be carried through 0 to {steps} steps, not {wrong}")
    asked = {"sources": chosen, "switches": switches, "metric": METRIC}
    return KIND.get(ensemble, KIND.spec(ensemble, seed, numbers, **asked), here or Here())


def stored(recipe: Recipe, here: Here | None = None) -> list[Comparison]:
    """Comparisons of an ensemble that are at hand, chosen as landscapes are.

    Only those over all sources, and each sample once.
    """
    return KIND.stored(recipe, here or Here())


def read(artefact: Artefact) -> Comparison:
    """An artefact's comparison, with every byte checked."""
    return KIND.read(artefact)


def tried_switches(steps: int) -> list[int]:
    """The tangent steps that published comparisons try: 1, 5, 10, ..., 50 of a sampler's 50."""
    return sorted({max(1, round(steps * share / 10)) for share in (0, *range(1, 11))})


def publish(
    ensemble: Ensemble, samples: int, hybrids: int, seed: int = 0, here: Here | None = None
) -> list[Artefact]:
    """Publishes comparisons of the first samples, of the very first ``hybrids`` with hybrids too.

    Those are kept apart: hybrids cost several times what a landscape costs.
    """
    here, hybrids = here or Here(), min(hybrids, samples)
    tried = tried_switches(ensemble.recipe.sampling.steps)
    parts = ((range(hybrids), tried), (range(hybrids, samples), ()))
    artefacts = [
        get(ensemble, indices, None, switches, seed, here).artefact
        for indices, switches in parts
        if len(indices)
    ]
    return KIND.publish(artefacts, here)


def origin(comparisons: list[Comparison]) -> str:
    """Where comparisons of exact and predicted counterfactuals come from, in a sentence."""
    parts = []
    for comparison in comparisons:
        samples = f"{len(comparison)} {'sample' if len(comparison) == 1 else 'samples'}"
        switched = ""
        if len(comparison.switches):
            switched = f", switched after {', '.join(map(str, comparison.switches))} steps"
        sources = f"{len(comparison.sources):,} counterfactuals each{switched}"
        how = made(comparison.artefact, seconds=True)
        parts.append(f"{comparison.name}, {samples} with {sources}, {how}")
    return f"{KIND.title}: {'; '.join(parts)}."
