"""EXIF in AVIF files: libvips writes an item for it, and this replaces what stands in the item.

Boxes and items: ISO/IEC 14496-12, sections 4.2, 8.11.3 (iloc) and 8.11.6 (iinf).
"""

import struct
from collections.abc import Iterator

_HEADER = b"\0\0\0\6Exif\0\0"  # how far the block is from here, and what is between


def placeholder() -> bytes:
    """Return the smallest block for libvips to make an item of."""
    return b"Exif\0\0II*\0\x08\0\0\0" + bytes(6)


def with_exif(content: bytes, block: bytes) -> bytes:
    """Return a file as libvips writes it with this block in its EXIF item, byte for byte.

    Raises ValueError where there is no such item.
    """
    meta = _box(content, b"meta", 0, len(content))
    inside = meta[0] + 4
    number = _exif_item(content, *_box(content, b"iinf", inside, meta[1]))
    at = _place(content, number, *_box(content, b"iloc", inside, meta[1]))
    data = _HEADER + block
    changed = bytearray(content)
    struct.pack_into(">IHII", changed, at, len(content) + 8, 1, 0, len(data))
    return bytes(changed) + struct.pack(">I4s", len(data) + 8, b"mdat") + data


def _boxes(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", content, start)
        if length < 8:
            return
        yield kind, start + 8, start + length
        start += length


def _box(content: bytes, wanted: bytes, start: int, end: int) -> tuple[int, int]:
    for kind, inside, after in _boxes(content, start, end):
        if kind == wanted:
            return inside, after
    raise ValueError(f"no box {wanted!r}")


def _exif_item(content: bytes, start: int, end: int) -> int:
    """Return the number of the item of type Exif, from entries of version 2."""
    for kind, inside, _ in _boxes(content, start + 6, end):
        if kind == b"infe" and content[inside + 8 : inside + 12] == b"Exif":
            return int.from_bytes(content[inside + 4 : inside + 6], "big")
    raise ValueError("no EXIF item")


def _place(content: bytes, number: int, start: int, end: int) -> int:
    """Return where an item's base offset, number of extents, offset and length stand."""
    if content[start] != 0 or content[start + 4 : start + 6] != b"\x44\x40":
        raise ValueError("an iloc of another layout than libheif's: four bytes each, version 0")
    at = start + 8
    while at + 18 <= end:
        own, base_at = int.from_bytes(content[at : at + 2], "big"), at + 4
        extents = int.from_bytes(content[base_at + 4 : base_at + 6], "big")
        if own == number and extents == 1:
            return base_at
        at = base_at + 6 + 8 * extents
    raise ValueError("no place of the EXIF item")
