"""Tasks side by side: every result arrives, and a worker's trouble is told in one line."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import pytest
import torch
from small import budget

from abc_lib.ground.devices import available_cores, one_thread
from abc_lib.ground.errors import AbcError, DataMissing
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.ground.tasks import run_tasks
from abc_lib.results.landscapes import compute as compute_landscapes
from abc_lib.training.ensembles import train_ensemble

CPU = torch.device("cpu")


def tasks(function, arguments, **options):
    here = Here(jobs=options.pop("jobs", None), progress=options.pop("progress", False))
    options = {"total": len(arguments), "description": "tasks", "unit": "task"} | options
    return run_tasks(function, arguments, len(arguments), CPU, here, **options)


def square(x):
    return x * x, torch.get_num_threads(), os.getpid()


def fail(x):
    if x == 2:
        raise DataMissing(f"number {x} is not at hand; fetch it")
    return x


def die(x):
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_result_arrives_from_tasks_on_one_thread(jobs):
    results = list(tasks(square, [(x,) for x in range(7)], jobs=jobs))
    assert sorted(r[0] for r in results) == [x * x for x in range(7)]
    assert {r[1] for r in results} == {1}
    assert (os.getpid() in {r[2] for r in results}) == (jobs == 1)


def test_no_tasks_have_no_results():
    assert list(tasks(square, [])) == []


def test_another_backend_can_be_chosen():
    with joblib.parallel_config("threading", jobs=2):
        results = list(tasks(square, [(x,) for x in range(7)]))
    assert sorted(r[0] for r in results) == [x * x for x in range(7)] and {
        r[2] for r in results
    } == {os.getpid()}


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError), one_thread():
            assert torch.get_num_threads() == 1
            1 / 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert available_cores() >= 1


@pytest.mark.parametrize("poll", [None, lambda: (4, "loss 0.5")])
def test_progress_counts_tasks_or_what_poll_says(capfd, poll):
    threads = threading.active_count()
    list(tasks(square, [(1,), (2,)], jobs=1, progress=True, poll=poll, total=5))
    shown = capfd.readouterr().err
    assert ("4/5" in shown and "loss 0.5" in shown) if poll else "2/5" in shown
    # The watcher has ended too (tqdm may have started a monitor of its own).
    assert threading.active_count() <= threads + 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_clear_error_in_a_worker_reaches_the_caller_as_itself(jobs, one_line):
    with pytest.raises(DataMissing, match="^number 2 is not at hand; fetch it$") as error:
        list(tasks(fail, [(x,) for x in range(5)], jobs=jobs))
    assert one_line(error) and error.value._render_traceback_() == [
        "DataMissing: number 2 is not at hand; fetch it"
    ]


@pytest.mark.slow
def test_two_jobs_train_and_sample_the_same_bits_as_one(trained, store):
    members = train_ensemble(trained.recipe, here=Here(store, "cpu", jobs=2, progress=False))
    for one, other in zip(trained.artefacts, members, strict=True):
        for name in one.manifest["files"]:
            assert one.read(name) == other.read(name)
    one, two = (
        compute_landscapes(
            trained.ensemble,
            [0, 1, 2],
            all_images=True,
            here=Here(
                Store(store.cache / str(jobs), None),
                jobs=jobs,
                memory=jobs * budget(trained.ensemble, 10),
                progress=False,
            ),
        )
        for jobs in (1, 2)
    )
    assert one.info["block"] == two.info["block"] == 10
    for name in one.manifest["files"]:
        assert one.read(name) == two.read(name)


def test_a_killed_worker_gives_one_line(one_line):
    with pytest.raises(AbcError, match="worker process was killed.*jobs=1") as error:
        list(tasks(die, [(x,) for x in range(5)], jobs=2))
    assert one_line(error)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks Linux which processes there are")
def test_workers_end_when_whoever_asked_is_killed(tmp_path):
    """Or they would go on for hours, and hold the locks of what they make."""
    code = (
        "import os, sys, time, torch; sys.path.insert(0, 'tests')\n"
        "from abc_lib.ground.here import Here; from abc_lib.ground.tasks import run_tasks\n"
        "from test_tasks import told_and_busy\n"
        f"tasks = [({str(tmp_path)!r},)] * 2\n"
        "here = Here(jobs=2, progress=False)\n"
        "more = dict(total=2, description='', unit='')\n"
        "list(run_tasks(told_and_busy, tasks, 2, torch.device('cpu'), here, **more))\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[1])
    try:
        workers = wait_until(
            lambda: len(list(tmp_path.iterdir())) == 2 and list(tmp_path.iterdir())
        )
        assert all(alive(int(worker.name)) for worker in workers)
    finally:
        asking.kill()
        asking.wait()
    assert wait_until(lambda: not any(alive(int(worker.name)) for worker in workers))


def told_and_busy(folder):
    """A task that says which process has it and takes an hour."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(3600)


def wait_until(happened):
    """What ``happened()`` says when it is true, within a minute; or what it says last."""
    end = time.monotonic() + 60
    while not (found := happened()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def alive(process):
    """Whether a process runs; one that nobody waits for does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_after_a_killed_worker_there_are_new_ones():
    with pytest.raises(AbcError, match="killed"):
        list(tasks(die, [(x,) for x in range(5)], jobs=2))
    assert sorted(tasks(fail, [(0,), (1,)], jobs=2)) == [0, 1]
