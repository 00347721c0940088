"""Tasks on Dask workers of this machine beside the simulation of the page on millions of sources.

    python benchmarks/scheduling.py [--quick]

Tasks wait and do not compute, so that more workers than cores can be compared; what is measured
is what the engine adds. The last run has one of its workers killed on the way.
"""

import tempfile
import threading
import time
from pathlib import Path

import torch
from measuring import Options, main, say

import abc_lib as abc
from abc_lib.ground.errors import NotAvailable
from abc_lib.ground.tasks import run_tasks
from abc_lib.study.cost.scale import simulate

RUNS = ((1, False), (2, False), (4, False), (4, True))
"""workers, and whether one is killed"""


def wait(seconds: float) -> float:
    """A task that takes so long, whatever else the machine does."""
    time.sleep(seconds)
    return seconds


def _run(workers: int, tasks: int, seconds: float, killed: bool) -> float:
    """Seconds by the clock."""
    from distributed import LocalCluster

    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        store = abc.Store(Path(folder), None)
        here = abc.Here(store, "cpu", progress=False, cluster=cluster.scheduler_address)
        more = {"total": tasks, "description": "waiting", "unit": "task"}

        def all_of(count: int, each: float) -> None:
            arguments = [(each,)] * count
            list(run_tasks(wait, arguments, count, torch.device("cpu"), here, **more))

        all_of(2 * workers, 0.01)  # workers that have imported everything
        if killed:
            victim = cluster.workers[0]
            threading.Timer(seconds * tasks / workers / 2, victim.process.process.kill).start()
        start = time.monotonic()
        all_of(tasks, seconds)
        return time.monotonic() - start


def compare(options: Options) -> dict:
    """Measured and simulated seconds of as many tasks on one, two and four workers."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise NotAvailable("Dask is not installed; pip install -e '.[dask]'") from None
    tasks, seconds = (4, 0.2) if options.quick else (24, 1.0)
    runs = []
    for workers, killed in RUNS[1:2] if options.quick else RUNS:
        taken = _run(workers, tasks, seconds, killed)
        least = 3600 * simulate(tasks, seconds, workers).hours
        runs.append({"workers": workers, "killed": killed, "tasks": tasks, "each": seconds})
        runs[-1] |= {"measured": round(taken, 3), "simulated": round(least, 3)}
        note = ", one killed" if killed else ""
        say(f"{workers} workers{note}: {taken:.2f} s measured, {least:.2f} s simulated")
    return {"runs": runs}


if __name__ == "__main__":
    main(compare, __doc__)
