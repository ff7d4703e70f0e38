"""The hash of a file."""

import hashlib
from pathlib import Path


def hash_of(path: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file's content in hexadecimal digits.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
