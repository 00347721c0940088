"""Landscapes for other programs, and back: the authors' counterfactual universes, Parquet, NumPy."""

from .arrays import read_npz, write_npz
from .mosaic import to_bytes
from .tables import DistanceTable, read_parquet, write_parquet
from .universe import Universe, make_universe, read_universe, universe_landscapes, write_universe

__all__ = [
    "DistanceTable",
    "Universe",
    "make_universe",
    "read_npz",
    "read_parquet",
    "read_universe",
    "to_bytes",
    "universe_landscapes",
    "write_npz",
    "write_parquet",
    "write_universe",
]
