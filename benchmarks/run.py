"""All comparisons, one after another: a table to read, and a file for the book.

    python benchmarks/run.py [--device auto] [--only landscapes,training] [--rounds 0] [--quick]

The file is ``data/published/benchmarks/cpu.json`` or ``cuda.json``. With ``--only`` the
other comparisons in it stay, if they were measured on the same kind of machine. A quick
run takes seconds, measures nothing and writes to the cache.
"""

import argparse
import importlib
import json
import os
from pathlib import Path

import torch
from measuring import Options, add_options, machine, options_of, say, show

import abc_lib as abc
from abc_lib.ground.errors import unknown
from abc_lib.ground.paths import cache_root
from abc_lib.ground.store import stopwatch

COMPARISONS = (
    "landscapes",
    "jacobians",
    "training",
    "retraining",
    "radius_page",
    "screening",
    "scaling",
    "scheduling",
    "backends",
)
ON_REQUEST = ("remembering", "frontier")
"""take half an hour and an hour, and have a file of their own"""


def write(path: Path, content: dict) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def before(path: Path, here: dict) -> dict:
    """The comparisons that are in the file, if they are of this kind of machine."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = all(found["machine"][key] == here[key] for key in ("hardware", "cores", "quick"))
        return found["comparisons"] if same else {}
    except (OSError, ValueError, KeyError):
        return {}


def run(options: Options, names: tuple[str, ...], path: Path) -> dict:
    """Runs some comparisons, and writes the file after each, so that what is done stays done."""
    here = machine(options)
    parts = before(path, here)
    for name in names:
        say(f"{name} ...")
        seconds = stopwatch()
        found = importlib.import_module(name).compare(options)
        # Each part says when and from which commit: they need not be of one run.
        parts[name] = found | {"made": machine(options) | {"seconds": round(seconds(), 1)}}
        content = {
            "machine": here,
            "comparisons": {key: parts[key] for key in COMPARISONS + ON_REQUEST if key in parts},
        }
        write(path, content)
    return content


def main() -> None:
    """Runs what was asked for, prints it and says where it lies."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument(
        "--only",
        default=",".join(COMPARISONS),
        help="names of comparisons, with commas between them",
    )
    parser.add_argument("--output", type=Path, help="another file")
    arguments = parser.parse_args()
    options, names = options_of(arguments), tuple(arguments.only.split(","))
    for name in names:
        if name not in COMPARISONS + ON_REQUEST:
            raise SystemExit(unknown("comparison", name, COMPARISONS + ON_REQUEST))
    kind = torch.device(options.device).type
    folder = cache_root() / "benchmarks" if options.quick else abc.speed.FOLDER
    path = arguments.output or folder / f"{kind}.json"
    content = run(options, names, path)
    made = content["machine"]
    say(
        f"\n{made['hardware']}, {made['cores']} cores, torch {made['packages']['torch']}, "
        f"commit {made['commit']}. Of two values the first is ours."
    )
    for part in content["comparisons"].values():
        show(part)
        for page in part.get("pages", []):
            times = ", ".join(f"{seconds:.0f} s" for seconds in page["seconds"])
            say(f"\n{page['notebook']} on {page['dataset']} from an empty cache: {times}")
        if "fit" in part:
            exponents = part["fit"]["exponents"].items()
            law = ", ".join(f"{key}^{value:.2f}" for key, value in exponents)
            say(f"\na landscape's time grows with {law}")
    lines = abc.speed.screening_table(content)
    if len(lines):
        say("\n" + lines.to_string(index=False))
    say(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
