"""Time from an empty cache to the last cell of the radius notebook, as ``make radius`` runs it.

    python benchmarks/radius_page.py [--device auto] [--rounds 0] [--quick]

Nothing to compare with: these are plain seconds, with the start of Python in them. What
is published with the repository is used, as it is for everybody.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import Options, main, say

from abc_lib.ground.paths import ROOT


def seconds(dataset: str, options: Options, *parameters: str) -> float:
    """One run by papermill with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        notebook, out = str(ROOT / "notebooks/03_radius.ipynb"), str(Path(folder) / "out.ipynb")
        command = [sys.executable, "-m", "papermill", notebook, out, "-k", "python3"]
        command += ["-p", "dataset", dataset, "-p", "device", options.device, *parameters]
        # The kernel of this Python, and not one that the user installed elsewhere.
        surroundings = os.environ | {
            "ABC_CACHE": str(Path(folder) / "cache"),
            "JUPYTER_PREFER_ENV_PATH": "1",
        }
        start = time.perf_counter()
        done = subprocess.run(command, env=surroundings, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the notebook did not run: {done.stderr.strip().splitlines()[-1]}")
        return time.perf_counter() - start


def compare(options: Options) -> dict:
    """The page of the book's default ensemble and the one for MNIST."""
    cases = (
        [("digits_64", ("-p", "num_samples", "4"))]
        if options.quick
        else [("digits_256", ()), ("mnist_1024", ())]
    )
    pages = []
    for dataset, parameters in cases:
        taken = [seconds(dataset, options, *parameters) for _ in range(options.how_many(1))]
        say(f"  {dataset}: " + ", ".join(f"{each:.1f} s" for each in taken))
        pages.append({"notebook": "03_radius", "dataset": dataset, "seconds": taken})
    return {"pages": pages}


if __name__ == "__main__":
    main(compare, __doc__)
