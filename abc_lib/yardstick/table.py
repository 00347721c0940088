"""The table of the methods on one ensemble: measured, kept, published."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Workspace, parquet_bytes, stopwatch
from abc_lib.method.code import draw_codebook
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Recipe
from abc_lib.results.kind import Files, Kind, name_and_scale
from abc_lib.yardstick.methods import METHODS
from abc_lib.yardstick.removal import removal
from abc_lib.yardstick.scores import bootstrap, top_share
from abc_lib.yardstick.tasks import GRADIENT_MEMBERS, QUERIES, Relabelled, Task, make_task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KIND", "Yardstick", "get", "measure", "origin", "publish", "read", "rows", "stored"]

TOP = 8
VERSION = 2
"""of the truths and methods; a change to either raises it"""


@dataclass(frozen=True)
class Yardstick:
    """What a task's methods reached: ``table`` has a row for each method, truth and group of
    queries (:func:`rows`), with the method's paper, needs and seconds; ``task`` scores others,
    without members or images.
    """

    name: str
    scale: str
    table: "pd.DataFrame"
    removal: "pd.DataFrame"
    task: Task
    artefact: Artefact


def rows(task: Task, scores: np.ndarray, relabelled: Relabelled | None = None) -> list[dict]:
    """What scores (S, N) reach under each truth, of generated and of held-out queries apart.

    Each row has ``truth``, ``queries``, ``score`` with ``low`` and ``high`` over queries,
    ``ceiling``, ``p`` (how many orders of the members do as well) and ``chance`` (their upper
    95%), and, where the truth is a source left out, ``top1`` and ``top8``. ``relabelled`` is made
    here unless it is given. Queries for tuning
    are left out. Raises :class:`BadValue` for another shape or scores that are infinite.
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
            mine = np.flatnonzero(members & ~task.tuning)
            mean, low, high = bootstrap(truth.score(scores, mine))
            if np.isnan(mean):
                continue
            chance = relabelled.chance(scores, truth, mine)
            row = {"truth": truth.name, "queries": group, "score": mean, "low": low, "high": high}
            row |= {"ceiling": truth.ceiling(mine), "chance": float(np.quantile(chance, 0.95))}
            row["p"] = float((1 + (chance >= mean).sum()) / (1 + len(chance)))
            for k in (1, TOP):
                top = np.nan
                if truth.name == "leave_one_out":
                    top = bootstrap(top_share(scores[mine], truth.gains[mine], k), 1)[0]
                row[f"top{k}"] = top
            made.append(row)
    return made


def measure(task: Task) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Tables of :data:`METHODS` on a task: :func:`rows`, with each method's seconds, and
    :func:`abc_lib.yardstick.removal.removal`.
    """
    import pandas as pd

    relabelled, made, removed = Relabelled(task), [], []
    for method in METHODS.values():
        if method.feature:
            task.kernels(method.feature)
        seconds = stopwatch()
        scores = method.scores(task)
        took = seconds() + (task.kernels(method.feature).seconds if method.feature else 0)
        said = {"method": method.name, "paper": method.paper, "needs": method.needs}
        made += [said | {"seconds": took} | row for row in rows(task, scores, relabelled)]
        removed += [said | row for row in removal(task, scores, relabelled)]
    return pd.DataFrame(made), pd.DataFrame(removed)


class _Table(Kind[Yardstick]):
    """Tables of methods, with the queries and the products of errors that truths follow from.

    One is read with its recipe, which says the code: see :func:`read`.
    """

    folder = "yardstick"
    title = "Yardstick"

    def build(
        self, model: Ensemble, spec: dict, workspace: Workspace, here: Here, **more
    ) -> tuple[Files, dict]:
        """Measures all methods on a fresh task."""
        task = make_task(model, spec["queries"], here)
        tensors = {
            "queries": task.queries,
            "generated": torch.from_numpy(task.generated),
            "gram": torch.from_numpy(task.gram),
        }
        table, removed = map(parquet_bytes, measure(task))
        files = {"task.safetensors": tensors, "table.parquet": table, "removal.parquet": removed}
        return files, {"model": digest(model.recipe.model_spec)}

    def size(self, artefact: Artefact) -> int:
        """How many queries it has."""
        return 2 * artefact.spec["queries"]

    def words(self, artefact: Artefact) -> str:
        """How many queries, and version."""
        return f"{self.size(artefact)} queries, version {artefact.spec['version']}"


KIND = _Table()


def read(artefact: Artefact, recipe: Recipe) -> Yardstick:
    """An artefact's table and task, with every byte checked."""
    import io

    import pandas as pd

    tensors = artefact.tensors("task.safetensors")
    generated, gram = tensors["generated"].numpy(), tensors["gram"].numpy()
    task = Task(recipe, draw_codebook(recipe), tensors["queries"], generated, gram)
    tables = (
        pd.read_parquet(io.BytesIO(artefact.read(f"{name}.parquet")))
        for name in ("table", "removal")
    )
    return Yardstick(*name_and_scale(artefact), *tables, task, artefact)


def get(ensemble: Ensemble, queries: int = QUERIES, here: Here | None = None) -> Yardstick:
    """The table of an ensemble: the one that is there, or measured now.

    ``queries`` generated ones and as many held out. Errors as :func:`make_task`.
    """
    spec = {
        "recipe": ensemble.recipe.label,
        "ensemble": ensemble.identity,
        "sampling": spec_of(ensemble.recipe.sampling),
        "queries": queries,
        "members": GRADIENT_MEMBERS,
        "version": VERSION,
    }
    return read(KIND.compute(ensemble, spec, here or Here()), ensemble.recipe)


def stored(recipe: Recipe, here: Here | None = None) -> Yardstick | None:
    """The table of a recipe that is at hand, without its members; of several the largest."""
    found = KIND.stored_artefacts(recipe, here or Here(), version=VERSION)
    return read(max(found, key=KIND.size), recipe) if found else None


def publish(ensemble: Ensemble, queries: int = QUERIES, here: Here | None = None) -> Artefact:
    """Publishes the table of an ensemble, measured where it is missing."""
    here = here or Here()
    (artefact,) = KIND.publish([get(ensemble, queries, here).artefact], here)
    return artefact


def origin(found: Yardstick) -> str:
    """Where a table comes from, in a sentence."""
    return KIND.origin([found.artefact])
