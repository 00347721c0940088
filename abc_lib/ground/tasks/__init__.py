"""Independent tasks run side by side, with one progress bar (through joblib).

On this machine, or on a cluster (``engines``); what tasks share travels once (``spool``).
"""

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from abc_lib.ground.devices import available_cores, one_thread
from abc_lib.ground.errors import AbcError, positive_int
from abc_lib.ground.here import Here
from abc_lib.ground.store import Workspace
from abc_lib.ground.tasks.engines import results
from abc_lib.ground.tasks.spool import Sent, Spool

with warnings.catch_warnings():
    # Where a notebook has no widgets, tqdm says so in red and draws a bar of text, which will do.
    warnings.simplefilter("ignore")
    from tqdm.auto import tqdm


def job_count(jobs: int | None, device: torch.device) -> int:
    """How many tasks run side by side: ``jobs``, or -1 for one a core.

    None is what ``joblib.parallel_config`` was told, else the environment variable
    ``ABC_JOBS``, else one a core on a CPU and one on a GPU.
    """
    if jobs is None:
        _, configured = joblib.parallel.get_active_backend()
        if configured and configured > 1:
            return configured
        named = os.environ.get("ABC_JOBS", "").strip()
        if named:
            whole = int(named) if named.lstrip("-").isdigit() else named
            return available_cores() if whole == -1 else positive_int("ABC_JOBS", whole)
        return available_cores() if device.type == "cpu" else 1
    return available_cores() if jobs == -1 else positive_int("jobs", jobs)


@lru_cache
def _leave_with(parent: int | None) -> None:
    """From now on a worker process of ``parent`` ends when that is gone; others are left alone.

    It would finish its task for nobody, for hours, and hold the locks of what it makes; whoever
    comes next goes on from the checkpoint.
    """

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    if os.getppid() == parent:
        threading.Thread(target=watch, daemon=True).start()


def _call(function: Callable, on_cpu: bool, parent: int | None, arguments: tuple):
    _leave_with(parent)
    arguments = tuple(each.open() if isinstance(each, Sent) else each for each in arguments)
    if not on_cpu:
        return function(*arguments)
    with one_thread():
        return function(*arguments)


@dataclass
class Counter:
    """A ``poll`` for :func:`run_tasks` that reports ``done``, which whoever takes the results adds
    to.
    """

    done: int

    def __call__(self) -> tuple[int, str]:
        return self.done, ""


def run_tasks(
    function: Callable,
    arguments: Iterable[tuple],
    count: int,
    device: torch.device,
    here: Here,
    *,
    total: int,
    description: str,
    unit: str,
    poll: Callable[[], tuple[int, str]] | None = None,
) -> Iterator:
    """Results of ``function(*task)`` for ``count`` tasks of ``arguments`` as they finish.

    They come in any order. ``arguments`` may be a generator: it is asked for a task only when
    one is about to start, so that what tasks carry is not all held at once.

    On a CPU there is one task a core (or ``here.jobs``), each on one thread; on a GPU one at a
    time. ``here.cluster`` sends them to a cluster of Dask or Ray, one a worker; any other
    joblib backend can be set with ``joblib.parallel_config`` around the call. ``poll()`` returns
    how much of ``total`` is done and a short text for the bar; without it each finished task
    counts one.
    """
    on_cpu = device.type == "cpu"
    jobs = min(job_count(here.jobs, device), max(1, count))
    bar = tqdm(
        total=total,
        desc=description,
        unit=unit,
        disable=not here.progress,
        mininterval=1.0,
        smoothing=0.05,
    )
    stop = threading.Event()

    def refresh():
        done, text = poll()
        bar.n = done
        bar.set_postfix_str(text, refresh=False)
        bar.refresh()

    def watch():
        while not stop.wait(1.0):
            refresh()

    watcher = threading.Thread(target=watch, daemon=True) if poll and here.progress else None
    if watcher:
        watcher.start()
    # Only a cluster's workers may be on other machines.
    spool = Spool(here.store.cache, here.store.remote if here.cluster else None)
    counted = bar if poll is None else None
    try:
        if here.cluster or jobs > 1:
            me = os.getpid()
            carried = ((function, on_cpu, me, spool.send(each)) for each in arguments)
            done = results(_call, carried, jobs, here.cluster, on_cpu)
        else:
            done = (_call(function, on_cpu, None, each) for each in arguments)
        for result in done:
            if counted is not None:
                counted.update(1)
            yield result
    except TerminatedWorkerError:
        raise AbcError(
            "a worker process was killed, most likely for want of memory; finished work is kept: "
            "run again with jobs=1"
        ) from None
    finally:
        stop.set()
        if watcher:
            watcher.join()
            refresh()
        bar.close()
        spool.clear()


def run_blocks(
    function: Callable,
    tasks: dict[str, Callable[[], tuple] | tuple],
    workspace: Workspace,
    device: torch.device,
    here: Here,
    description: str,
    unit: str = "block",
    sizes: dict[str, int] | None = None,
) -> list[dict[str, torch.Tensor]]:
    """Pieces of work in blocks: those that the workspace lacks are made, all are returned, in
    order.

    ``function(*arguments, workspace, name)`` saves the piece ``name``. ``tasks`` maps names to
    arguments, or to functions that make them when their turn comes. With ``sizes`` the bar
    counts what each block holds, finished ones included, and ``function`` returns that number.
    """
    todo = [name for name in tasks if not workspace.has(name)]
    arguments = (
        (*(task() if callable(task) else task), workspace, name)
        for name, task in ((name, tasks[name]) for name in todo)
    )
    if todo:
        counter = None
        if sizes:
            counter = Counter(sum(sizes[name] for name in tasks if name not in set(todo)))
        total = sum(sizes.values()) if sizes else len(todo)
        done = run_tasks(
            function,
            arguments,
            len(todo),
            device,
            here,
            total=total,
            description=description,
            unit=unit,
            poll=counter,
        )
        for count in done:
            if counter:
                counter.done += count
    return [workspace.need(name) for name in tasks]
