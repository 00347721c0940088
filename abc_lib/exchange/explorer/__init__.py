"""The page on which landscapes are looked through image by image, in a browser without a server."""

from abc_lib.exchange.explorer.build import (
    LOCAL,
    SHIPPED,
    SHIPPED_NAMES,
    build_explorer,
    verify_explorer,
)

__all__ = ["build_explorer", "verify_explorer", "SHIPPED", "SHIPPED_NAMES", "LOCAL"]
