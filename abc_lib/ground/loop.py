"""Training that can be stopped at any moment and goes on to the same bits.

Four things are trained here: members, models in lockstep, autoencoders, classifiers. Each says
what a step is; this says when a checkpoint is written and how one is gone on from.
"""

from collections.abc import Callable
from typing import Protocol

import torch

from abc_lib.ground.store import Workspace, stopwatch

CHECKPOINT_SECONDS = 20.0
_NOTE_SECONDS = 0.5
_MOMENTS = ("exp_avg", "exp_avg_sq")
_FORMAT = 2
STORED = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""the types that recipes name for finished parameters"""


class Trains(Protocol):
    """What can be trained step by step: everything its later steps depend on is in its state."""

    steps: int

    def step(self, k: int) -> None:
        """Takes step number ``k``."""

    def state(self) -> dict[str, torch.Tensor]:
        """All that the next steps depend on."""

    def resume(self, state: dict[str, torch.Tensor], k: int) -> None:
        """Goes back to a state, of before step ``k``."""

    def note(self, k: int) -> str:
        """A few words after step ``k``, for whoever watches."""


def train(
    work: Trains,
    workspace: Workspace,
    name: str = "checkpoint",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    visit: Callable[[int, dict], None] | None = None,
) -> dict:
    """Takes ``work`` through all its steps, from where a stopped run left a checkpoint ``name``.

    A checkpoint is written every ``checkpoint_seconds``, but never takes more than a twentieth of
    the time, however large the networks; for 0, after every step. Returns ``seconds`` and
    ``steps_in_these_seconds``, for a manifest. ``visit(k, so_far)`` is told how many steps are
    done, first of all those of the checkpoint, and what would be returned after them.
    """
    start = 0
    piece = workspace.load(name)
    # What an earlier version left is as good as absent.
    if piece is not None and int(piece.pop("format", 0)) == _FORMAT:
        start = int(piece.pop("step"))
        work.resume(piece, start)
    seconds, saved, cost, told = stopwatch(), 0.0, 0.0, 0.0

    def took(k: int) -> dict:
        return {"seconds": round(seconds(), 1), "steps_in_these_seconds": k - start}

    if visit is not None:
        visit(start, took(start))
    for k in range(start, work.steps):
        work.step(k)
        if visit is not None:
            visit(k + 1, took(k + 1))
        if seconds() - told > _NOTE_SECONDS:
            told = seconds()
            workspace.note(f"{k + 1} {work.note(k)}")
        due = seconds() - saved > max(checkpoint_seconds, 20 * cost) and k + 1 < work.steps
        if due or checkpoint_seconds == 0:
            before = seconds()
            state = {key: value.detach().cpu().contiguous() for key, value in work.state().items()}
            mark = {"format": torch.tensor(_FORMAT), "step": torch.tensor(k + 1)}
            workspace.save(name, mark | state)
            saved = seconds()
            cost = saved - before
    return took(work.steps)


def loss_note(losses: torch.Tensor, k: int) -> str:
    """The mean loss (..., steps) over the last hundred steps up to ``k``, as text."""
    return f"{float(losses[..., max(0, k - 99) : k + 1].mean()):.4f}"


def last_loss(losses: torch.Tensor) -> float:
    """The mean loss over the last 200 steps, to six digits."""
    return round(float(losses[-min(200, len(losses)) :].mean()), 6)


def network_state(net: torch.nn.Module, adam: torch.optim.Adam) -> dict[str, torch.Tensor]:
    """A network and its Adam as tensors, by the parameters' names."""
    state = {f"value.{name}": value for name, value in net.state_dict().items()}
    for name, parameter in net.named_parameters():
        for key in _MOMENTS:
            state[f"{key}.{name}"] = adam.state[parameter][key]
        state["updates"] = adam.state[parameter]["step"]
    return state


def resume_network(
    net: torch.nn.Module, adam: torch.optim.Adam, state: dict[str, torch.Tensor]
) -> None:
    """Puts :func:`network_state` back."""
    prefix = "value."
    values = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    net.load_state_dict(values)
    for name, parameter in net.named_parameters():
        moments = {key: state[f"{key}.{name}"].to(parameter.device) for key in _MOMENTS}
        # One each: Adam counts in place.
        steps = state["updates"].clone().to(parameter.device)
        adam.state[parameter] = {"step": steps, **moments}
