"""Small clusters on this machine, for tests."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

from forks import ROOT


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


class Dask:
    """A scheduler and workers, each a process of one thread; workers die with the scheduler."""

    def __init__(
        self,
        workers: int = 2,
        threads: int = 1,
        resources: str = "",
        environment: dict | None = None,
    ):
        self.port, self.threads, self.resources = free_port(), threads, resources
        self.environment = environment or {}
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler, self.workers = None, []
        self.start()
        for _ in range(workers):
            self.add()

    def _run(self, *words: str) -> subprocess.Popen:
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | self.environment
        return subprocess.Popen([sys.executable, "-m", *words], env=environment, **quiet)

    def start(self) -> None:
        options = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        self.scheduler = self._run("distributed.cli.dask_scheduler", *options)

    def add(self) -> None:
        """A worker more; it waits for a scheduler that is not up yet."""
        options = ("--nthreads", str(self.threads), "--no-nanny", "--no-dashboard")
        more = ("--resources", self.resources) if self.resources else ()
        options += ("--death-timeout", "60", *more)
        self.workers.append(self._run("distributed.cli.dask_worker", self.address, *options))

    def kill_worker(self) -> None:
        """Kills the oldest worker at once, and starts another one."""
        self.workers.pop(0).kill()
        self.add()

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGKILL)
            process.wait()

    def wait(self, count: int) -> None:
        """Until so many workers are there."""
        from distributed import Client

        for _ in range(60):
            with contextlib.suppress(OSError), Client(self.address, timeout=2) as client:
                if len(client.nthreads()) >= count:
                    return
            time.sleep(0.5)
        raise AssertionError(f"no {count} workers at {self.address}")
