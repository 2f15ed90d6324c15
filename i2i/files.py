"""Write files so that a reader sees the old one or the new one, whenever we are killed."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside ``path``, force to disk, rename: a reader sees the old file or the new one."""
    beside = path.with_name(f"{_beside(path)}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def leftovers(path: Path) -> Iterator[Path]:
    """Yield what processes that were killed have left beside ``path``, which they were to write."""
    yield from path.parent.glob(f"{_beside(path)}.*.part")


def _beside(path: Path) -> str:
    short = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]  # the name may be the longest
    return f".{short}"
