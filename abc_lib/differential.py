"""Differential ablation: a landscape predicted from one Jacobian (2.4), and the radius it screens for.

The Jacobian of a sample in the members' weights c is worked out by forward-mode
differentiation through the whole sampler. At each step a member is evaluated once on
the state; the n tangents of the state ride on that evaluation (see ``duals``).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import stats

from .codes import Codebook
from .diffusion import ExogenousNoise
from .ensemble import Ensemble
from .errors import BadValue, positive_int
from .landscape import block_size, parse_bytes, samples_at_once
from .metrics import euclidean, resize_matrix
from .recipes import digest, spec_of
from .store import Artefact, Store, Workspace, stopwatch
from .tasks import job_count, run_blocks, run_tasks

_KIND = "jacobian"


@dataclass(frozen=True)
class Jacobians:
    """The Jacobians of S samples in the weights of the n members.

    ``factual`` (S, C, H, W) are the samples, in [0, 1], under ``seed`` and ``indices`` (S,);
    ``jacobians`` (S, n, C, H, W) float32 says how each pixel changes with each member's
    weight, at c = (1, ..., 1): the transpose of section 2.4's m-by-n matrix, as images.
    """

    name: str
    scale: str
    seed: int
    indices: np.ndarray
    factual: torch.Tensor
    jacobians: torch.Tensor
    artefacts: list[Artefact] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def n(self) -> int:
        """The number of members."""
        return self.jacobians.shape[1]

    def only(self, indices: Iterable[int]) -> "Jacobians":
        """Those of some samples, by number, in that order."""
        indices = list(indices)
        position = {int(index): row for row, index in enumerate(self.indices)}
        missing = [int(i) for i in indices if int(i) not in position]
        if missing:
            raise BadValue(f"sample {missing[0]} of {self.name} has no Jacobian here; compute it with get_jacobians")
        rows = [position[int(i)] for i in indices]
        return Jacobians(self.name, self.scale, self.seed, self.indices[rows], self.factual[rows], self.jacobians[rows], self.artefacts)

    def predict(self, row: int, c: np.ndarray) -> torch.Tensor:
        """Equation 1 without its remainder for one sample: images (K, C, H, W) for weights ``c`` (K, n).

        One matrix product for all K. Values can lie a little outside [0, 1], as those of
        any linear prediction can.
        """
        change = torch.from_numpy(self._checked(c) - 1).to(self.jacobians.dtype)
        return self.factual[row] + (change @ self.jacobians[row].flatten(1)).unflatten(1, self.factual.shape[1:])

    def distances(self, c: np.ndarray) -> np.ndarray:
        """Predicted distance of each sample to its counterfactual under each of the weights ``c`` (K, n): (S, K) float64.

        Euclidean, as everywhere scaled to 3x256x256. With J the Jacobian and G the Gram
        matrix of the resize, it is the root of (c - u)' J'GJ (c - u): n x n numbers a
        sample are all that is needed, and no image is made.
        """
        change = self._checked(c) - 1
        inner = np.stack([_inner_products(each).numpy() for each in self.jacobians])
        if not np.isfinite(inner).all():
            raise BadValue(f"a Jacobian of {self.name} has values that are not finite; a distance from it means nothing")
        squared = np.einsum("ki,sik->sk", change, inner @ change.T, optimize=True)
        return np.sqrt(np.maximum(squared, 0))

    def landscape(self, codebook: Codebook) -> np.ndarray:
        """The predicted distances (S, N) of the counterfactuals without each source, alone."""
        return self.distances(codebook.leave_one_out())

    def _checked(self, c) -> np.ndarray:
        c = np.atleast_2d(np.asarray(c, dtype=np.float64))
        if c.ndim != 2 or c.shape[1] != self.n:
            raise BadValue(f"weights of shape {c.shape} do not fit {self.n} members; give one row a counterfactual")
        if not np.isfinite(c).all():
            raise BadValue("weights must be finite numbers")
        return c


def _inner_products(images: torch.Tensor) -> torch.Tensor:
    """The (n, n) inner products of images (n, C, H, W) scaled to 3x256x256, float64, without making the large images."""
    images = images.double()
    channels, height, width = images.shape[1:]
    gram_h, gram_w = (r.T @ r for r in (resize_matrix(height), resize_matrix(width)))
    return images.flatten(1) @ (gram_h @ images @ gram_w).flatten(1).T * (3 / channels)


def _task(ensemble: Ensemble, seed: int, indices: list[int], workspace: Workspace, name: str) -> int:
    factual, jacobians = ensemble.differentiate(ensemble.draw_noise(seed, indices))
    workspace.save(name, {"factual": factual.contiguous(), "jacobians": jacobians.contiguous()})
    return len(indices)


def _spec(ensemble: Ensemble, seed: int, indices: list[int]) -> dict:
    return {"recipe": ensemble.recipe.label, "ensemble": ensemble.identity, "sampling": spec_of(ensemble.recipe.sampling),
            "seed": seed, "indices": indices}


def compute_jacobians(
    ensemble: Ensemble,
    indices: Iterable[int],
    seed: int = 0,
    store: Store | None = None,
    memory: int | str = "2GiB",
    n_jobs: int | None = None,
    progress: bool = True,
) -> Artefact:
    """Computes the Jacobians of some samples and writes them to the cache; a stopped run goes on where it was.

    ``memory`` bounds what all jobs together hold.
    """
    store = store or Store()
    indices = [int(i) for i in indices]
    if not indices or len(set(indices)) != len(indices) or min(indices) < 0:
        raise BadValue("Jacobians are asked for by sample numbers: at least one, all different, from 0 on")
    spec, label, device = _spec(ensemble, seed, indices), ensemble.recipe.label, ensemble.device

    def make(workspace: Workspace) -> Artefact:
        seconds = stopwatch()
        size = samples_at_once(ensemble, parse_bytes(memory), job_count(n_jobs, device))
        # No larger than what keeps all jobs busy.
        size = min(size, -(-len(indices) // job_count(n_jobs, device)))
        tasks = {f"jacobians-{size}-{start:06d}": (ensemble, seed, indices[start : start + size])
                 for start in range(0, len(indices), size)}
        run_blocks(_task, tasks, workspace, device, f"Jacobians of {label}", n_jobs, progress)
        pieces = [workspace.load(name) for name in tasks]
        content = {key: torch.cat([piece[key] for piece in pieces]) for key in ("factual", "jacobians")}
        # An error of 2**-11 is nothing beside that of a prediction to first order, and half the bytes are kept.
        content["jacobians"] = content["jacobians"].half()
        info = {"seconds": round(seconds(), 1), "block": size, "model": digest(ensemble.recipe.model_spec), "members": ensemble.n}
        return store.write(_KIND, label, spec, {"jacobians.safetensors": content}, info, device)

    return store.once(_KIND, label, spec, make, recompute=True)


def read_jacobians(artefact: Artefact) -> Jacobians:
    """An artefact's Jacobians, with every byte checked."""
    name, _, scale = artefact.spec["recipe"].rpartition("-")
    found = artefact.tensors("jacobians.safetensors")
    spec = artefact.spec
    return Jacobians(name, scale, spec["seed"], np.array(spec["indices"]), found["factual"], found["jacobians"].float(), [artefact])


def merge_jacobians(artefacts: list[Artefact]) -> Jacobians | None:
    """The samples of several artefacts of one ensemble and seed, each once, by index; None if there are none."""
    parts, seen = [], set()
    for artefact in artefacts:
        fresh = [i for i in artefact.spec["indices"] if i not in seen]
        if fresh:
            seen.update(fresh)
            parts.append(read_jacobians(artefact).only(fresh))
    if not parts:
        return None
    return Jacobians(
        parts[0].name, parts[0].scale, parts[0].seed, np.concatenate([p.indices for p in parts]),
        torch.cat([p.factual for p in parts]), torch.cat([p.jacobians for p in parts]), [a for p in parts for a in p.artefacts],
    ).only(sorted(seen))


def find_jacobians(ensemble: Ensemble, seed: int = 0, store: Store | None = None, recompute: bool = False) -> Jacobians | None:
    """All Jacobians of this very ensemble under ``seed`` that are published or in the cache, or None.

    ``recompute`` passes over published ones.
    """
    store = store or Store()
    if recompute:
        store = Store(store.cache, None)
    like = _spec(ensemble, seed, [])
    return merge_jacobians([a for a in store.find_all(_KIND, ensemble.recipe.label)
                   if all(a.spec[key] == like[key] for key in ("ensemble", "sampling", "seed"))])


def get_jacobians(
    ensemble: Ensemble, indices: Iterable[int], seed: int = 0, store: Store | None = None, recompute: bool = False, **options
) -> Jacobians:
    """The Jacobians of the samples with these numbers: published or cached ones first, the missing ones computed.

    ``options`` go to :func:`compute_jacobians`.
    """
    store = store or Store()
    indices = [int(i) for i in indices]
    found = find_jacobians(ensemble, seed, store, recompute)
    have = set() if found is None else set(found.indices.tolist())
    missing = [i for i in dict.fromkeys(indices) if i not in have]
    artefacts = [] if found is None else list(found.artefacts)
    if missing or not indices:
        artefacts.append(compute_jacobians(ensemble, missing, seed, store, **options))
    return merge_jacobians(artefacts).only(indices)


def rank_correlations(predicted: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Spearman's correlation, over the N sources, of predicted and exact distances (figure 8, top): (S,) for (S, N) each.

    NaN for a sample whose exact or predicted distances are all equal: there is no order to agree with.
    """
    predicted, exact = _alike(predicted, exact)
    result = np.full(len(exact), np.nan)
    for row, (a, b) in enumerate(zip(predicted, exact)):
        if a.min() < a.max() and b.min() < b.max():
            result[row] = stats.spearmanr(a, b).statistic
    return result


def _alike(predicted, exact) -> tuple[np.ndarray, np.ndarray]:
    predicted, exact = np.atleast_2d(np.asarray(predicted, float)), np.atleast_2d(np.asarray(exact, float))
    if predicted.shape != exact.shape:
        raise BadValue(f"predicted distances {predicted.shape} and exact ones {exact.shape} are not of the same samples and sources")
    if exact.shape[1] < 2:
        raise BadValue("one source has no order to compare; it takes at least two")
    if not (np.isfinite(predicted).all() and np.isfinite(exact).all()):
        raise BadValue("distances must be finite; recompute the landscape or the Jacobian")
    return predicted, exact


def _most_promising(predicted: np.ndarray) -> np.ndarray:
    """The sources of each sample by falling predicted distance, equal ones by number: (S, N)."""
    return np.argsort(-predicted, axis=1, kind="stable")


def screening_bounds(predicted: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The lower bound on the radius that the k most promising counterfactuals give, for k = 1 .. N: (S, N).

    From landscapes known in full; column N - 1 is the radius.
    """
    predicted, exact = _alike(predicted, exact)
    return np.maximum.accumulate(np.take_along_axis(exact, _most_promising(predicted), axis=1), axis=1)


def screening_sizes(predicted: np.ndarray, exact: np.ndarray, share: float) -> np.ndarray:
    """For each sample the least k for which the screened radius is at least ``share`` of the radius: (S,) int."""
    if not 0 < share <= 1:
        raise BadValue(f"a share of the radius is above 0 and at most 1, not {share}")
    bounds = screening_bounds(predicted, exact)
    return (bounds >= share * bounds[:, -1:]).argmax(axis=1) + 1


@dataclass(frozen=True)
class Screened:
    """Lower bounds on the radii of S samples from their k most promising counterfactuals.

    ``sources`` (S, k) by falling predicted distance, ``distances`` (S, k) exact.
    """

    indices: np.ndarray
    sources: np.ndarray
    distances: np.ndarray

    @property
    def radii(self) -> np.ndarray:
        """The largest exact distance of each sample, (S,): at most its counterfactual radius."""
        return self.distances.max(axis=1)


def _screen_task(ensemble: Ensemble, noise: ExogenousNoise, factual: torch.Tensor, owner: np.ndarray, source: np.ndarray, start: int):
    images = ensemble.sample(noise, ensemble.codebook.leave_one_out(source), torch.from_numpy(owner))
    return start, euclidean(images, factual[owner]).numpy()


def screened_radius(
    ensemble: Ensemble, jacobians: Jacobians, k: int, memory: int | str = "2GiB", n_jobs: int | None = None, progress: bool = True
) -> Screened:
    """Ranks the counterfactuals by the differential prediction and computes only the top ``k`` of each sample exactly.

    The largest is a lower bound on the counterfactual radius, and is the radius for k = N.
    It costs k instead of N counterfactuals, and the Jacobian.
    """
    N, device = ensemble.codebook.num_sources, ensemble.device
    positive_int("k", k)
    if k > N:
        raise BadValue(f"k is {k}, but {ensemble.recipe.name} has only {N} sources; choose k of at most {N}")
    sources = _most_promising(jacobians.landscape(ensemble.codebook))[:, :k]
    noise = ensemble.draw_noise(jacobians.seed, jacobians.indices)
    size = block_size(ensemble, parse_bytes(memory), job_count(n_jobs, device))
    starts = list(range(0, sources.size, size))

    def task(start: int):
        flat = np.arange(start, min(start + size, sources.size))
        mine, owner = np.unique(flat // k, return_inverse=True)
        return ensemble, noise[mine], jacobians.factual[mine], owner, sources.reshape(-1)[flat], start

    distances = np.empty(sources.size)
    for start, part in run_tasks(_screen_task, (task(s) for s in starts), len(starts), device=device, total=len(starts),
                                 description=f"screening {ensemble.recipe.label}", unit="block", n_jobs=n_jobs, progress=progress):
        distances[start : start + len(part)] = part
    return Screened(jacobians.indices, sources, distances.reshape(sources.shape))
