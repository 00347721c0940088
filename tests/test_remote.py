"""A store that machines without a common folder see: whole or absent, checked, one of each."""

import json
import multiprocessing
import os
import pickle
import shutil
import threading

import fsspec
import numpy as np
import pytest
import torch
from clusters import Dask, free_port
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from small import tiny_recipe
from stops import steps_that_stop

from abc_lib.ground.errors import AbcError, ArtefactError, BadValue, NotAvailable
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store, Workspace
from abc_lib.ground.tasks.spool import LEAST, Spool
from abc_lib.training.ensembles import find_ensemble, train_ensemble
from abc_lib.training.members import train_members

SPEC = {"seed": 1}


@pytest.fixture(params=["memory", "file"])
def address(request, tmp_path):
    """An address that nobody else has."""
    if request.param == "file":
        return f"file://{tmp_path}/far"
    return f"memory://{tmp_path.name}-{os.getpid()}"


@pytest.fixture
def machines(address, tmp_path):
    """Stores of two machines: their caches are their own."""
    return [Store(tmp_path / name, None, remote=address) for name in ("here", "there")]


def made(store, text="x", spec=SPEC):
    files = {"a.bin": text.encode(), "t.safetensors": {"x": torch.arange(5.0)}}
    return store.write("kind", "label", spec, files, {"text": text})


def files_of(store):
    """Every file at the remote, by its path there."""
    files, root = fsspec.core.url_to_fs(store.remote.address)
    found = files.find(root)
    return {path.split(root.strip("/") + "/", 1)[1]: path for path in found}, files


# --- artefacts ---


def test_what_one_machine_made_another_one_finds(machines):
    here, there = machines
    mine = made(here)
    found = there.find("kind", "label", SPEC)
    assert found.manifest == mine.manifest and found.path != mine.path
    assert [found.read(name) for name in found.manifest["files"]] == [
        mine.read(name) for name in mine.manifest["files"]
    ]
    found.verify()
    made(here, "y", {"seed": 2})
    assert {each.info["text"] for each in there.find_all("kind", "label")} == {"x", "y"}
    assert there.find("kind", "label", {"seed": 3}) is None

    def never(workspace):
        raise AssertionError

    assert there.once("kind", "label", SPEC, never).manifest == mine.manifest
    # Without the address they are strangers, but what was fetched stays.
    assert Store(there.cache, None, remote=None).find("kind", "label", SPEC) is not None
    assert Store(here.cache.parent / "third", None, remote=None).find("kind", "label", SPEC) is None


def test_of_two_that_made_the_same_the_second_takes_the_first_ones(machines):
    here, there = machines
    first, second = made(here, "first"), made(there, "second")
    assert second.info == {"text": "first"} and second.read("a.bin") == b"first"
    second.verify()
    assert second.manifest == first.manifest == made(here, "third").manifest


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=8))
def test_whatever_two_machines_do_they_end_with_the_same(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("far")
    stores = [Store(folder / str(k), None, remote=f"memory://{folder.name}-far") for k in range(2)]
    first = {}
    for k, (machine, seed) in enumerate(steps):
        found = made(stores[machine], f"made {k}", {"seed": seed})
        assert found.info["text"] == first.setdefault(seed, f"made {k}")
    for seed, text in first.items():
        for store in stores:
            found = store.find("kind", "label", {"seed": seed})
            found.verify()
            assert found.info["text"] == text


def test_a_machine_killed_before_the_manifest_leaves_nothing_that_is_found(machines, monkeypatch):
    here, there = machines
    with monkeypatch.context() as patch:
        patch.setattr(type(here.remote), "create", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            made(here)
    assert files_of(here)[0] and there.find("kind", "label", SPEC) is None
    assert there.find_all("kind", "label") == []
    assert made(there, "later").info["text"] == "later"
    assert Store(here.cache.parent / "third", None, remote=here.remote).find("kind", "label", SPEC)


def test_half_a_manifest_counts_as_none_and_is_replaced(machines):
    here, there = machines
    mine = made(here)
    (name,) = [name for name in files_of(here)[0] if name.count("/") == 2]
    here.remote.write(name, (mine.path / "manifest.json").read_bytes()[:40])
    assert there.find("kind", "label", SPEC) is None
    assert made(there, "again").info["text"] == "again"
    assert json.loads(there.remote.read(name))["info"]["text"] == "again"


@pytest.mark.parametrize("spoilt", [b"y", b"", None])
def test_a_damaged_file_is_refused_by_name(machines, spoilt, one_line):
    here, there = machines
    made(here)
    (name,) = [name for name in files_of(here)[0] if name.endswith("a.bin")]
    here.remote.remove(name) if spoilt is None else here.remote.write(name, spoilt)
    with pytest.raises(ArtefactError, match="a.bin.*refused.*computed again") as error:
        there.find("kind", "label", SPEC)
    assert one_line(error)
    assert not list(there.cache.glob("kind/*"))


def _race(cache, address, barrier, results):
    store = Store(cache, None, remote=address)
    barrier.wait()
    found = store.once("kind", "label", SPEC, lambda workspace: made(store, str(cache)))
    found.verify()
    results.put(found.info["text"])


def test_machines_that_race_end_with_one(tmp_path):
    context = multiprocessing.get_context("fork")
    for turn in range(5):
        barrier, results = context.Barrier(4), context.Queue()
        address = f"file://{tmp_path}/far{turn}"
        some = [
            context.Process(
                target=_race, args=(tmp_path / f"{turn}-{k}", address, barrier, results)
            )
            for k in range(4)
        ]
        for each in some:
            each.start()
        texts = {results.get(timeout=60) for _ in some}
        for each in some:
            each.join()
        assert len(texts) == 1


# --- addresses ---


class Odd(MemoryFileSystem):
    """A file system with a fault of its own."""

    protocol, fault = "odd", ""

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("odd://", "memory://"))

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        if self.fault == "modes" and mode != "overwrite":
            raise TypeError("unexpected mode")
        if self.fault == "replaces":
            mode = "overwrite"
        super().pipe_file(path, value, mode=mode)

    def cat_file(self, path, *args, **kwargs):
        data = super().cat_file(path, *args, **kwargs)
        return data[:-1] if self.fault == "cuts" else data

    def ls(self, path, *args, **kwargs):
        return [] if self.fault == "blind" else super().ls(path, *args, **kwargs)


@pytest.mark.parametrize(
    "fault, told",
    [
        ("modes", "write, create and list"),
        ("replaces", "refuse to create what is there"),
        ("cuts", "give back what was written"),
        ("blind", "list what was written"),
    ],
)
def test_a_file_system_that_does_not_offer_what_is_counted_on_is_refused(
    fault, told, tmp_path, monkeypatch, one_line
):
    fsspec.register_implementation("odd", Odd, clobber=True)
    monkeypatch.setattr(Odd, "fault", fault)
    store = Store(tmp_path, None, remote=f"odd://{fault}")
    with pytest.raises(NotAvailable, match=f"cannot be the store.*{told}") as error:
        made(store)
    assert one_line(error)
    monkeypatch.setattr(Odd, "fault", "")
    assert made(store).info["text"] == "x"


def test_addresses_that_are_none_end_in_a_line(tmp_path, monkeypatch, one_line):
    told = {
        "nonsense://x": (BadValue, "no address that fsspec knows"),
        f"ftp://127.0.0.1:{free_port()}/x": (AbcError, "does not answer"),
        "file:///proc/nowhere": (AbcError, "does not answer"),
    }
    if "s3fs" not in map(str.lower, os.listdir(os.path.dirname(os.path.dirname(fsspec.__file__)))):
        told["s3://bucket/x"] = NotAvailable, "package that is missing"
    for address, (kind, text) in told.items():
        monkeypatch.setenv("ABC_STORE", address)
        with pytest.raises(kind, match=text) as error:
            Store(tmp_path, None).find("kind", "label", SPEC)
        assert one_line(error)
    monkeypatch.setenv("ABC_STORE", "")
    assert Store(tmp_path, None).remote is None


# --- unfinished work ---


def test_pieces_are_those_of_the_machine_that_came_furthest(machines):
    here, there = (each.workspace("kind", "label", SPEC) for each in machines)
    for step, space in enumerate((here, there, here, there)):
        space.save("checkpoint", {"step": torch.tensor(step)})
        for each in (here, there):
            assert each.has("checkpoint") and int(each.need("checkpoint")["step"]) == step
    here.save("checkpoint-2", {"step": torch.tensor(9)})
    assert int(there.load("checkpoint")["step"]) == 3
    there.clear()
    assert not files_of(machines[0])[0]
    shutil.rmtree(here.path)
    assert here.load("checkpoint") is None and not there.has("checkpoint-2")


def test_a_damaged_piece_is_as_good_as_absent(machines):
    here, there = (each.workspace("kind", "label", SPEC) for each in machines)
    here.save("one", {"x": torch.ones(3)})
    (name,) = files_of(machines[0])[0]
    machines[0].remote.write(name, b"cut")
    assert there.load("one") is None
    there.save("one", {"x": torch.zeros(3)})
    assert there.need("one")["x"].sum() == 0


def test_a_member_begun_on_one_machine_is_finished_by_another_with_the_same_bits(
    trained, machines, monkeypatch
):
    stop_at = steps_that_stop(monkeypatch)
    here, there = (Here(each, "cpu", jobs=1, progress=False) for each in machines)
    split = trained.images.of_sources(trained.ensemble.codebook.split(2))
    stop_at(8)
    with pytest.raises(KeyboardInterrupt):
        train_members(trained.recipe, [2], [split], 0.5, here)
    before = []

    def watched(self, name, real=Workspace.load):
        piece = real(self, name)
        before.append(piece is not None)
        return piece

    stop_at(None)
    monkeypatch.setattr(Workspace, "load", watched)
    (artefact,) = train_members(trained.recipe, [2], [split], here=there)
    assert any(before), "it began anew"
    exact = trained.artefacts[2]
    assert all(artefact.read(name) == exact.read(name) for name in exact.manifest["files"])
    assert here.store.find("member", *_key(artefact)).manifest == artefact.manifest


def _key(artefact):
    return artefact.path.name.rsplit("-", 1)[0], artefact.spec


# --- what travels ---


def test_what_every_task_carries_reaches_machines_without_the_folder(machines, tmp_path, one_line):
    large, store = np.arange(LEAST), machines[0]
    spool = Spool(store.cache, store.remote)
    spool.send((large,))
    (sent,) = spool.send((large,))
    shutil.rmtree(store.cache)
    assert np.array_equal(pickle.loads(pickle.dumps(sent)).open(), large)
    spool.clear()
    assert not files_of(store)[0]
    alone, other = Spool(tmp_path / "alone"), large + 1
    alone.send((other,))
    (sent,) = alone.send((other,))
    shutil.rmtree(tmp_path / "alone")
    with pytest.raises(ArtefactError, match="not seen from this machine.*ABC_STORE") as error:
        sent.open()
    assert one_line(error)


def test_a_store_that_travels_takes_the_folders_of_where_it_arrives(tmp_path, monkeypatch, address):
    monkeypatch.setenv("ABC_CACHE", str(tmp_path / "mine"))
    usual, named = Store(remote=address), Store(tmp_path / "named", remote=address)
    alone, space = Store(remote=None), usual.workspace("kind", "label", SPEC)
    sent = pickle.dumps((usual, named, alone, space, usual.cached()))
    monkeypatch.setenv("ABC_CACHE", str(tmp_path / "theirs"))
    usual, named, alone, space, cached = pickle.loads(sent)
    assert usual.cache == cached.cache == tmp_path / "theirs" and cached.published is None
    assert named.cache == tmp_path / "named" and alone.cache == tmp_path / "mine"
    assert space.path.is_relative_to(tmp_path / "theirs") and usual.remote.address == address


@pytest.mark.slow
def test_workers_with_caches_of_their_own_train_an_ensemble(trained, tmp_path, monkeypatch):
    """Nothing is shared but an address; a worker is killed on the way; bits are those of one
    process.
    """
    address = f"file://{tmp_path}/far"
    monkeypatch.setenv("ABC_CACHE", str(tmp_path / "mine"))
    cluster = Dask(2, environment={"ABC_CACHE": str(tmp_path / "theirs")})
    try:
        cluster.wait(2)
        threading.Timer(2.0, cluster.kill_worker).start()
        store = Store(published=None, remote=address)
        here = Here(store, "cpu", progress=False, cluster=cluster.address)
        artefacts = train_ensemble(tiny_recipe(), here=here)
    finally:
        cluster.close()
    assert (tmp_path / "theirs/member").is_dir()
    assert all(each.path.is_relative_to(tmp_path / "mine") for each in artefacts)
    for mine, exact in zip(artefacts, trained.artefacts, strict=True):
        assert all(mine.read(name) == exact.read(name) for name in exact.manifest["files"])
    third = Here(Store(tmp_path / "third", None, remote=address), "cpu", progress=False)
    assert find_ensemble(tiny_recipe(), third).identity == trained.ensemble.identity
