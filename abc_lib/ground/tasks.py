"""Independent tasks run side by side, with one progress bar (through joblib)."""

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from abc_lib.ground.devices import available_cores, one_thread
from abc_lib.ground.errors import AbcError, positive_int

with warnings.catch_warnings():
    # Where a notebook has no widgets, tqdm says so in red and draws a bar of text, which will do.
    warnings.simplefilter("ignore")
    from tqdm.auto import tqdm


def job_count(n_jobs: int | None, device: torch.device) -> int:
    """How many tasks run side by side: ``n_jobs``, -1 for one a core; None for one a core on a CPU and one on a GPU.

    Who set a number with ``joblib.parallel_config`` gets that one.
    """
    if n_jobs is None:
        _, configured = joblib.parallel.get_active_backend()
        if configured and configured > 1:
            return configured
        return available_cores() if device.type == "cpu" else 1
    return available_cores() if n_jobs == -1 else positive_int("n_jobs", n_jobs)


def _call(function: Callable, on_cpu: bool, arguments: tuple):
    if not on_cpu:
        return function(*arguments)
    with one_thread():
        return function(*arguments)


@dataclass
class Counter:
    """A ``poll`` for :func:`run_tasks` that reports ``done``, which whoever takes the results adds to."""

    done: int

    def __call__(self) -> tuple[int, str]:
        return self.done, ""


def run_tasks(
    function: Callable,
    arguments: Iterable[tuple],
    count: int,
    *,
    device: torch.device,
    total: int,
    description: str,
    unit: str,
    poll: Callable[[], tuple[int, str]] | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> Iterator:
    """Results of ``function(*each)`` for the ``count`` members of ``arguments`` as they finish, in any order.

    ``arguments`` may be a generator: it is asked for a task only when one is about to
    start, so that what tasks carry is not all held at once.

    On a CPU there is one task a core, each on one thread; on a GPU one at a time. Who
    wants another joblib backend (dask, ray) sets it with ``joblib.parallel_config``
    around the call. ``poll()`` returns how much of ``total`` is done and a short text
    for the bar; without it each finished task counts one.
    """
    on_cpu = device.type == "cpu"
    jobs = min(job_count(n_jobs, device), max(1, count))
    bar = tqdm(
        total=total,
        desc=description,
        unit=unit,
        disable=not progress,
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

    watcher = threading.Thread(target=watch, daemon=True) if poll and progress else None
    if watcher:
        watcher.start()
    try:
        yield from _finished(function, on_cpu, arguments, jobs, bar if poll is None else None)
    except TerminatedWorkerError:
        raise AbcError(
            "a worker process was killed, most likely for want of memory; finished work is kept: run again with n_jobs=1"
        ) from None
    finally:
        stop.set()
        if watcher:
            watcher.join()
            refresh()
        bar.close()


def _finished(
    function: Callable, on_cpu: bool, arguments: Iterable[tuple], jobs: int, bar: tqdm | None
) -> Iterator:
    if jobs == 1:
        results = (_call(function, on_cpu, each) for each in arguments)
    else:
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
        results = parallel(joblib.delayed(_call)(function, on_cpu, each) for each in arguments)
    for result in results:
        if bar is not None:
            bar.update(1)
        yield result


def run_blocks(
    function: Callable,
    tasks: dict[str, tuple],
    workspace,
    device: torch.device,
    description: str,
    n_jobs=None,
    progress: bool = True,
) -> None:
    """``function(*arguments, workspace, name)`` for every name of ``tasks`` whose piece is not in the workspace yet."""
    todo = [name for name in tasks if not workspace.has(name)]
    if todo:
        for _ in run_tasks(
            function,
            ((*tasks[name], workspace, name) for name in todo),
            len(todo),
            device=device,
            total=len(todo),
            description=description,
            unit="block",
            n_jobs=n_jobs,
            progress=progress,
        ):
            pass
