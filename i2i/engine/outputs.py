"""Write what a folder job makes, and lay out its contact sheet."""

import errno
from collections.abc import Iterator, Mapping, Sequence
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


def make_sheet(
    rows: Sequence[Mapping[str, Result]],
    variants: Sequence[str] = ("",),
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Return a contact sheet of what is done, each input left of its outputs.

    ``rows`` are the results of each picture by variant, one of them at least; ``variants`` say in
    which order they stand. A variant that is missing leaves its place grey.
    """

    def strip(row: Mapping[str, Result]) -> Iterator[Picture | None]:
        yield read_picture(Path(next(iter(row.values())).input), max_pixels)
        for variant in variants:
            output = row[variant].output if variant in row else None
            # written by us a moment ago, and enlarged by some families
            yield None if output is None else read_picture(Path(output), 10**12)

    captions = ("input", *variants) if any(variants) else ()
    with pillow_unbound():
        return contact_sheet(map(strip, rows), captions)
