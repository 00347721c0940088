"""The life of a result, the same for every kind: found, computed, read, published, and told of.

A kind says what is its own: the folder it lies in, how its content is worked out from a spec,
and how an artefact is read. :class:`Kind` does the rest. Where a kind's artefacts are of some
samples each and add up, it is a :class:`BySample`; elsewhere the largest one counts.

``get`` computes what is missing, ``stored`` needs a recipe and no members, ``publish`` copies
into ``data/published``, ``origin`` says in a sentence where numbers come from.
"""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import numpy as np

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Content, Workspace, stopwatch
from abc_lib.images.spaces import SPACES
from abc_lib.method.recipe import Recipe

Value = TypeVar("Value")
Files = dict[str, Content | Callable[[], Content]]


def sample_numbers(indices: Iterable[int], what: str = "samples") -> list[int]:
    """Numbers of samples, checked: at least one, all different, from 0 on, or :class:`BadValue`."""
    numbers = [int(i) for i in indices]
    if not numbers:
        raise BadValue(f"no {what} were asked for; give at least one index")
    if len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise BadValue("sample indices must be different whole numbers from 0 on")
    return numbers


def name_and_scale(artefact: Artefact) -> tuple[str, str]:
    """Of which ensemble an artefact is, and at which scale."""
    name, _, scale = artefact.spec["recipe"].rpartition("-")
    return name, scale


class Kind(Generic[Value]):
    """A kind of result. Its own are ``folder``, :meth:`build`, :meth:`read`, :meth:`belongs`."""

    folder: str
    """what its folder in the store is called; it names what is published, so it stays"""
    title: str
    """what its origin begins with"""

    def build(
        self, model: Any, spec: dict, workspace: Workspace, here: Here, **more
    ) -> tuple[Files, dict]:
        """Works out the content of the artefact of a spec: its files, and what else to note.

        What is finished lies in ``workspace``, where a stopped run finds it again.
        """
        raise NotImplementedError

    def read(self, artefact: Artefact) -> Value:
        """An artefact's value, with every byte checked."""
        raise NotImplementedError

    def belongs(self, artefact: Artefact, recipe: Recipe) -> bool:
        """Whether an artefact is of this very recipe, and not of a variant of its name."""
        return artefact.info.get("model") == digest(recipe.model_spec)

    def size(self, artefact: Artefact) -> int:
        """How much an artefact holds: the largest counts."""
        return len(artefact.spec["indices"])

    def words(self, artefact: Artefact) -> str:
        """What an artefact holds, in words, for its origin."""
        return f"{self.size(artefact):,} samples"

    # --- the life that all kinds share ---

    def compute(self, model: Any, spec: dict, here: Here, **more) -> Artefact:
        """The artefact of this spec: the one that is there, or computed now.

        A stopped run goes on where it was. ``more`` goes to :meth:`build`.
        """
        label = model.recipe.label

        def make(workspace: Workspace) -> Artefact:
            seconds = stopwatch()
            files, info = self.build(model, spec, workspace, here, **more)
            info = {"seconds": round(seconds(), 1), **info}
            return here.store.write(self.folder, label, spec, files, info, model.device)

        return here.store.once(self.folder, label, spec, make)

    def get(self, model: Any, spec: dict, here: Here, **more) -> Value:
        """The value of this spec: published, from the cache, or computed now."""
        return self.read(self.compute(model, spec, here, **more))

    def stored_artefacts(self, recipe: Recipe, here: Here, **like) -> list[Artefact]:
        """The artefacts of a recipe that are at hand, without its members, published ones first.

        ``like`` are values that their specs must have. The recipe's sampler must be theirs.
        """
        recipe = SPACES[recipe.data.space].bind(recipe, here.store)
        like["sampling"] = spec_of(recipe.sampling)
        return [
            artefact
            for artefact in here.store.find_all(self.folder, recipe.label)
            if self.belongs(artefact, recipe)
            and all(artefact.spec[key] == value for key, value in like.items())
        ]

    def stored(self, recipe: Recipe, here: Here, **like) -> Value | None:
        """The largest artefact of a recipe that is at hand, read; or None."""
        artefacts = self.stored_artefacts(recipe, here, **like)
        return self.read(max(artefacts, key=self.size)) if artefacts else None

    def publish(self, artefacts: Iterable[Artefact], here: Here) -> list[Artefact]:
        """Copies artefacts into what is published, byte for byte."""
        return [here.store.copy(artefact, self.folder) for artefact in artefacts]

    def origin(self, artefacts: Iterable[Artefact]) -> str:
        """Where results come from, in a sentence."""
        parts = [
            f"{self.words(artefact)}, {made(artefact, seconds=True)}" for artefact in artefacts
        ]
        return f"{self.title}: {'; '.join(parts)}."


class BySample(Kind[Value]):
    """A kind whose artefacts hold some samples of one ensemble and seed each, and add up.

    Its own are also :meth:`merge` and, of the value, ``indices`` and ``artefacts``.
    """

    same: tuple[str, ...] = ("ensemble", "sampling", "seed")
    """spec keys that must agree for two artefacts to add up"""

    def spec(self, ensemble: Any, seed: int, indices: list[int], **more) -> dict:
        """What determines the results of some samples of an ensemble."""
        return {
            "recipe": ensemble.recipe.label,
            "ensemble": ensemble.identity,
            "sampling": spec_of(ensemble.recipe.sampling),
            "seed": seed,
            "indices": indices,
            **more,
        }

    def merge(self, artefacts: list[Artefact]) -> Value | None:
        """The samples of several artefacts of one ensemble and seed, each once, by index."""
        raise NotImplementedError

    def accepts(self, spec: dict, wanted: dict) -> bool:
        """Whether an artefact with this spec serves where one with ``wanted`` is asked for."""
        return True

    def completed(self, found: Value, recipe: Recipe) -> Value:
        """What was found, with what was not at hand where it was computed: here, as it is."""
        return found

    def find(self, ensemble: Any, wanted: dict, here: Here) -> Value | None:
        """All results of this very ensemble that are at hand and serve, merged; or None."""
        found = self.merge(
            [
                artefact
                for artefact in here.store.find_all(self.folder, ensemble.recipe.label)
                if all(artefact.spec[key] == wanted[key] for key in self.same)
                and self.accepts(artefact.spec, wanted)
            ]
        )
        return None if found is None else self.completed(found, ensemble.recipe)

    def at_hand(self, ensemble: Any, wanted: dict, here: Here) -> tuple[list[Artefact], list[int]]:
        """Artefacts that serve for samples of ``wanted``, and the samples that none of them has."""
        known = self.find(ensemble, wanted, here)
        if known is None:
            return [], wanted["indices"]
        there = set(known.indices.tolist())
        return known.artefacts, [i for i in wanted["indices"] if i not in there]

    def stored_artefacts(self, recipe: Recipe, here: Here, **like) -> list[Artefact]:
        """The artefacts of one ensemble and seed: the published ensemble's, else those of most
        samples.
        """
        recipe = SPACES[recipe.data.space].bind(recipe, here.store)
        packed = here.store.find("ensemble", recipe.label, recipe.model_spec)
        groups: dict[tuple, list[Artefact]] = {}
        for artefact in here.store.find_all(self.folder, recipe.label):
            spec = artefact.spec
            # A variant of a recipe has its name but is another one; so is another way to sample.
            if packed:
                mine = spec["ensemble"] == packed.info["identity"]
            else:
                mine = self.belongs(artefact, recipe)
            if mine and self.accepts(spec, {}) and spec["sampling"] == spec_of(recipe.sampling):
                groups.setdefault((spec["ensemble"], spec["seed"]), []).append(artefact)
        return max(groups.values(), key=lambda group: sum(map(self.size, group)), default=[])

    def stored(self, recipe: Recipe, here: Here, **like) -> Value | None:
        """What is at hand of a recipe, without its members, merged; or None."""
        return self.merge(self.stored_artefacts(recipe, here))

    def publish_missing(
        self, ensemble: Any, wanted: dict, here: Here, compute: Callable[[list[int]], Artefact]
    ) -> list[Artefact]:
        """Publishes the samples of ``wanted``: those at hand, and what ``compute`` makes of the
        rest.
        """
        known, missing = self.at_hand(ensemble, wanted, here)
        samples = set(wanted["indices"])
        made = [a for a in known if not a.published and samples & set(a.spec["indices"])]
        if missing:
            made.append(compute(missing))
        return self.publish(made, here)


def fresh_rows(artefacts: Iterable[Artefact]) -> list[tuple[Artefact, list[int]]]:
    """Of each artefact the rows of samples that none before it has; artefacts without any go."""
    seen: set[int] = set()
    fresh = []
    for artefact in artefacts:
        indices = artefact.spec["indices"]
        rows = [row for row, i in enumerate(indices) if i not in seen]
        seen.update(indices)
        if rows:
            fresh.append((artefact, rows))
    return fresh


def rows_of(indices: np.ndarray, wanted: Iterable[int]) -> list[int]:
    """Where samples with these numbers stand among ``indices``; raises KeyError for one that is
    not.
    """
    place = {int(index): row for row, index in enumerate(indices)}
    return [place[int(index)] for index in wanted]


def computed(artefact: Artefact, more: str = "") -> str:
    """On what and when an artefact was computed, in words."""
    provenance = artefact.provenance
    return (
        f"computed on {provenance['hardware']} ({provenance['time'][:10]}, commit "
        f"{provenance['commit']}{more})"
    )


def made(artefact: Artefact, seconds: bool = False) -> str:
    """Whether an artefact is published, and :func:`computed`, with its wall time if asked."""
    place = "published with this repository" if artefact.published else "from this machine"
    more = f", {artefact.info['seconds']:,.0f} s" if seconds else ""
    return f"{place}, {computed(artefact, more)}"
