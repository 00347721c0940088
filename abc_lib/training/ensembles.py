"""Whole ensembles: trained one task a member, packed, published, found again (2.3, 3.1)."""

from collections.abc import Sequence
from pathlib import Path

import torch

from abc_lib.ground.digests import identity_of
from abc_lib.ground.errors import ArtefactError, NotAvailable, unknown
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Store, Workspace
from abc_lib.ground.tasks import run_tasks
from abc_lib.images.latents import FILE
from abc_lib.images.spaces import SPACES
from abc_lib.images.training_set import TrainingSet
from abc_lib.method.code import Codebook, draw_codebook
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Recipe
from abc_lib.training.graphs import BACKENDS, on_onnx
from abc_lib.training.members import (
    CONTROL,
    block_work,
    blocks_of,
    find_member,
    network_of,
    passing_through,
    require_same_images,
    train_members,
)


def _train_task(
    recipe: Recipe, block: list[int | str], splits: list[TrainingSet], store: Store, device: str,
    passing: list[Recipe],
) -> None:  # fmt: skip
    train_members(recipe, block, splits, here=Here(store, device), passing=passing)


def train_ensemble(
    recipe: Recipe,
    images: TrainingSet | None = None,
    members: list[int | str] | None = None,
    here: Here | None = None,
    passing: Sequence[float] = (),
) -> list[Artefact]:
    """Trains the members that are not in the cache yet; returns them all, in order.

    On the way they are also left in the cache as they were at ``passing`` exposures: one training
    of several recipes, where the learning rate is constant.

    ``images`` defaults to the recipe's training set. ``members`` picks some, or
    ``["control"]`` for the single model on the whole set. For a recipe in latents the
    autoencoder and the latents are made first where they are missing.
    """
    here = here or Here()
    home = SPACES[recipe.data.space]
    recipe = home.prepare(recipe, here)
    shorter = passing_through(recipe, passing)
    codebook = draw_codebook(recipe)
    members = list(range(codebook.n)) if members is None else members
    cached = here.store.cached()
    found = {m: find_member(recipe, m, cached) for m in members}
    if images is not None or None in found.values():
        images = home.states(recipe, images, here)

    def split(m: int | str) -> TrainingSet:
        # One at a time: half of a large set for each member would not fit into memory.
        return images.once if m == CONTROL else images.of_sources(codebook.split(m))

    if images is not None:
        for m in members:
            if found[m] is not None:
                mine = split(m)
                require_same_images(found[m], mine, mine.checksum)
    blocks = blocks_of(recipe, [m for m in members if found[m] is None])
    if blocks:
        device = str(here.device)
        # Only the cache: whoever trains has already looked at what is published.
        tasks = (
            (recipe, block, [split(m) for m in block], cached, device, shorter) for block in blocks
        )
        steps, sizes = recipe.training.steps, [len(block) for block in blocks]
        there = len(members) - sum(m in block for m in members for block in blocks)
        works = [block_work(recipe, block, cached) for block in blocks]
        for _ in run_tasks(
            _train_task,
            tasks,
            len(blocks),
            here.device,
            here,
            total=steps * (there + sum(sizes)),
            description=f"training {recipe.label}",
            unit="step",
            poll=TrainingPoll(works, [steps * size for size in sizes], sizes, steps * there),
        ):
            pass
    return cached_members(recipe, here, members)


class TrainingPoll:
    """How far work in workspaces has come, from the notes that it leaves: a ``poll`` for tasks.

    ``works`` are the workspaces and the folders of what is being made, ``wholes`` what each
    counts when it is done; a note's first number counts ``times`` that, and ``before`` what was
    done already.
    """

    def __init__(
        self, works: list[tuple[Workspace, Path]], wholes: list[int], times: list[int], before: int
    ):
        self.parts, self.before = list(zip(works, wholes, times, strict=True)), before

    def __call__(self) -> tuple[int, str]:
        done, losses = self.before, []
        for (space, folder), whole, times in self.parts:
            note = space.read_note().split()
            if note:
                done += int(note[0]) * times
                losses.append(float(note[1]))
            elif folder.is_dir():
                done += whole
        return done, f"loss {sum(losses) / len(losses):.4f}" if losses else ""


def trained_from(artefacts: list[Artefact]) -> dict:
    """Of what several artefacts were made of: commits, hardware, the last time, all seconds."""
    seconds = (a.info.get("seconds", a.info.get("training_seconds", 0)) for a in artefacts)
    return {
        "training_seconds": round(sum(seconds), 1),
        "trained_from": sorted({a.provenance["commit"] for a in artefacts}),
        "trained_on": sorted({a.provenance["hardware"] for a in artefacts}),
        "trained_at": max(a.provenance["time"] for a in artefacts),
    }


def pack_ensemble(
    recipe: Recipe, artefacts: list[Artefact], publish: bool = True, here: Here | None = None
) -> Artefact:
    """One artefact of a whole ensemble: ``members.safetensors`` and ``code.safetensors``.

    Of the losses of all steps only the last go along, in its info.
    """
    store = (here or Here()).store
    recipe = SPACES[recipe.data.space].bind(recipe, store)
    parameters = [a.tensors("member.safetensors") for a in artefacts]
    tensors = {
        f"{i:02d}.{name}": value
        for i, member in enumerate(parameters)
        for name, value in member.items()
    }
    info = {
        "origin": artefacts[0].info["origin"],
        "identity": identity_of(parameters),
        "loss": [a.info["loss"] for a in artefacts],
        "images": [a.info["images"] for a in artefacts],
        **trained_from(artefacts),
    }
    files = {
        "members.safetensors": tensors,
        "code.safetensors": {"words": torch.from_numpy(draw_codebook(recipe).words)},
    }
    if FILE in artefacts[0].manifest["files"]:
        files[FILE] = artefacts[0].tensors(FILE)
    return store.write("ensemble", recipe.label, recipe.model_spec, files, info, publish=publish)


def publish_ensemble(recipe: Recipe, here: Here | None = None) -> list[Artefact]:
    """Publishes the ensemble with all its members, trained if need be.

    Before it goes the basic autoencoder whose latents they live in: without it nobody could
    look at a sample.
    """
    here = here or Here()
    home = SPACES[recipe.data.space]
    recipe = home.bind(recipe, here.store)
    packed = here.store.find("ensemble", recipe.label, recipe.model_spec)
    if packed:
        return [packed]
    members = train_ensemble(recipe, here=here)
    recipe = home.bind(recipe, here.store)
    return [*home.publish(recipe, here), pack_ensemble(recipe, members, here=here)]


def cached_members(
    recipe: Recipe, here: Here | None = None, members: list[int | str] | None = None
) -> list[Artefact] | None:
    """The artefacts of ``members``, by default all, if every one of them is in the cache.

    Raises :class:`ArtefactError` where they were trained on different data.
    """
    cached = (here or Here()).store.cached()
    members = list(range(recipe.code.n)) if members is None else members
    found = [find_member(recipe, m, cached) for m in members]
    if None in found:
        return None
    origins = {a.info["origin"] for a in found}
    if len(origins) > 1:
        raise ArtefactError(
            f"the members of {recipe.label} were trained on different data "
            f"({', '.join(sorted(origins))}); delete {found[0].path.parent} and train again"
        )
    return found


def find_ensemble(recipe: Recipe, here: Here | None = None) -> Ensemble | None:
    """The ensemble if it was published or all its members are in the cache; else None."""
    here = here or Here()
    home = SPACES[recipe.data.space]
    recipe = home.bind(recipe, here.store)
    packed = here.store.find("ensemble", recipe.label, recipe.model_spec)
    if packed is not None:
        codebook = Codebook(packed.tensors("code.safetensors")["words"].numpy())
        tensors = packed.tensors("members.safetensors")
        parameters = [
            {name[3:]: v for name, v in tensors.items() if name.startswith(f"{i:02d}.")}
            for i in range(codebook.n)
        ]
        artefact = packed
    else:
        artefacts = cached_members(recipe, here)
        if artefacts is None:
            return None
        codebook = draw_codebook(recipe)
        parameters = [a.tensors("member.safetensors") for a in artefacts]
        artefact = artefacts[-1]
    members = [network_of(recipe, member) for member in parameters]
    space = home.read(recipe, artefact, here)
    return Ensemble(recipe, codebook, members, identity_of(parameters), artefact, space)


def require_ensemble(recipe: Recipe, here: Here | None = None) -> Ensemble:
    """:func:`find_ensemble`, for work that trains nothing.

    Raises :class:`NotAvailable` where there is none.
    """
    ensemble = find_ensemble(recipe, here)
    if ensemble is None:
        raise NotAvailable(
            f"{recipe.label} is neither published nor trained on this machine; run python -m "
            f"abc_lib publish {recipe.name} first"
        )
    return ensemble


def get_ensemble(
    recipe: Recipe, here: Here | None = None, backend: str = "torch", passing: Sequence[float] = ()
) -> Ensemble:
    """The recipe's ensemble, on ``here.device``: published, else from the cache, else trained now.

    With ``here.anew()`` what is published does not count; what this machine already trained,
    or half trained, is still used. The ``backend`` ``onnx`` evaluates members by
    :func:`on_onnx`. ``passing`` goes to :func:`train_ensemble`.
    """
    here = here or Here()
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    ensemble = find_ensemble(recipe, here)
    if ensemble is None:
        train_ensemble(recipe, here=here, passing=passing)
        ensemble = find_ensemble(recipe, here.anew())
    return on_onnx(ensemble) if backend == "onnx" else ensemble.to(here.device)


def single_model(recipe: Recipe, here: Here | None = None) -> Ensemble:
    """The single model trained on the whole training set (the control of 3.1).

    Published, cached, or trained now. As an ensemble whose n members are all that model, so
    that what samples from an ensemble samples from it; with the weights of
    :func:`abc_lib.results.fids.member_weights` it is evaluated once a step.
    """
    here = here or Here()
    home = SPACES[recipe.data.space]
    recipe = home.bind(recipe, here.store)
    artefact = find_member(recipe, CONTROL, here.store)
    if artefact is None:
        (artefact,) = train_ensemble(recipe, members=[CONTROL], here=here)
    parameters = artefact.tensors("member.safetensors")
    codebook = draw_codebook(recipe)
    members = [network_of(recipe, parameters)] * codebook.n
    space = home.read(recipe, artefact, here)
    ensemble = Ensemble(recipe, codebook, members, identity_of([parameters]), artefact, space)
    return ensemble.to(here.device)
