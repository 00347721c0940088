"""Where things lie: the repository, what was published, and what this machine computed."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "data" / "paper"
PUBLISHED = ROOT / "data" / "published"
RAW = ROOT / "data" / "raw"


def cache_root() -> Path:
    """Where this machine keeps what it computed: ``$ABC_CACHE``, else ``data/cache``."""
    return Path(os.environ.get("ABC_CACHE") or ROOT / "data" / "cache")


def data_roots() -> list[Path]:
    """Folders to look for data sets in, in order: ``$ABC_DATA`` if set, then ``data/raw``."""
    named = os.environ.get("ABC_DATA")
    return ([Path(named)] if named else []) + [RAW]
