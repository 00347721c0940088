"""Real processes, really killed: what they leave is gone on with, to the same bytes."""

import os
import random
import shutil
import time
from pathlib import Path

import pytest
from small import budget, tiny_recipe

from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.method.code import draw_codebook
from abc_lib.training.ensembles import find_ensemble, train_ensemble
from abc_lib.training.members import member_spec

STEPS, SAMPLES, BLOCK = 20, 3, 2


def kill_until_done(zygote, kills, seed, start, finished, partial):
    """Starts a worker, kills it at a random moment after its work can be seen, again and again;
    then lets one finish.

    ``start(cache number)`` starts it, ``finished(cache number)`` checks a finished
    cache, ``partial(cache number)`` is the folder of its unfinished work. When a worker
    gets to the end before it is killed, the next ones start from nothing.
    """
    rng, cache, done = random.Random(seed), 0, 0
    while done < kills:
        pid = start(cache)
        # A change is a piece, a temporary file or a note that comes or goes.
        changes, seen, wanted = 0, None, rng.randrange(1, 12)
        while (code := zygote.poll(pid)) is None and changes < wanted:
            now = {name for _, _, names in os.walk(partial(cache)) for name in names}
            changes, seen = changes + (seen is not None and now != seen), now
            time.sleep(0.001)
        if code is None:
            time.sleep(rng.uniform(0, 0.003))
            code = zygote.kill(pid)
        assert code in (0, -9)
        done += code == -9
        if code == 0:
            finished(cache)
            cache += 1
    assert zygote.wait(start(cache)) == 0
    finished(cache)


def data_files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file()
        and p.name != "manifest.json"
        and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    }


def kill_training(zygote, kills, tmp_path):
    recipe = tiny_recipe(STEPS)
    train_ensemble(
        recipe, here=Here(Store(tmp_path / "whole", None), "cpu", jobs=1, progress=False)
    )
    whole = data_files(tmp_path / "whole" / "member")
    assert len(whole) == 12

    def finished(cache):
        store = Store(tmp_path / str(cache), None)
        assert data_files(store.cache / "member") == whole
        for member in range(draw_codebook(recipe).n):
            store.find(
                "member", f"{recipe.label}-m{member:02d}", member_spec(recipe, member)
            ).verify()
        assert list((store.cache / "partial").rglob("*.safetensors")) == []
        assert find_ensemble(recipe, here=Here(store)) is not None

    kill_until_done(
        zygote,
        kills,
        1,
        lambda cache: zygote.start("train", tmp_path / str(cache), STEPS),
        finished,
        lambda cache: tmp_path / str(cache) / "partial",
    )


def kill_landscapes(zygote, kills, tmp_path, trained, memory):
    def start(cache):
        return zygote.start(
            "landscapes", trained.store.cache, tmp_path / str(cache), SAMPLES, memory
        )

    assert zygote.wait(start("whole")) == 0
    whole = data_files(tmp_path / "whole" / "landscape")
    assert len(whole) == 3 + SAMPLES

    def finished(cache):
        store = Store(tmp_path / str(cache), None)
        assert data_files(store.cache / "landscape") == whole
        (artefact,) = store.find_all("landscape", trained.recipe.label)
        artefact.verify()
        assert artefact.info["block"] == BLOCK
        assert list((store.cache / "partial").rglob("*.safetensors")) == []

    kill_until_done(
        zygote, kills, 2, start, finished, lambda cache: tmp_path / str(cache) / "partial"
    )


@pytest.fixture
def memory(trained):
    return budget(trained.ensemble, BLOCK)


@pytest.mark.slow
def test_training_killed_twice_ends_with_the_same_bytes(zygote, tmp_path):
    kill_training(zygote, 2, tmp_path)


@pytest.mark.slow
def test_landscapes_killed_twice_end_with_the_same_bytes(zygote, tmp_path, trained, memory):
    kill_landscapes(zygote, 2, tmp_path, trained, memory)


@pytest.mark.slow
def test_training_killed_ten_times_ends_with_the_same_bytes(zygote, tmp_path):
    kill_training(zygote, 10, tmp_path)


@pytest.mark.slow
def test_landscapes_killed_ten_times_end_with_the_same_bytes(zygote, tmp_path, trained, memory):
    kill_landscapes(zygote, 10, tmp_path, trained, memory)


@pytest.mark.parametrize("what", [pytest.param("train", marks=pytest.mark.slow), "landscapes"])
def test_who_start_at_once_end_whole_or_with_a_line_though_the_folder_is_deleted(
    zygote, tmp_path, trained, memory, what, one_line
):
    """The lock's first holder was killed, and somebody deletes the unfinished work all the time."""
    given = {
        "train": lambda cache: (cache, STEPS),
        "landscapes": lambda cache: (trained.store.cache, cache, SAMPLES, memory),
    }[what]
    whole, cache = tmp_path / "whole", tmp_path / "cache"
    assert zygote.wait(zygote.start(what, *given(whole))) == 0
    first = zygote.start(what, *given(cache))
    while zygote.poll(first) is None and not any((cache / "partial").rglob("*.safetensors")):
        time.sleep(0.001)
    assert zygote.kill(first) in (0, -9)
    outs = [tmp_path / str(k) for k in range(3)]
    waiting = {zygote.start("told", what, out, *given(cache)) for out in outs}
    deleted = 0
    while waiting:
        deleted += any((cache / "partial").rglob("*.safetensors"))
        shutil.rmtree(cache / "partial", ignore_errors=True)
        ended = {pid for pid in waiting if zygote.poll(pid) is not None}
        assert all(zygote.poll(pid) == 0 for pid in ended)
        waiting -= ended
        time.sleep(0.002)
    assert deleted
    said = [out.read_text() for out in outs]
    assert all(text == "" or (one_line(text) and "run again" in text) for text in said)
    # and once the folder is left alone, all is as if nothing had been
    assert zygote.wait(zygote.start(what, *given(cache))) == 0
    kind = {"train": "member", "landscapes": "landscape"}[what]
    assert data_files(cache / kind) == data_files(whole / kind) != {}
