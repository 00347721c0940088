"""Results for others, and back: universes, Parquet, NumPy, certificates and the explorer's page.

What comes from strangers is read within bounds and refused in one line.
What is written appears whole or not at all.
"""

from abc_lib.exchange.arrays import read_npz, write_npz
from abc_lib.exchange.tables import DistanceTable, read_parquet, table_of, write_parquet
from abc_lib.exchange.universe import (
    Universe,
    make_universe,
    read_universe,
    universe_landscapes,
    write_universe,
)

__all__ = [
    "Universe",
    "make_universe",
    "write_universe",
    "read_universe",
    "universe_landscapes",
    "DistanceTable",
    "table_of",
    "write_parquet",
    "read_parquet",
    "write_npz",
    "read_npz",
]
