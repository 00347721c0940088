"""What prints and ends: status 0 and nothing on standard error, also beside other work."""

import os
import subprocess
import sys
from collections import Counter

import pytest
from forks import ROOT

# Everything that keeps threads is woken: torch's, those of BLAS and of Parquet, a bar's.
COMPUTES = """
import numpy as np, torch
from abc_lib.ground.here import Here
from abc_lib.ground.tasks import run_tasks
from abc_lib.images.registry import get_recipe
from abc_lib.results.landscapes import stored
torch.set_num_threads(2)
x = torch.rand(300, 300, requires_grad=True)
(x @ x).sum().backward()
torch.linalg.svd(torch.rand(60, 60)), np.linalg.svd(np.random.rand(60, 60))
here = Here(device="cpu", jobs=1)
more = {"total": 1, "description": "task", "unit": "task", "poll": lambda: (1, "")}
list(run_tasks(abs, [(1,)], 1, torch.device("cpu"), here, **more))
print(stored(get_recipe("digits_64")).distances.mean())
"""
ASKED = {"list": ["-m", "abc_lib", "list"], "computes": ["-c", COMPUTES]}


def exits(words: list[str], count: int) -> Counter:
    """How often which status and which words on standard error, beside two busy processes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    # as a user has them: on one thread there is nothing to abort
    environment.pop("OMP_NUM_THREADS", None)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        seen = Counter()
        for _ in range(count):
            done = subprocess.run(
                [sys.executable, *words], env=environment, capture_output=True, text=True
            )
            # a bar of text goes there too
            said = [x for x in done.stderr.splitlines() if x.strip() and not x.startswith("task:")]
            seen[done.returncode, bool(done.stdout), "\n".join(said)[-300:]] += 1
        return seen
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("asked", ASKED)
def test_every_exit_is_a_clean_one(asked):
    assert exits(ASKED[asked], 20) == {(0, True, ""): 20}
