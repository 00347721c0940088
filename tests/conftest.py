"""What several tests share: a cache of their own, and an ensemble that trains in seconds."""

import os
import sys
from types import SimpleNamespace

import forks
import pytest
import torch
from small import tiny_recipe

from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.images.training_set import training_set
from abc_lib.training.ensembles import find_ensemble, train_ensemble


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads or writes what this machine computed for its user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small only get slower on more threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk():
    """Files are whole for whoever reads them here without having reached the disk.

    Only a power cut would tell, and waiting takes longer than what is computed. Processes that the
    tests start, and kill, do wait.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def store(tmp_path):
    """An empty store: a cache, and a place to publish in."""
    return Store(tmp_path / "cache", tmp_path / "published")


@pytest.fixture
def here(store):
    """Work in that store, one task at a time and without a bar."""
    return Here(store, "cpu", jobs=1, progress=False)


@pytest.fixture(scope="session")
def tiny():
    """12 real digits, 6 members of weight 3, 12 training steps, 6 sampling steps."""
    return tiny_recipe()


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """The trained tiny ensemble: ``recipe``, ``store``, ``images``, ``artefacts``, ``ensemble``.

    Not to be changed.
    """
    store = Store(tmp_path_factory.mktemp("trained"), None)
    artefacts = train_ensemble(tiny, here=Here(store, "cpu", jobs=1, progress=False))
    before = set(store.cache.glob("*/digits*"))
    yield SimpleNamespace(
        recipe=tiny,
        store=store,
        images=training_set(tiny.data),
        artefacts=artefacts,
        ensemble=find_ensemble(tiny, here=Here(store)),
    )
    # What one test leaves here, another finds: then whether it passes hangs on the order of the
    # tests.
    added = set(store.cache.glob("*/digits*")) - before
    assert not added, "a test computed in the trained store; own_store is for that"


@pytest.fixture(scope="session")
def zygote():
    """Starts worker processes that can be killed, without the wait for their imports."""
    with forks.Zygote() as running:
        yield running


@pytest.fixture
def one_line():
    """Whether an error is a single line that can be shown to a user."""

    def check(error):
        text = str(error.value if hasattr(error, "value") else error)
        return bool(text) and "\n" not in text and "Traceback" not in text

    return check


@pytest.fixture
def argv(monkeypatch):
    """Sets the command line."""
    return lambda *words: monkeypatch.setattr(sys, "argv", ["abc_lib", *words])
