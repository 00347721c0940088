"""Several data sources removed at once, which the paper stops short of.

Members that saw any of k sources go, so a code of weight w keeps at least n - k w of n members, and
every set of k sources can be removed where k w < n: the code is k-cover-free there, no k codewords
cover all positions. The paper's codes of weight n / 2 promise no more than k = 1; larger sets can be
removed as far as their codewords happen to overlap. A light code, such as weight 2 of 20, promises k = 9.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue, NoSurvivors, positive_int
from abc_lib.ground.seeds import generator
from abc_lib.ground.store import Artefact, Store, Workspace, stopwatch
from abc_lib.ground.tasks import Counter, job_count, run_tasks
from abc_lib.images.latents import bind
from abc_lib.images.registry import get_recipe
from abc_lib.method.code import Codebook
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import METRIC
from abc_lib.method.recipe import Recipe
from abc_lib.results.budget import block_size

_KIND = "removal"
_TRIES = 200


@dataclass(frozen=True)
class Removals:
    """How far samples move when sets of sources are removed: ``distances`` (S, M) float64, Euclidean, a column for each of ``sets``.

    ``survivors`` (M,) counts the members left without each set; ``factual`` (S, C, H, W) are the samples.
    """

    name: str
    scale: str
    seed: int
    indices: np.ndarray
    sets: list[list[int]]
    survivors: np.ndarray
    distances: np.ndarray
    factual: torch.Tensor
    artefact: Artefact

    @property
    def sizes(self) -> np.ndarray:
        """How many sources each set has, (M,)."""
        return np.array([len(each) for each in self.sets])

    def by_size(self) -> pd.DataFrame:
        """A row for each k: sets, mean survivors, and over samples the mean of the mean and of the farthest distance with its standard error.

        Columns k, sets, survivors, mean, mean_error, radius, radius_error.
        """
        rows = []
        for k in sorted(set(self.sizes.tolist())):
            mine = self.sizes == k
            row = {"k": k, "sets": int(mine.sum()), "survivors": self.survivors[mine].mean()}
            for name, each in (
                ("mean", self.distances[:, mine].mean(axis=1)),
                ("radius", self.distances[:, mine].max(axis=1)),
            ):
                row |= {
                    name: each.mean(),
                    f"{name}_error": each.std(ddof=1) / np.sqrt(len(each))
                    if len(each) > 1
                    else np.nan,
                }
            rows.append(row)
        return pd.DataFrame(rows)


def promised_k(n: int, weight: int) -> int:
    """The largest k for which every set of k sources leaves a member, whatever the codewords: the largest k with k * weight < n."""
    return (positive_int("n", n) - 1) // positive_int("weight", weight)


def survivor_table(
    book: Codebook, sizes: Iterable[int], sets: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """What random sets of k sources leave of a code's members, a row for each k: columns k, removable (share with a survivor), least, mean, most.

    ``sets`` sets are drawn for each k, all k-sets that have no survivor counting as 0 members.
    """
    rows = []
    for k in sizes:
        if not 1 <= k <= book.num_sources:
            raise BadValue(
                f"sets of {k} of {book.num_sources} sources cannot be removed; choose 1 to {book.num_sources}"
            )
        rng = generator("survivors", book.n, book.weight, book.num_sources, k, seed)
        alive = np.array(
            [
                (
                    ~book.words[torch.randperm(book.num_sources, generator=rng)[:k].numpy()].any(
                        axis=0
                    )
                ).sum()
                for _ in range(sets)
            ]
        )
        rows.append(
            {
                "k": k,
                "removable": (alive > 0).mean(),
                "least": int(alive.min()),
                "mean": alive.mean(),
                "most": int(alive.max()),
            }
        )
    return pd.DataFrame(rows)


def draw_sets(book: Codebook, k: int, count: int, seed: int = 0) -> list[list[int]]:
    """``count`` different random sets of ``k`` sources that leave at least one member, each ascending.

    Uniform among such sets. Fewer come back where there are not that many; raises
    :class:`NoSurvivors` where none is found.
    """
    positive_int("k", k)
    positive_int("count", count)
    if k > book.num_sources:
        raise BadValue(
            f"sets of {k} of {book.num_sources} sources cannot be removed; choose 1 to {book.num_sources}"
        )
    rng, found = generator("sets of sources", book.n, book.weight, book.num_sources, k, seed), {}
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        each = tuple(sorted(torch.randperm(book.num_sources, generator=rng)[:k].tolist()))
        if not book.words[list(each)].any(axis=0).all():
            found[each] = None
    if not found:
        raise NoSurvivors(
            f"none of {_TRIES * count:,} random sets of {k} sources leaves one of {book.n} members of weight {book.weight}; "
            f"this code promises sets of {promised_k(book.n, book.weight)}; remove fewer at once, or train a code of smaller weight"
        )
    return [list(each) for each in found]


def _block_task(
    ensemble: Ensemble,
    noise: ExogenousNoise,
    factual: torch.Tensor,
    owner: np.ndarray,
    c: np.ndarray,
    workspace: Workspace,
    name: str,
) -> int:
    images = ensemble.sample(noise, c, torch.from_numpy(owner))
    workspace.save(name, {"distances": distance(images, factual[owner])})
    return len(owner)


def compute_removals(
    ensemble: Ensemble,
    indices: Iterable[int],
    sets: Sequence[Sequence[int]],
    seed: int = 0,
    store: Store | None = None,
    memory: int | str = "2GiB",
    n_jobs: int | None = None,
    progress: bool = True,
) -> Removals:
    """Samples without each of ``sets`` of sources, and how far each lies from the sample with all; from the store if known.

    Distances are Euclidean as in :func:`compute_landscapes`. A stopped run goes on where it was. Raises
    :class:`NoSurvivors` for a set that leaves no member, before anything is computed, and
    :class:`BadValue` for samples that are repeated, negative or none, and for no sets.
    """
    recipe, store, indices = ensemble.recipe, store or Store(), [int(i) for i in indices]
    sets = [sorted(int(source) for source in each) for each in sets]
    if not indices or len(set(indices)) != len(indices) or min(indices) < 0:
        raise BadValue("sample indices must be different whole numbers from 0 on, at least one")
    if not sets or not all(sets):
        raise BadValue("no sources were named to be removed; give sets of at least one")
    c = np.stack([ensemble.codebook.ablation(each) for each in sets])
    spec = {
        "recipe": recipe.label,
        "ensemble": ensemble.identity,
        "sampling": spec_of(recipe.sampling),
        "seed": seed,
        "indices": indices,
        "metric": METRIC,
        "sets": digest(sets),
    }
    return read_removals(
        store.once(
            _KIND,
            recipe.label,
            spec,
            lambda workspace: _compute(
                ensemble,
                indices,
                sets,
                c,
                spec,
                store,
                workspace,
                parse_bytes(memory),
                n_jobs,
                progress,
            ),
        )
    )


def _compute(
    ensemble, indices, sets, c, spec, store, workspace, memory, n_jobs, progress
) -> Artefact:
    seconds, M, recipe = stopwatch(), len(sets), ensemble.recipe
    size = block_size(ensemble, memory, job_count(n_jobs, ensemble.device))
    noise = ensemble.draw_noise(spec["seed"], indices)
    factual = torch.cat(
        [
            ensemble.sample(noise[range(k, min(k + size, len(indices)))])
            for k in range(0, len(indices), size)
        ]
    )
    total = len(indices) * M
    # Sets of one size side by side: within a block every member is evaluated on about as many trajectories.
    pairs = np.arange(total)
    starts = {
        f"block-{size}-{start:09d}": pairs[start : start + size] for start in range(0, total, size)
    }
    todo = [name for name in starts if not workspace.has(name)]

    def task(name: str) -> tuple:
        mine, local = np.unique(starts[name] % len(indices), return_inverse=True)
        return (
            ensemble,
            noise[mine],
            factual[mine],
            local,
            c[starts[name] // len(indices)],
            workspace,
            name,
        )

    counter = Counter(total - sum(len(starts[name]) for name in todo))
    for count in (
        run_tasks(
            _block_task,
            (task(name) for name in todo),
            len(todo),
            device=ensemble.device,
            total=total,
            poll=counter,
            description=f"sets of sources removed from {recipe.label}",
            unit="cf",
            n_jobs=n_jobs,
            progress=progress,
        )
        if todo
        else ()
    ):
        counter.done += count
    distances = (
        torch.cat([workspace.load(name)["distances"] for name in starts])
        .reshape(M, len(indices))
        .T.contiguous()
    )
    width = max(map(len, sets))
    table = torch.tensor([each + [-1] * (width - len(each)) for each in sets])
    files = {
        "removals.safetensors": {
            "factual": factual,
            "distances": distances,
            "sets": table,
            "survivors": torch.from_numpy((c > 0).sum(1)),
        }
    }
    info = {
        "seconds": round(seconds(), 1),
        "num_sources": ensemble.codebook.num_sources,
        "recipe": digest(recipe.model_spec),
    }
    return store.write(_KIND, recipe.label, spec, files, info, ensemble.device)


def read_removals(artefact: Artefact) -> Removals:
    """An artefact's distances, with every byte checked."""
    found, (name, _, scale) = (
        artefact.tensors("removals.safetensors"),
        artefact.spec["recipe"].rpartition("-"),
    )
    return Removals(
        name,
        scale,
        artefact.spec["seed"],
        np.array(artefact.spec["indices"]),
        [[s for s in row if s >= 0] for row in found["sets"].tolist()],
        found["survivors"].numpy(),
        found["distances"].numpy(),
        found["factual"],
        artefact,
    )


def stored_removals(
    recipe: str | Recipe, scale: str = "laptop", seed: int = 0, store: Store | None = None
) -> Removals | None:
    """Published or cached removals of sets, without the members; of several those of most counterfactuals; or None."""
    store = store or Store()
    recipe = bind(get_recipe(recipe, scale) if isinstance(recipe, str) else recipe, store)
    found = [
        read_removals(a)
        for a in store.find_all(_KIND, recipe.label)
        if a.spec["seed"] == seed
        and a.spec["sampling"] == spec_of(recipe.sampling)
        and a.info["recipe"] == digest(recipe.model_spec)
    ]
    return max(found, key=lambda each: each.distances.size, default=None)
