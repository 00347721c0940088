"""The same work on Dask: the same bits, workers and schedulers killed, and what travels."""

import os
import pickle
import random
import signal
import threading
import time

import numpy as np
import papermill
import pytest
import torch
from clusters import Dask, free_port
from forks import ROOT

from abc_lib.ground.errors import AbcError, ArtefactError, BadValue, NotAvailable
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.ground.tasks import run_tasks
from abc_lib.ground.tasks.spool import LEAST, Spool
from abc_lib.images.registry import get_recipe
from abc_lib.results.landscapes import compute as compute_landscapes
from abc_lib.training.ensembles import find_ensemble

Client = pytest.importorskip("distributed").Client
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dask():
    cluster = Dask()
    yield cluster
    cluster.close()


def tasks(function, arguments, cluster, store=None):
    here = Here(store or Store(), "cpu", progress=False, cluster=cluster)
    more = {"total": len(arguments), "description": "tasks", "unit": "task"}
    return run_tasks(function, arguments, len(arguments), CPU, here, **more)


def square(x, weight):
    return x * x, torch.get_num_threads(), os.getpid(), float(np.sum(weight))


def slowly(x):
    time.sleep(0.2)
    return x


# --- what travels ---


def test_what_every_task_carries_travels_once(tmp_path):
    large, small = np.zeros(LEAST), np.zeros(3)
    spool = Spool(tmp_path)
    sent = [spool.send((k, large, small)) for k in range(5)]
    assert sent[0][1] is large  # nobody knows yet that it comes again
    assert all(each[1] is sent[1][1] and each[2] is small for each in sent[1:])
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 1
    assert np.array_equal(sent[3][1].open(), large) and sent[3][1].open() is sent[2][1].open()
    assert [each[0] for each in sent] == list(range(5))
    spool.clear()
    assert not list((tmp_path / "partial/travel").iterdir())


def test_what_travels_damaged_is_not_believed(tmp_path, one_line):
    spool, large = Spool(tmp_path), np.zeros(LEAST)
    spool.send((large,))
    (sent,) = spool.send((large,))
    sent.path.write_bytes(pickle.dumps("another thing"))
    with pytest.raises(ArtefactError, match="damaged") as error:
        sent.open()
    assert one_line(error)


@pytest.mark.parametrize("name, times", [("digits_64", 100), ("mnist_1024", 50)])
def test_a_block_of_a_landscape_is_lighter_by_far(name, times, tmp_path):
    """Bytes a block of 64 trajectories, the whole ensemble with it and not."""
    ensemble = find_ensemble(get_recipe(name), Here(Store(tmp_path), "cpu"))
    spool, sizes = Spool(tmp_path / "travel"), []
    noise = ensemble.draw_noise(0, range(3))
    for block in range(3):
        arguments = (ensemble, noise[[block]], np.arange(64), tmp_path, f"block-{block}")
        sizes.append((len(pickle.dumps(arguments)), len(pickle.dumps(spool.send(arguments)))))
    before, after = sizes[-1]
    assert before > times * after


# --- on a cluster ---


def test_tasks_run_on_the_workers_and_on_one_thread(dask, tmp_path):
    weight = np.ones(LEAST)
    store = Store(tmp_path, None)
    results = list(tasks(square, [(x, weight) for x in range(8)], dask.address, store))
    assert sorted(each[0] for each in results) == [x * x for x in range(8)]
    assert {each[1] for each in results} == {1} and {each[3] for each in results} == {LEAST}
    assert os.getpid() not in {each[2] for each in results}
    assert not list(tmp_path.rglob("travel/*"))


def test_a_cluster_of_one_worker_does_the_work_itself(tmp_path):
    cluster = Dask(workers=1)
    try:
        arguments = [(x, np.ones(3)) for x in range(4)]
        results = list(tasks(square, arguments, cluster.address, Store(tmp_path, None)))
    finally:
        cluster.close()
    assert sorted(each[0] for each in results) == [0, 1, 4, 9]
    where = {each[2] for each in results}
    assert len(where) == 1 and os.getpid() not in where


def test_a_landscape_of_a_cluster_has_the_bits_of_one_process(dask, trained, tmp_path):
    made = []
    for cluster in (None, dask.address):
        store = Store(tmp_path / str(cluster is None), None)
        here = Here(store, "cpu", jobs=1, memory="64MiB", progress=False, cluster=cluster)
        made.append(compute_landscapes(trained.ensemble, [0, 1], all_images=True, here=here))
    for name in made[0].manifest["files"]:
        assert made[0].read(name) == made[1].read(name)


def test_a_worker_that_is_killed_loses_nothing(dask):
    threading.Timer(0.5, dask.kill_worker).start()
    assert sorted(tasks(slowly, [(x,) for x in range(12)], dask.address)) == list(range(12))


def test_a_scheduler_that_is_killed_ends_in_a_line(one_line):
    cluster = Dask()
    try:
        cluster.wait(2)
        threading.Timer(1.0, cluster.scheduler.kill).start()
        with pytest.raises(AbcError, match="was lost.*run again") as error:
            list(tasks(slowly, [(x,) for x in range(60)], cluster.address))
        assert one_line(error)
    finally:
        cluster.close()


def test_nobody_there_is_told_in_a_line(one_line):
    with pytest.raises(NotAvailable, match="no Dask scheduler answers") as error:
        list(tasks(slowly, [(0,)], f"tcp://127.0.0.1:{free_port()}"))
    assert one_line(error)


@pytest.mark.parametrize("cluster", ["host:8786", "http://host", " ", 3])
def test_what_is_no_cluster_is_refused(cluster, one_line):
    with pytest.raises(BadValue, match="a cluster is tcp") as error:
        Here(cluster=cluster)
    assert one_line(error)


def test_no_name_is_what_the_environment_names(monkeypatch):
    for said, meant in (("", None), ("tcp://host:1", "tcp://host:1")):
        monkeypatch.setenv("ABC_CLUSTER", said)
        assert [Here(cluster=c).cluster for c in ("", None, "ray://auto")] == [
            meant,
            None,
            "ray://auto",
        ]
        assert Here().cluster == meant


@pytest.mark.slow
def test_a_notebook_computes_on_the_cluster_that_it_or_the_environment_names(
    dask, tmp_path, monkeypatch
):
    """Landscapes of noise that is not published; a cluster that nobody started ends in a line."""
    monkeypatch.setenv("ABC_CACHE", str(tmp_path / "cache"))

    def run(**named):
        papermill.execute_notebook(
            str(ROOT / "notebooks/03_radius.ipynb"),
            str(tmp_path / "out.ipynb"),
            {"dataset": "digits_64", "num_samples": 2, "seed": 5, **named},
            kernel_name="python3",
            progress_bar=False,
        )

    with pytest.raises(papermill.PapermillExecutionError, match="no Dask scheduler answers"):
        run(cluster=f"tcp://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ABC_CLUSTER", dask.address)
    with Client(dask.address, set_as_default=False) as client:
        before = client.run_on_scheduler(_tasks_done)
        run()
        assert client.run_on_scheduler(_tasks_done) > before


def _tasks_done(dask_scheduler):
    return dask_scheduler.transition_counter


@pytest.mark.slow
def test_workers_of_many_threads_are_refused(one_line):
    cluster = Dask(1, threads=2)
    try:
        cluster.wait(1)
        with pytest.raises(BadValue, match="--nthreads 1") as error:
            list(tasks(slowly, [(0,)], cluster.address))
        assert one_line(error)
    finally:
        cluster.close()


def where(x):
    from distributed import get_worker

    return get_worker().state.total_resources


@pytest.mark.slow
def test_tasks_on_a_gpu_go_to_workers_that_have_one():
    plain = Dask(1)
    try:
        plain.resources = "GPU=1"
        plain.add()
        plain.wait(2)
        here = Here(Store(), "cpu", progress=False, cluster=plain.address)
        more = {"total": 6, "description": "tasks", "unit": "task"}
        on = torch.device("cuda")
        found = list(run_tasks(where, [(x,) for x in range(6)], 6, on, here, **more))
        assert [each.get("GPU") for each in found] == [1.0] * 6
    finally:
        plain.close()


class Killer:
    """Kills a worker or the scheduler of a cluster after a while, unless the work is done first."""

    def __init__(self, cluster, scheduler: bool, wait: float):
        self.cluster, self.scheduler, self.done = cluster, scheduler, False
        self.timer = threading.Timer(wait, self.kill)
        self.timer.start()

    def kill(self):
        if self.scheduler:
            self.cluster.scheduler.send_signal(signal.SIGKILL)
        else:
            self.cluster.kill_worker()
        self.done = True

    def stop(self):
        self.timer.cancel()
        self.timer.join()


@pytest.mark.slow
def test_ten_workers_and_three_schedulers_killed_at_random(trained, tmp_path):
    """The landscape is that of one process, to the bit, whoever was killed on the way."""
    quiet = {"jobs": 1, "memory": "8MiB", "progress": False}
    alone = Here(Store(tmp_path / "alone", None), "cpu", **quiet)
    expected = compute_landscapes(trained.ensemble, range(24), here=alone)
    rng, cluster, number = random.Random(5), Dask(), 0
    killed = {True: 0, False: 0}
    try:
        while killed[True] < 3 or killed[False] < 10:
            cluster.wait(2)
            scheduler = killed[True] < 3 and rng.random() < 0.25
            killer = Killer(cluster, scheduler, rng.uniform(0.3, 2))
            store = Store(tmp_path / f"cluster-{number}", None)
            here = Here(store, "cpu", cluster=cluster.address, **quiet)
            try:
                made = compute_landscapes(trained.ensemble, range(24), here=here)
                assert all(expected.read(f) == made.read(f) for f in expected.manifest["files"])
                number += 1  # the next one begins from nothing
            except AbcError as error:
                assert "\n" not in str(error) and "run again" in str(error)
            killer.stop()
            killed[scheduler] += killer.done
            if scheduler and killer.done:
                cluster.close()
                cluster = Dask()
        assert number >= 3
    finally:
        cluster.close()


def dies_once(x, folder):
    """Kills its worker the first time that 3 comes."""
    mark = folder / "died"
    if x == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(x, np.ones(2))


def refuses(x):
    raise NotAvailable(f"number {x} is not at hand; fetch it")


@pytest.mark.slow
def test_ray_gives_every_result_though_a_worker_is_killed(tmp_path, one_line):
    ray = pytest.importorskip("ray")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    known = {"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=known)
    try:
        store = Store(tmp_path / "store", None)
        given = [(x, tmp_path) for x in range(6)]
        found = list(tasks(dies_once, given, "ray://auto", store))
        assert sorted(each[0] for each in found) == [x * x for x in range(6)]
        assert {each[1] for each in found} == {1} and os.getpid() not in {e[2] for e in found}
        assert (tmp_path / "died").exists()
        with pytest.raises(NotAvailable, match="^number 0 is not at hand; fetch it$") as error:
            list(tasks(refuses, [(0,)], "ray://auto", store))
        assert one_line(error)
    finally:
        ray.shutdown()
