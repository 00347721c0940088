"""Real processes to kill.

Importing PyTorch and diffusers takes seconds. So one process, the zygote, does it once,
diffusers when a job first needs it, and forks a worker for every job; it runs no tensor
operation itself. The jobs at the end of this file are what workers can be told to do.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from small import tiny_recipe

from abc_lib.ground.here import Here

ROOT = Path(__file__).resolve().parent.parent


class Zygote:
    def __enter__(self):
        path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _ask(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, job, *arguments):
        """The process id of a worker that does a job."""
        return self._ask("start", job, *map(str, arguments))

    def poll(self, pid):
        """None while it runs; its exit status, negative if a signal ended it."""
        return self._ask("poll", pid)

    def wait(self, pid):
        while (code := self.poll(pid)) is None:
            time.sleep(0.005)
        return code

    def kill(self, pid):
        """kill -9, and its exit status: that of the signal unless it had ended before."""
        # one that has ended, and was seen to, is no process any more
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self.wait(pid)


def _import_what_computes():
    """The slow imports, before anything is forked that needs them; files and locks do not."""
    import sklearn.datasets  # noqa: F401
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel  # noqa: F401

    import abc_lib.results.landscapes
    import abc_lib.training.ensembles  # noqa: F401


def _serve():
    ended = {}
    for line in sys.stdin:
        command, what, *arguments = json.loads(line)
        if command == "start":
            if {what, *arguments} & {"train", "landscapes"}:
                _import_what_computes()
            pid = os.fork()
            if pid == 0:
                os.dup2(2, 1)
                code = 1
                try:
                    globals()[what](*arguments)
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            answer = pid
        else:
            if what not in ended:
                pid, status = os.waitpid(what, os.WNOHANG)
                if pid:
                    ended[what] = os.waitstatus_to_exitcode(status)
            answer = ended.get(what)
        print(json.dumps(answer), flush=True)


# --- the jobs ---


def write(cache, label, size):
    """An artefact of a few files, each of ``size`` bytes."""
    from abc_lib.ground.store import Store

    files = {f"{k}.bin": bytes([k]) * int(size) for k in range(4)}
    Store(Path(cache), None).write("thing", label, {"size": size}, files)


def hold(cache, sign):
    """Takes a lock, says so by a file, and never lets go."""
    from abc_lib.ground.store import Store

    with Store(Path(cache), None).lock("thing", "held", {}):
        Path(sign).touch()
        time.sleep(1000)


def train(cache, steps):
    """Every member of the tiny ensemble, with a checkpoint as often as can be."""
    from abc_lib.ground.devices import one_thread
    from abc_lib.ground.store import Store
    from abc_lib.images.training_set import training_set
    from abc_lib.method.code import draw_codebook
    from abc_lib.training.members import train_members

    recipe, store = tiny_recipe(int(steps)), Store(Path(cache), None)
    images, code = training_set(recipe.data), draw_codebook(recipe)
    with one_thread():
        for member in range(code.n):
            mine = images.of_sources(code.split(member))
            train_members(recipe, [member], [mine], 0, here=Here(store, "cpu"))


def landscapes(members, cache, samples, memory):
    """Landscapes of the ensemble in one cache, into another one."""
    from abc_lib.ground.store import Store
    from abc_lib.results.landscapes import compute as compute_landscapes
    from abc_lib.training.ensembles import find_ensemble

    ensemble = find_ensemble(tiny_recipe(), here=Here(Store(Path(members), None)))
    compute_landscapes(
        ensemble,
        range(int(samples)),
        all_images=True,
        here=Here(Store(Path(cache), None), jobs=1, memory=int(memory), progress=False),
    )


def told(what, out, *arguments):
    """Another job, and into a file what it said: nothing, or an error of the library."""
    from abc_lib.ground.errors import AbcError

    said = ""
    try:
        globals()[what](*arguments)
    except AbcError as error:
        said = str(error)
    Path(out).write_text(said)


if __name__ == "__main__":
    _serve()
