"""Pixels that took time to make, kept in the user's cache and mapped into memory from there."""

import hashlib
import io
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from i2i.data.layouts import PreparedPart
from i2i.downloads import cache_folder
from i2i.errors import DataError
from i2i.files import write_atomically
from i2i.imaging import Pixels

_VERSION = 1  # of how files are decoded and pictures shrunk


def prepared(part: PreparedPart, read: Callable[[Path], NDArray[np.uint8]]) -> Pixels:
    """Return what ``part`` prepares, read-only; made from ``read``'s pixels where it is not kept.

    It is kept for as long as the picture's path, size and time of change are what they were.
    Processes may ask for one picture at a time: whoever comes last has made the same file again.
    Raises DataError for a cache that cannot be written, and what ``read`` and ``prepare`` raise.
    """
    path = _home(part)
    kept = _mapped(path)
    if kept is None:
        kept = part.prepare(read(part.path))
        _write(path, kept)
    return kept


def check_room(parts: Iterable[tuple[PreparedPart, int]]) -> None:
    """Raise DataError unless the disk has room for each part's bytes that are not kept yet."""
    needed = sum(num_bytes for part, num_bytes in parts if not _home(part).is_file())
    folder = cache_folder()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise _unkept(f"they take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")


def _home(part: PreparedPart) -> Path:
    """Return where the prepared pixels lie."""
    real = part.path.resolve()
    try:
        now = real.stat()
    except OSError as error:
        raise DataError(
            f"it cannot be opened ({error.strerror or error})",
            where=str(part.path),
            expected="a picture",
            remedy="put it back, or begin again without it",
        ) from error
    facts = (str(real), now.st_size, now.st_mtime_ns, part.preparation, _VERSION)
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
    return cache_folder() / "pixels" / name[:2] / f"{name}.npy"


def _mapped(path: Path) -> Pixels | None:
    """Return the array in a file without reading it whole; None where there is no sound one."""
    try:
        pixels: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, cut short or not an array
        return None
    return pixels if pixels.dtype == np.uint8 and pixels.ndim == 3 else None


def _write(path: Path, pixels: Pixels) -> None:
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(pixels), allow_pickle=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except PermissionError as error:
        if _mapped(path) is None:  # Windows: another process made it first, and has it mapped
            raise _full(error) from error
    except OSError as error:
        raise _full(error) from error


def _full(error: OSError) -> DataError:
    return _unkept(error.strerror or str(error))


def _unkept(reason: str) -> DataError:
    return DataError(
        f"decoded pictures cannot be kept ({reason})",
        where=str(cache_folder() / "pixels"),
        expected="a folder that can be written, with room for every picture of the data folder",
        remedy="make room, name another folder with I2I_CACHE, or set data.options.cache = false",
    )
