"""Certificates of a sample's counterfactuals that anyone can check (3.5)."""

from .file import Certificate, read_certificate, write_certificate
from .make import make_certificate
from .verify import IMAGE_TOLERANCE, TOLERANCE, Report, verify_certificate

__all__ = [
    "Certificate",
    "IMAGE_TOLERANCE",
    "Report",
    "TOLERANCE",
    "make_certificate",
    "read_certificate",
    "verify_certificate",
    "write_certificate",
]
