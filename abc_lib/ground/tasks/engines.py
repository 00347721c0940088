"""Where tasks run: in worker processes here, or on a cluster of Dask or Ray, through joblib."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice

import joblib

from abc_lib.ground.errors import AbcError, BadValue, NotAvailable


def results(
    call: Callable, tasks: Iterable[tuple], jobs: int, cluster: str | None, on_cpu: bool = True
) -> Iterator:
    """What ``call(*task)`` returns, in any order, as it is finished.

    With no ``cluster`` in ``jobs`` worker processes of this machine, or whatever joblib was
    configured with. ``tcp://host:8786`` or ``tls://`` is a Dask scheduler, ``ray://host:10001`` a
    Ray head, and ``ray://auto`` the one that this machine belongs to. All workers must see the
    store's folders under the same paths, or its remote. A task that a worker took with it is given
    to another one. Tasks on a GPU go, one at a time, to workers that were started with the resource
    ``GPU``.

    Raises :class:`NotAvailable` where nobody answers and :class:`AbcError` where the cluster is
    lost on the way: what was finished is kept.
    """
    if cluster is None:
        yield from _by_joblib(call, tasks, jobs)
    elif cluster.startswith("ray://"):
        yield from _by_ray(call, tasks, cluster, on_cpu)
    else:
        with _dask(cluster, on_cpu) as slots:
            yield from _by_joblib(call, tasks, slots)


def _by_joblib(call: Callable, tasks: Iterable[tuple], jobs: int) -> Iterator:
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    yield from parallel(joblib.delayed(call)(*task) for task in tasks)


def _lost(cluster: str, why: object) -> AbcError:
    first = (str(why) or type(why).__name__).splitlines()[0]
    return AbcError(
        f"the cluster at {cluster} was lost, or workers died again and again ({first[:160]}); "
        "finished work is kept: start the cluster and run again"
    )


@lru_cache(maxsize=4)
def _client(cluster: str):
    from distributed import Client

    try:
        return Client(cluster, set_as_default=False, timeout=10)
    except (OSError, ValueError) as error:
        raise NotAvailable(
            f"no Dask scheduler answers at {cluster} ({type(error).__name__}); start one with "
            "'dask scheduler' and workers with 'dask worker --nthreads 1'"
        ) from None


@contextlib.contextmanager
def _dask(cluster: str, on_cpu: bool) -> Iterator[int]:
    try:
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError
    except ImportError:
        raise NotAvailable(
            f"Dask is not installed, and {cluster} is a Dask cluster; pip install -e '.[dask]'"
        ) from None
    if _client.cache_info().currsize and _client(cluster).status != "running":
        _client.cache_clear()
    client = _client(cluster)
    try:
        threads = client.nthreads()
        if not threads:
            with contextlib.suppress(TimeoutError):
                client.wait_for_workers(1, timeout=10)
            threads = client.nthreads()
    except (OSError, CommClosedError, CancelledError) as error:
        _client.cache_clear()
        raise _lost(cluster, error) from None
    if not threads:
        raise NotAvailable(
            f"the scheduler at {cluster} has no workers; start some with 'dask worker {cluster} "
            "--nthreads 1'"
        )
    crowded = [name for name, count in threads.items() if count > 1]
    if on_cpu and crowded:
        raise BadValue(
            f"the worker {crowded[0]} has {threads[crowded[0]]} threads; start workers with "
            "--nthreads 1 (and more of them), so that every task gives the same bits"
        )
    resources = {} if on_cpu else {"resources": {"GPU": 1}}
    try:
        with joblib.parallel_config(backend="dask", client=client, n_jobs=-1, **resources):
            # Of a cluster with one worker joblib thinks that this process does as well: it would
            # run the tasks here, without that worker's GPU, images or room.
            backend, _ = joblib.parallel.get_active_backend()
            workers = backend.effective_n_jobs
            backend.effective_n_jobs = lambda n_jobs: max(2, workers(n_jobs))
            yield len(threads)
    except (CancelledError, CommClosedError, KilledWorker) as error:
        _client.cache_clear()
        raise _lost(cluster, error) from None


def _by_ray(call: Callable, tasks: Iterable[tuple], cluster: str, on_cpu: bool) -> Iterator:
    """Twice as many tasks under way as there are slots; Ray's joblib backend gives results only
    when all are done, so its own calls are used."""
    try:
        import ray
    except ImportError:
        raise NotAvailable(
            f"Ray is not installed, and {cluster} is a Ray cluster; pip install -e '.[ray]'"
        ) from None
    if not ray.is_initialized():
        address = "auto" if cluster == "ray://auto" else cluster
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError) as error:
            raise NotAvailable(
                f"no Ray cluster answers at {cluster} ({type(error).__name__}); start one with "
                "'ray start --head'"
            ) from None
    needs = {"num_cpus": 1} if on_cpu else {"num_gpus": 1}
    try:
        slots = max(1, int(ray.cluster_resources().get("CPU" if on_cpu else "GPU", 1)))
        remote = ray.remote(**needs, max_retries=3)(call)
        pending, tasks = [], iter(tasks)
        while True:
            pending += [remote.remote(*task) for task in islice(tasks, 2 * slots - len(pending))]
            if not pending:
                return
            (done, *_), pending = ray.wait(pending)
            yield ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise _lost(cluster, error) from None
