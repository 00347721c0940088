"""Distances as plain Parquet: one row a sample and source."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.errors import ArtefactError, BadValue
from abc_lib.ground.files import atomic_file, bounded_file
from abc_lib.method.landscape import METRIC, Landscapes

_COLUMNS = {
    "sample": pa.int64(),
    "source": pa.int64(),
    "distance": pa.float64(),
    "rank": pa.int64(),
}
_KEY = b"abc_lib"
_ABOUT = {"name": str, "scale": str, "seed": int, "tangent_steps": int, "metric": str}


@dataclass(frozen=True, eq=False)
class DistanceTable:
    """What a landscape is without its images.

    ``indices`` (S,) int64 the samples' numbers under ``seed``; ``distances`` (S, N)
    float64, as :attr:`Landscapes.distances`. Raises :class:`BadValue` where they are
    not finite distances of different samples.
    """

    name: str
    scale: str
    seed: int
    indices: np.ndarray
    distances: np.ndarray
    tangent_steps: int = 0
    metric: str = METRIC

    def __post_init__(self):
        if (
            self.distances.ndim != 2
            or 0 in self.distances.shape
            or self.indices.shape != self.distances.shape[:1]
        ):
            raise BadValue(
                f"distances {self.distances.shape} and indices {self.indices.shape} are no landscapes (S, N) of S samples"
            )
        if len(np.unique(self.indices)) != len(self.indices) or (self.indices < 0).any():
            raise BadValue("sample indices must be different whole numbers from 0 on")
        if not np.isfinite(self.distances).all() or (self.distances < 0).any():
            raise BadValue("distances must be finite and not negative; recompute the landscape")

    @property
    def radii(self) -> np.ndarray:
        """Counterfactual radius of each sample (definition 1), (S,)."""
        return self.distances.max(axis=1)

    @property
    def ranks(self) -> np.ndarray:
        """(S, N) int64: 1 for the farthest counterfactual of a sample, N for the nearest; equal ones by source number."""
        order = np.argsort(-self.distances, axis=1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(1, order.shape[1] + 1)[None], axis=1)
        return ranks


def table_of(landscapes: Landscapes) -> DistanceTable:
    """A landscape's distances with what names them."""
    return DistanceTable(
        landscapes.name,
        landscapes.scale,
        int(landscapes.seed),
        np.asarray(landscapes.indices, np.int64),
        np.asarray(landscapes.distances, np.float64),
        int(landscapes.tangent_steps),
    )


def write_parquet(landscapes: Landscapes | DistanceTable, path: Path | str) -> None:
    """Columns ``sample``, ``source``, ``distance`` and ``rank`` (1 is the farthest), sample after sample; zstd.

    Name, scale, seed, tangent steps and metric lie in the schema's metadata, as JSON
    under ``abc_lib``.
    """
    table = landscapes if isinstance(landscapes, DistanceTable) else table_of(landscapes)
    S, N = table.distances.shape
    columns = [
        np.repeat(table.indices.astype(np.int64), N),
        np.tile(np.arange(N), S),
        table.distances.reshape(-1),
        table.ranks.reshape(-1),
    ]
    about = {key: getattr(table, key) for key in _ABOUT}
    schema = pa.schema(list(_COLUMNS.items()), {_KEY: json.dumps(about, sort_keys=True).encode()})
    with atomic_file(path) as file:
        pq.write_table(pa.table(columns, schema=schema), file, compression="zstd")


def read_parquet(path: Path | str, memory: int | str = "2GiB") -> DistanceTable:
    """What :func:`write_parquet` wrote, bit for bit.

    The number of rows is held against ``memory`` before any is decoded. Raises
    :class:`ArtefactError` for other columns, rows that are no complete landscape and
    ranks that are not those of the distances.
    """
    path, budget = Path(path), parse_bytes(memory)

    def refused(why: str) -> ArtefactError:
        return ArtefactError(f"{path} is refused: {why}")

    with bounded_file(path, budget) as file:
        try:
            # Sizes that the file itself announces are not believed.
            opened = pq.ParquetFile(
                file, thrift_string_size_limit=2**24, thrift_container_size_limit=2**20
            )
            schema = opened.schema_arrow
            if dict(zip(schema.names, schema.types)) != _COLUMNS or len(schema.names) != len(
                _COLUMNS
            ):
                raise refused(
                    f"its columns must be {', '.join(f'{n} ({t})' for n, t in _COLUMNS.items())}"
                )
            if opened.metadata.num_rows * 8 * len(_COLUMNS) > budget:
                raise refused(
                    f"its {opened.metadata.num_rows} rows do not fit the memory of {memory}; raise memory"
                )
            table = opened.read()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise refused(
                f"it is not a sound Parquet file ({' '.join(str(error).split())[:160]}); fetch it again"
            ) from None
    about = _about((schema.metadata or {}).get(_KEY), refused)
    if any(column.null_count for column in table.columns):
        raise refused("some of its values are missing")
    sample, source, distance, rank = (table[name].to_numpy() for name in _COLUMNS)
    indices, first = np.unique(sample, return_index=True)
    S = len(indices)
    N = len(sample) // max(S, 1)
    indices = sample[np.sort(first)]
    whole = N > 0 and S * N == len(sample)
    if (
        not whole
        or not (sample == np.repeat(indices, N)).all()
        or not (source == np.tile(np.arange(N), S)).all()
    ):
        raise refused(
            "its rows must hold every source of a sample, 0 to N - 1, and then those of the next"
        )
    try:
        found = DistanceTable(
            indices=indices.copy(), distances=distance.reshape(S, N).copy(), **about
        )
    except BadValue as error:
        raise refused(str(error)) from None
    if not np.array_equal(found.ranks.reshape(-1), rank):
        raise refused("its ranks are not those of its distances (1 is the farthest)")
    return found


def _about(raw: bytes | None, refused) -> dict:
    try:
        about = json.loads(raw or b"")
        sound = isinstance(about, dict) and {k: type(v) for k, v in about.items()} == _ABOUT
    except (ValueError, RecursionError):
        sound = False
    if not sound:
        raise refused(f"its metadata 'abc_lib' must be JSON with {', '.join(_ABOUT)}")
    return about
