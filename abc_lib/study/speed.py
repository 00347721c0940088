"""What ``make bench`` measured on a machine, as it is shown: ours beside the plain way."""

import json
from collections.abc import Callable

import pandas as pd

from abc_lib.ground.errors import ArtefactError
from abc_lib.ground.paths import PUBLISHED

__all__ = ["FOLDER", "read_benchmarks", "benchmark_table", "rates_table", "screening_table"]

FOLDER = PUBLISHED / "benchmarks"
"""one file a kind of device"""


def read_benchmarks(device: str = "cpu") -> dict | None:
    """The measurements that come with the repository for ``cpu`` or ``cuda``; None without.

    ``machine`` names the processor or GPU, its cores and the versions; ``comparisons`` maps
    the name of each file of ``benchmarks/`` to what it found, with the date, the commit and
    the machine of that part in ``made``. Raises :class:`ArtefactError` for a file that is
    not whole.
    """
    path = FOLDER / f"{device}.json"
    try:
        measured = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        measured = None
    if not isinstance(measured, dict) or not {"machine", "comparisons"} <= set(measured):
        raise ArtefactError(
            f"{path} is not what a benchmark wrote; restore it from the repository or run "
            "`make bench` again"
        )
    return measured


def _amount(value: float | None, form: str = "{:,.0f}") -> str:
    return "" if value is None else form.format(value)


def _seconds(value: float) -> str:
    if value >= 10:
        return f"{value:,.1f} s"
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.2f} ms"


def _memory(way: dict) -> str:
    if way["memory"] is None:
        return ""
    mebibytes = f"{way['memory'] / 2**20:,.0f} MiB"
    return mebibytes if way["processes"] == 1 else f"{way['processes']} × {mebibytes}"


def _both(row: dict, show: Callable[[dict], str]) -> str:
    return f"{show(row['ways']['ours'])} | {show(row['ways']['other'])}"


def _rows(measured: dict) -> list[dict]:
    return [row for part in measured["comparisons"].values() for row in part.get("rows", [])]


def benchmark_table(measured: dict) -> pd.DataFrame:
    """A line a comparison, as text: how many times as long the other way takes, and ours."""
    return pd.DataFrame(
        [
            {
                "comparison": row["name"],
                "against": row["other"],
                "times faster": f"{row['ratio']:.1f} ({row['lowest']:.1f} to {row['highest']:.1f})",
                "ours takes": f"{_seconds(row['ways']['ours']['median'])} a {row['unit']}",
            }
            for row in _rows(measured)
        ]
    )


def rates_table(measured: dict) -> pd.DataFrame:
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
            for row in _rows(measured)
        ]
    )


def screening_table(measured: dict) -> pd.DataFrame:
    """What screening and hybrid landscapes give, and for how much work, as text.

    Shares are of the network evaluations of an exact landscape, and what is given is a median
    unless told otherwise.
    """
    part = measured["comparisons"].get("screening", {})
    lines = [
        (
            f"{row['ensemble']}, {row['samples']} samples",
            f"screened radius, {row['k']} of {row['num_sources']:,} exactly",
            f"{row['cost']:.1%}",
            f"{row['median']:.2%} of the radius (mean {row['mean']:.2%}, lowest "
            f"{row['lowest']:.1%})",
        )
        for row in part.get("screened", [])
    ]
    lines += [
        (
            f"{row['ensemble']}, {row['samples']} samples",
            f"hybrid, {row['switch']} of {row['steps']} steps by tangents",
            f"{row['cost']:.1%}",
            f"off by {row['median']:.2%} of the distance (largest {row['largest']:.1%}), radii by "
            f"{row['radius']:.2%} at most",
        )
        for row in part.get("hybrids", [])
    ]
    return pd.DataFrame(lines, columns=["ensemble", "way", "evaluations", "what it gives"])
