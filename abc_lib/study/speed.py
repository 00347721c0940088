"""What ``make bench`` measured on a machine, as it is shown: ours beside the straightforward way."""

import json
from collections.abc import Callable

import pandas as pd

from abc_lib.ground.errors import ArtefactError
from abc_lib.ground.paths import PUBLISHED

FOLDER = PUBLISHED / "benchmarks"
"""one file a kind of device"""


def read_benchmarks(device: str = "cpu") -> dict | None:
    """The measurements that come with the repository for ``cpu`` or ``cuda``; None if there are none yet.

    ``machine`` names the processor or GPU, its cores and the versions; ``comparisons`` maps
    the name of each file of ``benchmarks/`` to what it found, with the date, the commit and
    the machine of that part in ``made``. Raises :class:`ArtefactError` for a file that is not whole.
    """
    path = FOLDER / f"{device}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not {"machine", "comparisons"} <= set(found):
        raise ArtefactError(
            f"{path} is not what a benchmark wrote; restore it from the repository or run `make bench` again"
        )
    return found


def _amount(value: float | None, form: str = "{:,.0f}") -> str:
    return "" if value is None else form.format(value)


def _seconds(value: float) -> str:
    return (
        f"{value:,.1f} s"
        if value >= 10
        else f"{value:.2f} s"
        if value >= 1
        else f"{1e3 * value:.2f} ms"
    )


def _memory(way: dict) -> str:
    if way["memory"] is None:
        return ""
    each = f"{way['memory'] / 2**20:,.0f} MiB"
    return each if way["processes"] == 1 else f"{way['processes']} × {each}"


def _both(row: dict, show: Callable[[dict], str]) -> str:
    return f"{show(row['ways']['ours'])} | {show(row['ways']['other'])}"


def _rows(found: dict) -> list[dict]:
    return [row for part in found["comparisons"].values() for row in part.get("rows", [])]


def benchmark_table(found: dict) -> pd.DataFrame:
    """A line a comparison, as text: how many times as long the other way takes, and how long ours does."""
    return pd.DataFrame(
        [
            {
                "comparison": row["name"],
                "against": row["other"],
                "times faster": f"{row['ratio']:.1f} ({row['lowest']:.1f} to {row['highest']:.1f})",
                "ours takes": f"{_seconds(row['ways']['ours']['median'])} a {row['unit']}",
            }
            for row in _rows(found)
        ]
    )


def rates_table(found: dict) -> pd.DataFrame:
    """A line a comparison, as text: what each of the two ways reaches, ours first.

    ``share`` is the achieved FLOP/s as a part of what a large matrix product reached in the
    same run, on as many ``cores``.
    """
    return pd.DataFrame(
        [
            {
                "comparison": f"{row['name']} against {row['other']}",
                "cores": str(row["cores"]) if row["cores"] else "GPU",
                "networks a second": _both(row, lambda way: _amount(way["evaluations_per_second"])),
                "GFLOP/s": _both(row, lambda way: _amount(way["flops_per_second"] / 1e9)),
                "share": _both(row, lambda way: _amount(way["share"], "{:.0%}")),
                "peak memory": _both(row, _memory),
            }
            for row in _rows(found)
        ]
    )


def screening_table(found: dict) -> pd.DataFrame:
    """What screening and hybrid landscapes give, in the median unless told otherwise, and for which part of the network evaluations of an exact landscape, as text."""
    part = found["comparisons"].get("screening", {})
    lines = [
        {
            "ensemble": f"{each['ensemble']}, {each['samples']} samples",
            "way": f"screened radius, {each['k']} of {each['num_sources']:,} exactly",
            "evaluations": f"{each['cost']:.1%}",
            "what it gives": f"{each['median']:.2%} of the radius (mean {each['mean']:.2%}, lowest {each['lowest']:.1%})",
        }
        for each in part.get("screened", [])
    ]
    lines += [
        {
            "ensemble": f"{each['ensemble']}, {each['samples']} samples",
            "way": f"hybrid, {each['switch']} of {each['steps']} steps by tangents",
            "evaluations": f"{each['cost']:.1%}",
            "what it gives": f"off by {each['median']:.2%} of the distance (largest {each['largest']:.1%}), radii by {each['radius']:.2%} at most",
        }
        for each in part.get("hybrids", [])
    ]
    return pd.DataFrame(lines, columns=["ensemble", "way", "evaluations", "what it gives"])
