"""A sample's counterfactual distances in a file that anyone can check with the members (3.5)."""

from abc_lib.exchange.certificates.file import Certificate, read_certificate, write_certificate
from abc_lib.exchange.certificates.make import make_certificate
from abc_lib.exchange.certificates.verify import Report, verify_certificate

__all__ = [
    "make_certificate",
    "write_certificate",
    "read_certificate",
    "verify_certificate",
    "Certificate",
    "Report",
]
