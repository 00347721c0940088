"""Works through the plan within a time budget."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from abc_lib.ground.devices import resolve_device
from abc_lib.ground.errors import AbcError
from abc_lib.ground.store import Artefact, Store
from abc_lib.method.space import state_shape
from abc_lib.study.parcels import Parcels
from abc_lib.study.plan import Piece, seconds_per_evaluation


@dataclass(frozen=True)
class Outcome:
    """What became of a piece: ``done``, ``at hand``, ``left out`` (no time for it) or ``impossible``; ``note`` says why or how long."""

    piece: Piece
    state: str
    note: str
    artefacts: list[Artefact]

    def __str__(self) -> str:
        return f"{self.piece}: {self.state}" + (f" ({self.note})" if self.note else "")


def _estimate(piece: Piece, target, pace: dict) -> float:
    """Seconds on this machine; ``pace`` holds what was measured before."""
    key = (piece.recipe.network, state_shape(piece.recipe.data))
    if key not in pace:
        pace[key] = seconds_per_evaluation(piece.recipe, target)
    return piece.evaluations * pace[key]


def estimate_study(
    pieces: Iterable[Piece],
    store: Store | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> float:
    """Says of each piece whether it is at hand or about how long it would take here, by a measurement made now; returns the seconds of what is missing."""
    store, target, pace, total = store or Store(), resolve_device(device), {}, 0.0
    for piece in pieces:
        try:
            found, seconds = piece.at_hand(store), 0.0
            if found is None:
                seconds = _estimate(piece, target, pace)
            say(
                f"{piece}: "
                + ("at hand" if found is not None else f"about {seconds / 60:,.1f} minutes")
            )
        except AbcError as error:
            say(f"{piece}: impossible ({error})")
            continue
        total += seconds
    say(f"all that is missing: about {total / 3600:,.1f} hours")
    return total


def run_study(
    pieces: Iterable[Piece],
    hours: float | None = None,
    store: Store | None = None,
    device: str = "auto",
    parcels: Parcels | None = None,
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Does the pieces in order and publishes each as it is finished; those for which the ``hours`` left are too few are left out.

    What a piece will take is estimated from its network evaluations and a measurement of this
    machine, corrected by how earlier estimates of the same kind turned out. Everything
    underneath can be stopped and gone on with, so a killed study loses a few seconds of
    work; the next call finds what is there. What a piece made is put into ``parcels`` as
    well, if there are any. A piece that cannot be done here (no data, no weights) is
    reported and passed over, and so are those that need it.
    """
    store, target = store or Store(), resolve_device(device)
    start, pace, factors, outcomes = time.monotonic(), {}, {}, []
    for piece in pieces:
        outcome = _one(piece, hours, start, store, target, device, pace, factors)
        outcomes.append(outcome)
        say(str(outcome))
        if parcels is not None and outcome.state == "done":
            for artefact in outcome.artefacts:
                parcels.add(artefact)
    return outcomes


def _one(piece: Piece, hours, start, store, target, device, pace, factors) -> Outcome:
    try:
        found = piece.at_hand(store)
        if found is not None:
            # published too, if it was only in the cache
            return Outcome(piece, "at hand", "", piece.keep(store, found))
        estimate = _estimate(piece, target, pace) * factors.get(piece.what, 1.0)
        left = float("inf") if hours is None else hours * 3600 - (time.monotonic() - start)
        if estimate > left:
            return Outcome(
                piece,
                "left out",
                f"needs about {estimate / 60:,.1f} minutes, {max(0.0, left) / 60:,.1f} are left",
                [],
            )
        begun = time.monotonic()
        artefacts = piece.make(store, device)
    except AbcError as error:
        return Outcome(piece, "impossible", str(error), [])
    took = time.monotonic() - begun
    factors[piece.what] = factors.get(piece.what, 1.0) * max(
        0.1, min(10.0, took / max(estimate, 1e-6))
    )
    return Outcome(piece, "done", f"{took:,.0f} s, estimated {estimate:,.0f} s", artefacts)
