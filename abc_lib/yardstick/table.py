"""The table of the methods on one ensemble: measured, kept, published."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from abc_lib.ground.devices import Peak
from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Workspace, parquet_bytes, stopwatch
from abc_lib.method.code import draw_codebook
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Recipe
from abc_lib.results.kind import Files, Kind, name_and_scale
from abc_lib.results.placebos.signal import recipes_of
from abc_lib.training.ensembles import get_ensemble
from abc_lib.training.retrained import get_retrained
from abc_lib.yardstick.methods import METHODS
from abc_lib.yardstick.removal import removal
from abc_lib.yardstick.scores import bootstrap
from abc_lib.yardstick.sweeps import sweeps
from abc_lib.yardstick.tasks import GRADIENT_MEMBERS, QUERIES, Relabelled, Task, make_task
from abc_lib.yardstick.truths import MOVED

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KIND", "Yardstick", "get", "measure", "origin", "publish", "read", "rows", "stored"]

CODES = 5
"""of a table: 70 members of the digits, each a model of half of the sources"""
MOVING = 12
"""samples that are moved by every code"""
TOP = 8
VERSION = 4
"""of the truths and methods; a change to one raises it, a new one does not"""


@dataclass(frozen=True)
class Yardstick:
    """What a task's methods reached: ``table`` has a row for each method, truth and group of
    queries (:func:`rows`), with the method's paper, needs and seconds; ``removal`` and ``sweeps``
    are what the functions of these names say; ``by_query`` are scores under the truth of members,
    a row a method and query; ``task`` scores others, without members or images. What was
    not measured is None.
    """

    name: str
    scale: str
    table: "pd.DataFrame"
    removal: "pd.DataFrame"
    sweeps: "pd.DataFrame | None"
    by_query: "pd.DataFrame | None"
    task: Task
    artefact: Artefact


def rows(task: Task, scores: np.ndarray, relabelled: Relabelled | None = None) -> list[dict]:
    """What scores (S, N) reach under each truth, of generated and of held-out queries apart.

    Each row has ``truth``, ``queries``, ``score`` with ``low`` and ``high`` over queries and, where
    each has its own score, over codes, ``ceiling``, ``p`` (how many orders of the members do as
    well) and ``chance`` (their upper 95%), and, where the truth is a source left out, ``top1`` and
    ``top8``, the shares of the first that are found. Of how far samples move, ``radius8`` is the
    share of the counterfactual radius among the first eight sources, the mean over codes.
    ``relabelled`` is made here unless it is given. Queries for tuning are left out.
    Raises :class:`BadValue` for another shape or scores that are infinite.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.shape != task.shape:
        raise BadValue(
            f"scores have the shape {scores.shape}; {task.recipe.name} takes {task.shape}, a row "
            "for each query and a column for each source"
        )
    if np.isinf(scores).any():
        raise BadValue("scores are infinite; give finite ones, or rows of NaN for queries left out")
    relabelled, made = relabelled or Relabelled(task), []
    for truth in task.truths.values():
        for group, members in (("generated", task.generated), ("held out", ~task.generated)):
            mine = truth.measured(np.flatnonzero(members & ~task.tuning))
            mean, low, high = bootstrap(truth.score(scores, mine))
            if np.isnan(mean):
                continue
            chance = relabelled.chance(scores, truth, mine)
            row = {"truth": truth.name, "queries": group, "score": mean, "low": low, "high": high}
            row |= {"ceiling": truth.ceiling(mine), "chance": float(np.quantile(chance, 0.95))}
            row["p"] = float((1 + (chance >= mean).sum()) / (1 + len(chance)))
            for k in (1, TOP):
                row[f"top{k}"] = bootstrap(truth.found(scores, mine, k), 1)[0]
            row[f"radius{TOP}"] = np.nan
            if truth.name == "moved":
                row[f"radius{TOP}"] = bootstrap(_radius_found(task, scores), 1)[0]
            made.append(row)
    return made


def _radius_found(task: Task, scores: np.ndarray) -> np.ndarray:
    """Which share of its counterfactual radius each code finds among the first :data:`TOP` sources
    of scores, (R, Q); NaN for queries without scores.
    """
    moved = task.moved[MOVED.index("moved")].astype(float)
    first = np.argsort(-scores[task.moving], axis=1, kind="stable")[:, :TOP]
    found = np.take_along_axis(moved, np.broadcast_to(first, (len(moved), *first.shape)), axis=2)
    asked = np.isfinite(scores[task.moving]).all(1)
    return np.where(asked, found.max(2) / moved.max(2), np.nan)


def measure(
    task: Task, skipped: Sequence[str] = ()
) -> tuple["pd.DataFrame", "pd.DataFrame", "pd.DataFrame"]:
    """Tables of :data:`METHODS`, but those ``skipped``, on a task.

    :func:`rows`, with each method's seconds and the memory that it took beyond what was there, in
    MiB; :func:`abc_lib.yardstick.removal.removal`; and scores under the truth of members, a row a
    method and query.
    """
    import pandas as pd

    relabelled, made, removed, each = Relabelled(task), [], [], {}
    for method in METHODS.values():
        if method.name in skipped:
            continue
        if method.feature:
            task.kernels(method.feature)
        seconds = stopwatch()
        with Peak() as peak:
            scores = method.scores(task)
        took = seconds() + (task.kernels(method.feature).seconds if method.feature else 0)
        said = {"method": method.name, "paper": method.paper, "needs": method.needs}
        cost = {"seconds": took, "memory": peak.most / 2**20}
        made += [said | cost | row for row in rows(task, scores, relabelled)]
        removed += [said | row for row in removal(task, scores, relabelled)]
        each[method.name] = task.truths["members"].score(scores, np.arange(len(task))).mean(0)
    wide = pd.DataFrame(each, dtype=np.float32).rename_axis("query")
    by_query = wide.reset_index().melt("query", var_name="method", value_name="score")
    return pd.DataFrame(made), pd.DataFrame(removed), by_query


class _Table(Kind[Yardstick]):
    """Tables of methods, with the queries and the products of errors that truths follow from.

    One is read with its recipe, which says the code: see :func:`read`.
    """

    folder = "yardstick"
    title = "Yardstick"

    def build(
        self, model: Ensemble, spec: dict, workspace: Workspace, here: Here, ensembles, retrained
    ) -> tuple[Files, dict]:
        """Measures all methods on a fresh task."""
        import pandas as pd

        more = (spec.get(name, 0) for name in ("classes", "moving", "alone"))
        task = make_task(ensembles, spec["queries"], here, retrained, *more)
        tensors = {
            "queries": task.queries.half(),
            "generated": torch.from_numpy(task.generated),
            **_packed(task.gram),
        }
        for name in _OPTIONAL:
            if (value := getattr(task, name)) is not None:
                tensors[name] = torch.from_numpy(value)
        parts = dict(
            zip(
                ("table", "removal", "by_query"),
                measure(task, spec.get("skipped", ())),
                strict=True,
            )
        )
        parts["sweeps"] = pd.DataFrame(sweeps(task)) if spec.get("sweeps", True) else None
        files = {
            f"{name}.parquet": parquet_bytes(part)
            for name, part in parts.items()
            if part is not None
        }
        info = {"model": digest(model.recipe.model_spec), "exposure": model.recipe.exposure}
        return {"task.safetensors": tensors, **files}, info

    def size(self, artefact: Artefact) -> int:
        """By codes first, then by queries."""
        return len(artefact.spec["ensembles"]) * 10**6 + 2 * artefact.spec["queries"]

    def words(self, artefact: Artefact) -> str:
        """How many queries, codes and training seeds, and version."""
        spec = artefact.spec
        seeds = f", {len(spec['retrained'])} seeds of retraining" if spec["retrained"] else ""
        return (
            f"{2 * spec['queries']} queries, {len(spec['ensembles'])} codes{seeds}, members that "
            f"saw each image {artefact.info['exposure']:,.0f} times, version {spec['version']}"
        )


KIND = _Table()
_OPTIONAL = ("retrained", "classes", "labels", "same_chance", "alone", "moved")
"""parts of a task that need not have been measured"""


def _packed(gram: np.ndarray) -> dict[str, torch.Tensor]:
    """Symmetric products (R, 2, S, n, n): one, and half of how the others differ from it.

    As they are :func:`rounded`, nothing is lost.
    """
    i, j = np.triu_indices(gram.shape[-1])
    one = np.ascontiguousarray(gram[..., :1, 1:2])
    apart = np.ascontiguousarray((gram - one)[..., i, j].astype(np.float16))
    return {"one": torch.from_numpy(one), "apart": torch.from_numpy(apart)}


def _unpacked(one: np.ndarray, apart: np.ndarray) -> np.ndarray:
    n = int((8 * apart.shape[-1] + 1) ** 0.5 - 1) // 2
    i, j = np.triu_indices(n)
    gram = np.empty((*apart.shape[:-1], n, n), dtype=np.float32)
    gram[..., i, j] = gram[..., j, i] = apart
    return one + gram


def read(artefact: Artefact, recipe: Recipe) -> Yardstick:
    """An artefact's tables and task, with every byte checked."""

    arrays = {name: each.numpy() for name, each in artefact.tensors("task.safetensors").items()}
    gram = _unpacked(arrays["one"], arrays["apart"])
    books = tuple(draw_codebook(each) for each in recipes_of(recipe, len(gram)))
    queries, more = (
        torch.from_numpy(arrays["queries"]).float(),
        {k: arrays.get(k) for k in _OPTIONAL},
    )
    task = Task(recipe, books, queries, arrays["generated"], gram, **more)
    tables = (
        artefact.table(name) if (name := f"{part}.parquet") in artefact.manifest["files"] else None
        for part in ("table", "removal", "sweeps", "by_query")
    )
    return Yardstick(*name_and_scale(artefact), *tables, task, artefact)


def get(
    recipe: Recipe,
    codes: int = CODES,
    queries: int = QUERIES,
    seeds: int = 0,
    class_seeds: int = 0,
    moving: int = 0,
    alone: int = 0,
    swept: bool = True,
    skipped: Sequence[str] = (),
    here: Here | None = None,
) -> Yardstick:
    """The table of a recipe: the one that is there, or measured now.

    On ``codes`` codes, and ``seeds`` times all models that leave one source out, 0 for none; all
    are trained where they are missing. ``class_seeds``, ``moving`` and ``alone`` as in
    :func:`make_task`; without ``swept`` no dial is turned, which takes most of the time, and
    methods ``skipped`` are not measured. ``queries`` generated ones and as many held out. Errors
    as :func:`make_task`, and :class:`UnknownName` for a method that there is not.
    """
    here = here or Here()
    for name in skipped:
        METHODS[name]
    ensembles = [get_ensemble(each, here) for each in recipes_of(recipe, codes)]
    retrained = [get_retrained(recipe, seed=number, here=here) for number in range(seeds)]
    spec = {
        "recipe": recipe.label,
        "ensembles": [each.identity for each in ensembles],
        "retrained": [each.identity for each in retrained],
        "sampling": spec_of(recipe.sampling),
        "queries": queries,
        "members": GRADIENT_MEMBERS,
        "version": VERSION,
        **({"classes": class_seeds} if class_seeds else {}),
        **({"moving": moving} if moving else {}),
        **({"alone": alone} if alone else {}),
        **({} if swept else {"sweeps": False}),
        **({"skipped": sorted(skipped)} if skipped else {}),
    }
    more = {"ensembles": ensembles, "retrained": retrained}
    return read(KIND.compute(ensembles[0], spec, here, **more), recipe)


def stored(recipe: Recipe, here: Here | None = None) -> Yardstick | None:
    """The table of a recipe that is at hand, without its members; of several the largest."""
    found = KIND.stored_artefacts(recipe, here or Here(), version=VERSION)
    return read(max(found, key=KIND.size), recipe) if found else None


def publish(found: Yardstick, here: Here | None = None) -> Artefact:
    """Publishes a table; members stay where they are."""
    (artefact,) = KIND.publish([found.artefact], here or Here())
    return artefact


def origin(found: Yardstick) -> str:
    """Where a table comes from, in a sentence."""
    return KIND.origin([found.artefact])
