"""Exact, predicted and hybrid counterfactuals side by side (appendix C.2, figure 8).

A hybrid counterfactual lets the tangents carry it through the first j steps, where all
trajectories of a sample lie close together, and is denoised exactly from there on:
j = 0 is the exact counterfactual, j = T the differential prediction. The steps that
are left are the only ones that cost something for every source. In latents j = T is the
prediction of the latent, decoded as it is, while the differential prediction goes through
the decoder's derivative: the difference of the two is what the decoder's curvature does.
"""

import dataclasses
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.store import Artefact, Store, Workspace, parquet_bytes, stopwatch
from abc_lib.ground.tasks import job_count, run_tasks
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import METRIC
from abc_lib.results.budget import block_size, samples_at_once

_KIND = "comparison"


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
    """network evaluations for each of ``switches`` as a share of those of the exact landscape over all N sources, (J,)"""
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
    """Pearson's correlation over the pixels of images (K, C, H, W) and (K, C, H, W): (K,) float64, NaN where one is constant."""
    a, b = (each.double().flatten(1) for each in (a, b))
    a, b = (each - each.mean(1, keepdim=True) for each in (a, b))
    # the mean of equal numbers may differ from them in the last digit, which is no variation
    constant = [each.abs().amax(1) <= 1e-12 for each in (a, b)]
    r = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return torch.where(constant[0] | constant[1], torch.nan, r.clamp(-1, 1)).numpy()


def hybrid_cost(ensemble: Ensemble, tangent_steps: int) -> float:
    """Network evaluations of a hybrid landscape as a share of the exact one's, a tangent counting as an evaluation.

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
    owner: np.ndarray,
    source: np.ndarray,
    switches: tuple[int, ...],
    workspace: Workspace,
    name: str,
) -> int:
    c = ensemble.codebook.leave_one_out(source)
    owner = torch.from_numpy(owner)
    factual = moving["factual"][owner]
    exact = ensemble.sample(noise, c, owner)
    change = torch.from_numpy(c - 1).to(factual.dtype)
    predicted = factual + torch.einsum("bi,bichw->bchw", change, moving["jacobians"][owner])
    columns = {
        "exact": distance(exact, factual),
        "predicted": distance(predicted, factual),
        "correlation": torch.from_numpy(pixel_correlations(exact - factual, predicted - factual)),
    }
    for k in switches:
        image = ensemble.sample_hybrid(noise, c, owner, moving, k)
        columns |= {f"hybrid-{k}": distance(image, factual), f"error-{k}": distance(image, exact)}
    workspace.save(name, columns)
    return len(owner)


def compare_counterfactuals(
    ensemble: Ensemble,
    indices: Iterable[int],
    sources: Iterable[int] | None = None,
    switches: Iterable[int] = (),
    seed: int = 0,
    store: Store | None = None,
    recompute: bool = False,
    memory: int | str = "2GiB",
    n_jobs: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Computes some samples' counterfactuals without each of ``sources`` (default: every one) in all three ways.

    ``switches`` are the numbers of tangent steps to try. What is published or in the
    cache is read (``recompute`` passes over what is published); a stopped run goes on
    where it was.
    """
    store = store or Store()
    book, steps = ensemble.codebook, ensemble.recipe.sampling.steps
    indices = [int(i) for i in indices]
    if not indices or len(set(indices)) != len(indices) or min(indices) < 0:
        raise BadValue("samples are asked for by number: at least one, all different, from 0 on")
    chosen = None if sources is None else [int(s) for s in book._checked(list(sources))]
    if chosen is not None and (not chosen or len(set(chosen)) != len(chosen)):
        raise BadValue("sources are asked for by number: at least one, all different")
    switches = tuple(sorted({int(k) for k in switches}))
    if switches and not (0 <= switches[0] and switches[-1] <= steps):
        raise BadValue(
            f"tangents can be carried through 0 to {steps} steps, not {switches[0] if switches[0] < 0 else switches[-1]}"
        )
    recipe, label = ensemble.recipe, ensemble.recipe.label
    spec = {
        "recipe": label,
        "ensemble": ensemble.identity,
        "sampling": spec_of(recipe.sampling),
        "seed": seed,
        "indices": indices,
        "sources": chosen,
        "switches": list(switches),
        "metric": METRIC,
    }
    if recompute:
        store = Store(store.cache, None)
    found = store.find(_KIND, label, spec)
    if found is not None:
        return read_comparison(found)
    return read_comparison(
        store.once(
            _KIND,
            label,
            spec,
            lambda workspace: _compute(
                ensemble, store, spec, workspace, parse_bytes(memory), n_jobs, progress
            ),
        )
    )


def _compute(ensemble, store, spec, workspace, memory, n_jobs, progress) -> Artefact:
    recipe, book, device, seconds = ensemble.recipe, ensemble.codebook, ensemble.device, stopwatch()
    indices, switches = spec["indices"], tuple(spec["switches"])
    sources = np.arange(book.num_sources) if spec["sources"] is None else np.array(spec["sources"])
    noise = ensemble.draw_noise(spec["seed"], indices)
    common = {"device": device, "n_jobs": n_jobs, "progress": progress}
    jobs = job_count(n_jobs, device)

    size = min(samples_at_once(ensemble, memory, jobs), -(-len(indices) // jobs))
    samples = [(start, f"tangents-{size}-{start:06d}") for start in range(0, len(indices), size)]
    todo = [each for each in samples if not workspace.has(each[1])]
    tasks = (
        (ensemble, noise[range(start, min(start + size, len(indices)))], switches, workspace, name)
        for start, name in todo
    )
    if todo:
        for _ in run_tasks(
            _tangent_task,
            tasks,
            len(todo),
            total=len(todo),
            description=f"Jacobians of {recipe.label}",
            unit="block",
            **common,
        ):
            pass

    # Blocks do not cross the samples of one piece of tangents, so that a task carries one piece at most;
    # which samples those are depends on both sizes, and so does a block's name.
    width = block_size(ensemble, memory, jobs)
    blocks = []
    for start, piece in samples:
        total = min(size, len(indices) - start) * len(sources)
        blocks += [
            (
                start,
                piece,
                first,
                min(first + width, total),
                f"block-{size}-{width}-{start:06d}-{first:09d}",
            )
            for first in range(0, total, width)
        ]
    todo = [block for block in blocks if not workspace.has(block[4])]

    def task(start, piece, first, last, name):
        owner, source = np.divmod(np.arange(first, last), len(sources))
        mine, local = np.unique(owner, return_inverse=True)
        moving = {key: value[mine] for key, value in workspace.load(piece).items()}
        return (
            ensemble,
            noise[start + mine],
            moving,
            local,
            sources[source],
            switches,
            workspace,
            name,
        )

    if todo:
        for _ in run_tasks(
            _block_task,
            (task(*block) for block in todo),
            len(todo),
            total=len(todo),
            description=f"comparisons of {recipe.label}",
            unit="block",
            **common,
        ):
            pass
    pieces = [workspace.load(name) for *_, name in blocks]
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
        "seconds": round(seconds(), 1),
        "block": width,
        "model": digest(recipe.model_spec),
        "costs": [hybrid_cost(ensemble, k) for k in switches],
    }
    return store.write(
        _KIND, recipe.label, spec, {"comparison.parquet": parquet_bytes(frame)}, info, device
    )


def read_comparison(artefact: Artefact) -> Comparison:
    """An artefact's comparison, with every byte checked."""
    spec = artefact.spec
    name, _, scale = spec["recipe"].rpartition("-")
    frame = pd.read_parquet(io.BytesIO(artefact.read("comparison.parquet")))
    rows = len(spec["indices"])
    column = lambda key: frame[key].to_numpy(dtype=float).reshape(rows, -1)  # noqa: E731
    shape = (len(spec["switches"]), rows, len(frame) // rows)
    stack = lambda kind: np.array(
        [column(f"{kind}-{k}") for k in spec["switches"]], dtype=float
    ).reshape(shape)  # noqa: E731
    return Comparison(
        name,
        scale,
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
