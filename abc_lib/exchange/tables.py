"""Distances as plain Parquet: one row a sample and source."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from abc_lib.exchange.guards import decoding, refused, sound_json
from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.errors import BadValue
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
        shapes = self.distances.shape, self.indices.shape
        if self.distances.ndim != 2 or 0 in shapes[0] or shapes[1] != shapes[0][:1]:
            raise BadValue(
                f"distances {shapes[0]} and indices {shapes[1]} are no landscapes (S, N) of S "
                "samples"
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
        """(S, N) int64: 1 for a sample's farthest counterfactual; equal ones by source number."""
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
    """Columns ``sample``, ``source``, ``distance``, ``rank`` (1 is the farthest), by sample; zstd.

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
    budget = parse_bytes(memory)
    with bounded_file(path, budget) as file, decoding(path, "sound Parquet file"):
        # Sizes that the file itself announces are not believed.
        opened = pq.ParquetFile(
            file, thrift_string_size_limit=2**24, thrift_container_size_limit=2**20
        )
        schema, rows = opened.schema_arrow, opened.metadata.num_rows
        if len(schema.names) != 4 or dict(zip(schema.names, schema.types)) != _COLUMNS:
            columns = ", ".join(f"{name} ({kind})" for name, kind in _COLUMNS.items())
            raise refused(path, f"its columns must be {columns}")
        if rows * 8 * len(_COLUMNS) > budget:
            raise refused(path, f"its {rows} rows do not fit the memory of {memory}; raise memory")
        table = opened.read()
    about = _about(path, (schema.metadata or {}).get(_KEY, b""))
    if any(column.null_count for column in table.columns):
        raise refused(path, "some of its values are missing")
    sample, source, distance, rank = (table[name].to_numpy() for name in _COLUMNS)
    indices = sample[np.sort(np.unique(sample, return_index=True)[1])]
    N = len(sample) // max(1, len(indices))
    rows = np.repeat(indices, N), np.tile(np.arange(N), len(indices))
    if N == 0 or not np.array_equal((sample, source), rows):
        why = "its rows must hold every source of a sample, 0 to N - 1, and then those of the next"
        raise refused(path, why)
    try:
        read = DistanceTable(indices=indices, distances=distance.reshape(-1, N).copy(), **about)
    except BadValue as error:
        raise refused(path, str(error)) from None
    if not np.array_equal(read.ranks.reshape(-1), rank):
        raise refused(path, "its ranks are not those of its distances (1 is the farthest)")
    return read


def _about(path: Path | str, raw: bytes) -> dict:
    what = f"table with the metadata 'abc_lib', JSON with {', '.join(_ABOUT)}"
    with decoding(path, what, "write it again"):
        about = sound_json(raw.decode())
        if {key: type(value) for key, value in about.items()} != _ABOUT:
            raise ValueError("other keys or types")
    return about
