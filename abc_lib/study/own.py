"""From a folder of own pictures to a recipe, a sheet to look at, and what it will cost."""

import resource
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch

from abc_lib.ground.errors import BadValue
from abc_lib.ground.files import atomic_file
from abc_lib.ground.here import Here
from abc_lib.ground.tasks import job_count
from abc_lib.images.own.folder import Look, look_at
from abc_lib.images.own.proposal import propose
from abc_lib.images.own.sheet import contact_sheet, plain
from abc_lib.images.recipe_file import parse_recipe
from abc_lib.images.training_set import TrainingSet
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import state_shape
from abc_lib.study.cost import cost_of
from abc_lib.study.plan import seconds_per_evaluation
from abc_lib.training.members import Block

SAMPLES = 12
"""with landscapes: what a notebook computes unless it is told otherwise"""
_NAMED = 5


def new_recipe(
    folder: Path | str, output: Path | str, sources: str | None = None, here: Here | None = None
) -> str:
    """Writes a recipe for a folder of pictures, and a sheet of them beside it, a PNG.

    Returns what was taken, what was not and why, which pictures of different sources look alike,
    and what training will cost here. ``sources`` is as for :func:`look_at`; None is ``folder``
    where two subfolders have pictures, else ``file``. Nothing that is there is written over, and
    nothing is written where an :class:`AbcError` is raised.
    """
    here, folder, output = here or Here(), Path(folder), Path(output)
    if output.suffix != ".toml":
        raise BadValue(f"{output} is no name of a recipe; let it end with .toml")
    if not output.parent.is_dir():
        raise BadValue(f"{output.parent} is no folder to write {output.name} to; make it first")
    sheet = output.with_suffix(".png")
    for path in (output, sheet):
        if path.exists():
            raise BadValue(f"{path} is there already; remove it or choose another name")
    look = look_at(folder, sources or "folder", here.progress)
    if sources is None:
        sources = "folder" if len(look.people) > 1 else "file"
        look = look_at(folder, sources, here.progress)
    text = propose(look, sources, output).encode()
    recipe = parse_recipe(text, output)
    size = state_shape(recipe.data)[-1]
    cost = expected_cost(recipe, here)
    for path, content in ((sheet, contact_sheet(look, size)), (output, text)):
        with atomic_file(path) as file:
            file.write(content)
    written = f"{output} is the recipe, {sheet} shows the pictures"
    return "\n".join([*report(look), cost, written])


def report(look: Look) -> list[str]:
    """Lines: how many pictures are taken, which files are not and why, what looks alike."""
    count, people = len(look.pictures), len(look.people)
    lines = [f"{count:,} pictures of {people:,} sources are taken"]
    reasons = defaultdict(list)
    for name, why in look.refused:
        reasons[why].append(name)
    for why, names in sorted(reasons.items(), key=lambda item: -len(item[1])):
        some = ", ".join(plain(name) for name in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(f"not taken, {why}: {some}{more}")
    for i, j, alike in look.pairs[:_NAMED]:
        one, other = (plain(look.pictures[k].name) for k in (i, j))
        lines.append(f"look alike ({alike:.2f}) in different sources: {one} and {other}")
    if len(look.pairs) > _NAMED:
        lines.append(f"and {len(look.pairs) - _NAMED} more pairs, on the sheet")
    return lines


def expected_cost(recipe: Recipe, here: Here) -> str:
    """Time, memory and disk that members and a notebook's landscapes take here, in a sentence.

    Rates are measured now, in seconds: some steps of training and some evaluations.
    """
    cost, jobs, n = cost_of(recipe), job_count(here.jobs, here.device), recipe.code.n
    training = n * recipe.training.steps * seconds_per_step(recipe, here) / min(jobs, n)
    landscapes = SAMPLES * cost.landscape * seconds_per_evaluation(recipe, here.device)
    # Linux counts in kibibytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    memory = jobs * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    kept = 2 if recipe.training.stored == "float16" else 4
    # While a member trains, its checkpoint has parameters and two moments of Adam.
    disk = cost.parameters * (n * kept + 3 * 4 * jobs)
    return (
        f"on this machine about {_minutes(training)} to train {n} members of "
        f"{cost.parameters:,} parameters and {_minutes(landscapes)} for {SAMPLES} landscapes, "
        f"{memory / 2**30:.1f} GiB of memory and {disk / 2**20:.0f} MiB of disk"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds > 7200 else f"{max(1, seconds / 60):.0f} min"


def seconds_per_step(recipe: Recipe, here: Here, steps: int = 8) -> float:
    """How long a step of one member takes on one core or the GPU, measured now."""
    shape, few = state_shape(recipe.data), recipe.training.batch_size
    zeros = torch.zeros(few, dtype=torch.int64)
    images = TrainingSet(torch.rand(few, *shape), zeros, zeros, torch.arange(few), "noise")
    block = Block(recipe, [0], [images], here.device)
    block.step(0)
    begun = time.perf_counter()
    for k in range(1, 1 + steps):
        block.step(k).sum().item()
    return (time.perf_counter() - begun) / steps
