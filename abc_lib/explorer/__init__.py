"""The explorer: a page on which landscapes are looked at image by image, without a server (2.1, 3.2)."""

from .build import LOCAL, SHIPPED, SHIPPED_NAMES, build_explorer, verify_explorer

__all__ = ["LOCAL", "SHIPPED", "SHIPPED_NAMES", "build_explorer", "verify_explorer"]
