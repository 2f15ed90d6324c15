"""Write what a folder job makes, and lay out its contact sheet."""

import errno
from collections.abc import Sequence
from pathlib import Path

from i2i.engine.records import Result
from i2i.errors import ImageError
from i2i.files import write_atomically
from i2i.imaging import MAX_PIXELS, Picture, contact_sheet, pillow_unbound, read_picture

_NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)


def save(path: Path, content: bytes) -> None:
    """Write a picture's file, with its folder; raises ImageError where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise unwritten(path, error) from error


def unwritten(path: Path, error: OSError) -> ImageError:
    """Return the error for a file that cannot be written."""
    full = error.errno in _NO_SPACE
    return ImageError(
        f"cannot be written ({error.strerror or error})",
        where=str(path),
        expected="space to write" if full else "a name that is free and may be written",
        remedy=f"{'free some space, or ' if full else ''}choose another folder with --out",
    )


def make_sheet(results: Sequence[Result], max_pixels: int = MAX_PIXELS) -> Picture:
    """Return a contact sheet of results that are done, each input left of its output."""
    pairs = (
        (
            read_picture(Path(result.input), max_pixels),
            # written by us a moment ago, and enlarged by some families
            read_picture(Path(result.output), 10**12),
        )
        for result in results
        if result.output is not None
    )
    with pillow_unbound():
        return contact_sheet(pairs)
