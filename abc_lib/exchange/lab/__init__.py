"""The lab: an ensemble for a browser, which samples with and without sources while one watches.

Members run through ONNX Runtime's WebAssembly; what they are is the published members' own file.
"""

from abc_lib.exchange.lab.build import SHIPPED, SHIPPED_NAMES, build_lab

__all__ = ["SHIPPED", "SHIPPED_NAMES", "build_lab"]
