"""The one form in which checksums are written."""

import hashlib


def checksum(data: bytes) -> str:
    """Return ``sha256:`` and the 64 hex digits of the data's SHA-256."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
