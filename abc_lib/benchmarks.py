"""What ``make bench`` measured on a machine, as it is shown: ours beside the straightforward way."""

import json
from collections.abc import Callable

import pandas as pd

from .errors import ArtefactError
from .paths import PUBLISHED

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
        raise ArtefactError(f"{path} is not what a benchmark wrote; restore it from the repository or run `make bench` again")
    return found


def _amount(value: float | None, form: str = "{:,.0f}") -> str:
    return "" if value is None else form.format(value)


def _seconds(value: float) -> str:
    return f"{value:,.1f} s" if value >= 10 else f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.2f} ms"


def _memory(way: dict) -> str:
    if way["memory"] is None:
        return ""
    each = f"{way['memory'] / 2**20:,.0f} MiB"
    return each if way["processes"] == 1 else f"{way['processes']} × {each}"


def _both(row: dict, show: Callable[[dict], str]) -> str:
    return f"{show(row['ways']['ours'])} | {show(row['ways']['other'])}"


def benchmark_table(found: dict) -> pd.DataFrame:
    """A line a comparison, as text: how many times as long the other way takes, and what each of the two reaches.

    Where a cell has two values, ours comes first. ``share`` is the achieved FLOP/s as a part
    of what a large matrix product reached in the same run, on as many cores.
    """
    rows = [row for part in found["comparisons"].values() for row in part.get("rows", [])]
    return pd.DataFrame([{
        "comparison": row["name"],
        "against": row["other"],
        "times faster": f"{row['ratio']:.1f} ({row['lowest']:.1f} to {row['highest']:.1f})",
        "cores": str(row["cores"]) if row["cores"] else "GPU",
        "time": f"{_both(row, lambda way: _seconds(way['median']))} a {row['unit']}",
        "network evaluations a second": _both(row, lambda way: _amount(way["evaluations_per_second"])),
        "GFLOP/s": _both(row, lambda way: _amount(way["flops_per_second"] / 1e9)),
        "share of a matrix product": _both(row, lambda way: _amount(way["share"], "{:.0%}")),
        "peak memory": _both(row, _memory),
    } for row in rows])


def screening_table(found: dict) -> pd.DataFrame:
    """What screening and hybrid landscapes give for which part of the network evaluations of an exact landscape, as text."""
    part = found["comparisons"].get("screening", {})
    lines = [{
        "ensemble": each["ensemble"], "N": f"{each['num_sources']:,}", "samples": str(each["samples"]),
        "way": f"screened radius, {each['k']} counterfactuals exactly",
        "evaluations": f"{each['cost']:.1%}",
        "what it gives": f"{each['median']:.2%} of the radius (median; mean {each['mean']:.2%}, lowest {each['lowest']:.1%})",
    } for each in part.get("screened", [])]
    lines += [{
        "ensemble": each["ensemble"], "N": f"{each['num_sources']:,}", "samples": str(each["samples"]),
        "way": f"hybrid, {each['switch']} of {each['steps']} steps by tangents",
        "evaluations": f"{each['cost']:.1%}",
        "what it gives": f"counterfactuals off by {each['median']:.2%} of their distance (median; largest {each['largest']:.1%}), "
                         f"radii by {each['radius']:.2%} at most",
    } for each in part.get("hybrids", [])]
    return pd.DataFrame(lines, columns=["ensemble", "N", "samples", "way", "evaluations", "what it gives"])
