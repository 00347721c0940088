"""Work that is stopped as Ctrl-C would stop it."""

import random

from abc_lib.ground import loop
from abc_lib.ground.store import Workspace
from abc_lib.training.batches import Batches


def until_done(monkeypatch, work, chance, seed):
    """Calls ``work`` until it is through, while pieces are sometimes not saved but the work is
    stopped.

    Returns what it returned, how often it was stopped, and the names of all pieces that were saved.
    """
    real, pieces, rng, stops = Workspace.save, [], random.Random(seed), 0

    def save(self, name, tensors):
        if rng.random() < chance:
            raise KeyboardInterrupt
        pieces.append(name)
        real(self, name, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "save", save)
        while True:
            try:
                return work(), stops, pieces
            except KeyboardInterrupt:
                stops += 1


def counted(function, stop_at=None):
    """``function`` with a list ``calls`` that grows by each call; the ``stop_at``-th is stopped."""

    def call(*arguments):
        call.calls.append(arguments)
        if len(call.calls) == stop_at:
            raise KeyboardInterrupt
        return function(*arguments)

    call.calls = []
    return call


def steps_that_stop(monkeypatch):
    """Returns a function that lets training run up to a step and stops it there.

    Every step before leaves a checkpoint.
    """
    clock, real = [0.0], Batches.indices
    # Time passes between steps only, so that when a checkpoint is due does not depend on the
    # machine.
    monkeypatch.setattr(loop, "stopwatch", lambda: lambda: clock[0])

    def arrange(step):
        def indices(self, k):
            if k == step:
                raise KeyboardInterrupt
            clock[0] += 1.0
            return real(self, k)

        monkeypatch.setattr(Batches, "indices", indices)

    return arrange
