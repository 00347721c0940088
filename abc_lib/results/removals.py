"""Several data sources removed at once, which the paper stops short of.

Members that saw any of k sources go, so a code of weight w keeps at least n - k w of n members, and
every set of k sources can be removed where k w < n: the code is k-cover-free there, no k codewords
cover all positions. The paper's codes of weight n / 2 promise no more than k = 1; larger sets can
be removed as far as their codewords happen to overlap. A light code, such as weight 2 of 20,
promises k = 9.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue, NoSurvivors, positive_int
from abc_lib.ground.here import Here
from abc_lib.ground.seeds import generator
from abc_lib.ground.store import Artefact, Workspace
from abc_lib.ground.tasks import run_blocks
from abc_lib.method.code import Codebook
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import METRIC
from abc_lib.method.recipe import Recipe
from abc_lib.results.kind import Kind, name_and_scale, sample_numbers
from abc_lib.training.budget import trajectories_side_by_side

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "KIND",
    "Removals",
    "draw_sets",
    "get",
    "origin",
    "promised_k",
    "publish",
    "read",
    "sets",
    "stored",
    "survivor_table",
]

SETS = 64
"""sets of each size that are removed"""
MOST_AT_ONCE = 9
LEAST_AT_ONCE = 4
"""Sets grow up to what a code promises, but to four at least, where some of four leave a member,
and to nine at most."""
_TRIES = 200


@dataclass(frozen=True)
class Removals:
    """How far samples move when sets of sources are removed: ``distances`` (S, M) float64,
    Euclidean, a column for each of ``sets``.

    ``survivors`` (M,) counts the members left without each set; ``factual`` (S, C, H, W) are the
    samples.
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

    def by_size(self) -> "pd.DataFrame":
        """A row for each k: sets, mean survivors, and over samples the mean of the mean and of the
        farthest distance with its standard error.

        Columns k, sets, survivors, mean, mean_error, radius, radius_error.
        """
        import pandas as pd

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
    """The largest k for which every set of k sources leaves a member, whatever the codewords: the
    largest k with k * weight < n.
    """
    return (positive_int("n", n) - 1) // positive_int("weight", weight)


def survivor_table(
    book: Codebook, sizes: Iterable[int], sets: int = 2000, seed: int = 0
) -> "pd.DataFrame":
    """What random sets of k sources leave of a code's members, a row for each k: columns k,
    removable (share with a survivor), least, mean, most.

    ``sets`` sets are drawn for each k, all k-sets that have no survivor counting as 0 members.
    """
    import pandas as pd

    rows = []
    for k in sizes:
        if not 1 <= k <= book.num_sources:
            raise BadValue(
                f"sets of {k} of {book.num_sources} sources cannot be removed; choose 1 to "
                f"{book.num_sources}"
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
    """``count`` different random sets of ``k`` sources that leave at least one member, each
    ascending.

    Uniform among such sets. Fewer come back where there are not that many; raises
    :class:`NoSurvivors` where none is found.
    """
    positive_int("k", k)
    positive_int("count", count)
    if k > book.num_sources:
        raise BadValue(
            f"sets of {k} of {book.num_sources} sources cannot be removed; choose 1 to "
            f"{book.num_sources}"
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
            f"none of {_TRIES * count:,} random sets of {k} sources leaves one of {book.n} "
            f"members of weight {book.weight}; "
            f"this code promises sets of {promised_k(book.n, book.weight)}; remove fewer at once, "
            "or train a code of smaller weight"
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


def sets(ensemble: Ensemble, count: int = SETS) -> list[list[int]]:
    """Random sets of 1, 2, 3, ... sources that leave a member, up to ``count`` of each size."""
    book, drawn = ensemble.codebook, []
    promised = min(promised_k(book.n, book.weight), MOST_AT_ONCE)
    for k in range(1, min(book.num_sources, max(LEAST_AT_ONCE, promised)) + 1):
        try:
            drawn += draw_sets(book, k, count)
        except NoSurvivors:
            break
    return drawn


class _Removals(Kind[Removals]):
    folder, title = "removal", "Removals"

    def build(self, model, spec, workspace, here, chosen=()):
        """All samples without each set, in blocks."""
        recipe, indices, M = model.recipe, spec["indices"], len(chosen)
        c = np.stack([model.codebook.ablation(each) for each in chosen])
        size = trajectories_side_by_side(model, here)
        noise = model.draw_noise(spec["seed"], indices)
        S = len(indices)
        parts = [noise[range(k, min(k + size, S))] for k in range(0, S, size)]
        factual = torch.cat([model.sample(part) for part in parts])
        # Sets of one size side by side: within a block every member is evaluated on about as
        # many trajectories.
        pairs = {
            f"block-{size}-{start:09d}": np.arange(start, min(start + size, S * M))
            for start in range(0, S * M, size)
        }

        def task(flat: np.ndarray) -> tuple:
            mine, local = np.unique(flat % S, return_inverse=True)
            return model, noise[mine], factual[mine], local, c[flat // S]

        pieces = run_blocks(
            _block_task,
            {name: lambda flat=flat: task(flat) for name, flat in pairs.items()},
            workspace,
            model.device,
            here,
            f"sets of sources removed from {recipe.label}",
            unit="cf",
            sizes={name: len(flat) for name, flat in pairs.items()},
        )
        distances = torch.cat([piece["distances"] for piece in pieces])
        width = max(map(len, chosen))
        files = {
            "removals.safetensors": {
                "factual": factual,
                "distances": distances.reshape(M, S).T.contiguous(),
                "sets": torch.tensor([each + [-1] * (width - len(each)) for each in chosen]),
                "survivors": torch.from_numpy((c > 0).sum(1)),
            }
        }
        info = {"num_sources": model.codebook.num_sources, "recipe": digest(recipe.model_spec)}
        return files, info

    def read(self, artefact: Artefact) -> Removals:
        """An artefact's distances, with every byte checked."""
        tensors = artefact.tensors("removals.safetensors")
        return Removals(
            *name_and_scale(artefact),
            artefact.spec["seed"],
            np.array(artefact.spec["indices"]),
            [[s for s in row if s >= 0] for row in tensors["sets"].tolist()],
            tensors["survivors"].numpy(),
            tensors["distances"].numpy(),
            tensors["factual"],
            artefact,
        )

    def belongs(self, artefact: Artefact, recipe: Recipe) -> bool:
        """Whether it is of this very recipe."""
        return artefact.info["recipe"] == digest(recipe.model_spec)

    def size(self, artefact: Artefact) -> int:
        """How many counterfactuals it holds."""
        return self.read(artefact).distances.size

    def words(self, artefact: Artefact) -> str:
        """How many counterfactuals, without sets of sources."""
        return f"{self.size(artefact):,} counterfactuals without sets of sources"


KIND = _Removals()


def get(
    ensemble: Ensemble,
    indices: Iterable[int],
    sets: Sequence[Sequence[int]],
    seed: int = 0,
    here: Here | None = None,
) -> Removals:
    """Samples without each of ``sets`` of sources, and how far each lies from the sample with all.

    From the store if known; distances are Euclidean as in landscapes. A stopped run goes on where
    it was. Raises :class:`NoSurvivors` for a set that leaves no member, before anything is
    computed, and :class:`BadValue` for samples that are repeated, negative or none, and for no
    sets.
    """
    numbers = sample_numbers(indices)
    chosen = [sorted(int(source) for source in each) for each in sets]
    if not chosen or not all(chosen):
        raise BadValue("no sources were named to be removed; give sets of at least one")
    for each in chosen:
        ensemble.codebook.survivors(each)
    spec = {
        "recipe": ensemble.recipe.label,
        "ensemble": ensemble.identity,
        "sampling": spec_of(ensemble.recipe.sampling),
        "seed": seed,
        "indices": numbers,
        "metric": METRIC,
        "sets": digest(chosen),
    }
    return KIND.get(ensemble, spec, here or Here(), chosen=chosen)


def stored(recipe: Recipe, seed: int = 0, here: Here | None = None) -> Removals | None:
    """Removals of sets that are at hand, without the members; of several the most; or None."""
    return KIND.stored(recipe, here or Here(), seed=seed)


def read(artefact: Artefact) -> Removals:
    """An artefact's distances, with every byte checked."""
    return KIND.read(artefact)


def publish(
    ensemble: Ensemble, samples: int, seed: int = 0, count: int = SETS, here: Here | None = None
) -> Artefact:
    """Publishes how far the first samples move when sets of sources are removed."""
    here = here or Here()
    removals = get(ensemble, range(samples), sets(ensemble, count), seed, here)
    (artefact,) = KIND.publish([removals.artefact], here)
    return artefact


def origin(removals: Removals) -> str:
    """Where they come from, in a sentence."""
    return KIND.origin([removals.artefact])
