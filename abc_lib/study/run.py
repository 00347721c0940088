"""Works through the plan within a time budget."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from abc_lib.ground.errors import AbcError
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact
from abc_lib.method.space import state_shape
from abc_lib.study.plan import Piece, seconds_per_evaluation


def say_at_once(line: str) -> None:
    """Prints a line that a reader of the file sees at once, too."""
    print(line, flush=True)


@dataclass(frozen=True)
class Outcome:
    """What became of a piece, and in ``note`` why or how long.

    ``state`` is ``done``, ``at hand``, ``left out`` (no time for it) or ``impossible``.
    """

    piece: Piece
    state: str
    note: str = ""
    artefacts: list[Artefact] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.piece}: {self.state}" + (f" ({self.note})" if self.note else "")


class _Pace:
    """How long pieces take here: measured evaluations, corrected by how estimates turned out."""

    def __init__(self, here: Here):
        self.here = here
        self.measured: dict[tuple, float] = {}
        self.factors: dict[str, float] = {}

    def seconds(self, piece: Piece) -> float:
        """What the piece should take."""
        key = (piece.recipe.network, state_shape(piece.recipe.data))
        if key not in self.measured:
            self.measured[key] = seconds_per_evaluation(piece.recipe, self.here.device)
        return piece.evaluations * self.measured[key] * self.factors.get(piece.what, 1.0)

    def learn(self, piece: Piece, estimated: float, took: float) -> None:
        """The next piece of this kind is estimated better."""
        ratio = max(0.1, min(10.0, took / max(estimated, 1e-6)))
        self.factors[piece.what] = self.factors.get(piece.what, 1.0) * ratio


def estimate_study(
    pieces: Iterable[Piece], say: Callable[[str], None] = say_at_once, here: Here | None = None
) -> float:
    """Says of each piece whether it is at hand or about how long it would take here.

    That is measured now. Returns the seconds of all that is missing.
    """
    here = here or Here()
    pace, total = _Pace(here), 0.0
    for piece in pieces:
        try:
            missing = piece.at_hand(here) is None
            seconds = pace.seconds(piece) if missing else 0.0
            words = f"about {seconds / 60:,.1f} minutes" if missing else "at hand"
        except AbcError as error:
            seconds, words = 0.0, f"impossible ({error})"
        say(f"{piece}: {words}")
        total += seconds
    say(f"all that is missing: about {total / 3600:,.1f} hours")
    return total


def run_study(
    pieces: Iterable[Piece],
    hours: float | None = None,
    say: Callable[[str], None] = say_at_once,
    done: Callable[[Artefact], object] | None = None,
    here: Here | None = None,
) -> list[Outcome]:
    """Does the pieces in order and publishes each as it is finished, as far as ``hours`` go.

    What a piece will take is estimated from its network evaluations and a measurement of this
    machine, corrected by how earlier estimates of the same kind turned out; one for which too
    little time is left is left out. Everything underneath can be stopped and gone on with, so
    a killed study loses a few seconds of work; the next call finds what is there. ``done``
    is called with each artefact that a piece made. A piece that cannot be done here (no data,
    no weights) is reported and passed over, and so are those that need it.
    """
    here = here or Here()
    end = float("inf") if hours is None else time.monotonic() + hours * 3600
    pace, outcomes = _Pace(here), []
    for piece in pieces:
        try:
            outcome = _one(piece, end, pace)
        except AbcError as error:
            outcome = Outcome(piece, "impossible", str(error))
        outcomes.append(outcome)
        say(str(outcome))
        if done is not None and outcome.state == "done":
            for artefact in outcome.artefacts:
                done(artefact)
    return outcomes


def _one(piece: Piece, end: float, pace: _Pace) -> Outcome:
    at_hand = piece.at_hand(pace.here)
    if at_hand is not None:
        # published too, if it was only in the cache
        return Outcome(piece, "at hand", artefacts=piece.keep(pace.here, at_hand))
    estimate = pace.seconds(piece)
    left = max(0.0, end - time.monotonic())
    if estimate > left:
        note = f"needs about {estimate / 60:,.1f} minutes, {left / 60:,.1f} are left"
        return Outcome(piece, "left out", note)
    begun = time.monotonic()
    artefacts = piece.make(pace.here)
    took = time.monotonic() - begun
    pace.learn(piece, estimate, took)
    return Outcome(piece, "done", f"{took:,.0f} s, estimated {estimate:,.0f} s", artefacts)
