"""EXIF in TIFF files, which libvips neither reads nor writes, and what else their directories say.

A TIFF file's own directories are its EXIF: TIFF 6.0, section 2, and Exif 2.32, section 4.5.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from i2i.imaging import exif
from i2i.imaging.exif import EXIF_IFD, GPS_IFD, INTEROP_IFD, Entry

# What tells of the picture. The first directory's other entries tell how its pixels are stored,
# or belong to an application; XMP, IPTC and the ICC profile travel on their own.
_TELLING = frozenset(
    {
        0x010D, 0x010E, 0x010F, 0x0110,  # DocumentName, ImageDescription, Make, Model
        0x011A, 0x011B, 0x0128,  # XResolution, YResolution, ResolutionUnit
        0x011D, 0x0131, 0x0132, 0x013B, 0x013C,  # PageName, Software, DateTime, Artist, computer
        0x4746, 0x4749, 0x8298,  # Rating, RatingPercent, Copyright
        0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F,  # title, comment, author, keywords, subject
    }
)  # fmt: skip
_DENSITY = (0x011A, 0x011B, 0x0128)
_SUBFILE_TYPE, _BITS, _PHOTOMETRIC = 0x00FE, 0x0102, 0x0106
_IPTC, _PHOTOSHOP = 0x83BB, 0x8649
_UNDEFINED = 7

_SWAP = {3: "u2", 8: "u2", 4: "u4", 9: "u4", 11: "u4", 13: "u4", 5: "u4", 10: "u4", 12: "u8"}


@dataclass(frozen=True)
class Value:
    """The type, number and bytes of an entry's value, in the byte order of its file."""

    kind: int
    count: int
    data: bytes


@dataclass(frozen=True)
class Directory:
    """Entries by tag, and the directories that some of them point at."""

    values: Mapping[int, Value] = field(default_factory=dict)
    children: Mapping[int, "Directory"] = field(default_factory=dict)


@dataclass(frozen=True)
class Described:
    """What the first directory says; ``num_pages`` leaves reduced copies out."""

    num_pages: int
    bits: int
    photometric: int
    exif: bytes | None
    iptc: bytes | None


def describe(content: bytes) -> Described | None:
    """Return what a TIFF file's directories say; None for BigTIFF and for damaged ones."""
    try:
        order = exif.byte_order(content)
        pages = _pages(content)
        first = {entry.tag: entry for entry in pages[0]}
        kept = _directory(content, pages[0], _TELLING)
        block = content[:4] + struct.pack(f"{order}I", 8) + _serialised(kept, order, 8)
    except (ValueError, IndexError, struct.error):
        return None
    iptc = first.get(_IPTC) or first.get(_PHOTOSHOP)
    return Described(
        num_pages=sum(_number(content, page, _SUBFILE_TYPE, 0) & 5 == 0 for page in pages),
        bits=_number(content, pages[0], _BITS, 1),
        photometric=_number(content, pages[0], _PHOTOMETRIC, 1),
        exif=block if kept.children or set(kept.values) - {*_DENSITY} else None,
        iptc=_data(content, iptc) if iptc else None,
    )


def with_exif(
    content: bytes, block: bytes | None, iptc: bytes | None, *, has_density: bool
) -> bytes:
    """Return a classic TIFF file of one page with an EXIF block and IPTC records in it.

    A new first directory is appended, and the header points at it: pixels stay where they are.
    """
    order, block_order = exif.byte_order(content), exif.byte_order(block or content)
    at = exif.first_directory(content)
    old = _directory(content, exif.directory(content, at)[0], None)
    values, children = dict(old.values), dict(old.children)
    if not has_density:
        values = {tag: value for tag, value in values.items() if tag not in _DENSITY}
    if block is not None:
        entries, _ = exif.directory(block, exif.first_directory(block))
        added = _directory(block, entries, _TELLING - {*_DENSITY})
        if order != block_order:
            added = _swapped(added)
        values, children = {**added.values, **values}, {**added.children, **children}
    if iptc is not None:
        values[_IPTC] = Value(_UNDEFINED, len(iptc), iptc)
    content += b"\0" * (len(content) % 2)
    directory = _serialised(Directory(values, children), order, len(content))
    return content[:4] + struct.pack(f"{order}I", len(content)) + content[8:] + directory


def _pages(content: bytes) -> list[list[Entry]]:
    pages: list[list[Entry]] = []
    at, seen = exif.first_directory(content), set[int]()
    while at and at not in seen:
        seen.add(at)
        entries, at = exif.directory(content, at)
        pages.append(entries)
    return pages


def _directory(block: bytes, entries: list[Entry], tags: frozenset[int] | None) -> Directory:
    """Gather entries, of all tags or of some, and what they point at, to EXIF's own depth."""
    values, children = {}, {}
    for entry in entries:
        if entry.tag in (EXIF_IFD, GPS_IFD, INTEROP_IFD):
            at = int.from_bytes(
                block[entry.value_at : entry.value_at + 4],
                "little" if exif.byte_order(block) == "<" else "big",
            )
            # None of the inner directories is reached twice: Exif's is the only one that has one
            inner = [e for e in exif.directory(block, at)[0] if e.tag not in (EXIF_IFD, GPS_IFD)]
            if entry.tag != EXIF_IFD:
                inner = [e for e in inner if e.tag != INTEROP_IFD]
            children[entry.tag] = _directory(block, inner, None)
        elif tags is None or entry.tag in tags:
            data = _data(block, entry)
            if data:
                values[entry.tag] = Value(entry.kind, entry.count, data)
    return Directory(values, children)


def _serialised(directory: Directory, order: str, at: int) -> bytes:
    """Return a directory and its values and children, as they stand at an offset of a file."""
    tags = sorted({*directory.values, *directory.children})
    table, body = struct.pack(f"{order}H", len(tags)), b""
    start = at + 2 + 12 * len(tags) + 4
    for tag in tags:
        here = start + len(body)
        if tag in directory.children:
            table += struct.pack(f"{order}HHII", tag, 4, 1, here)
            body += _serialised(directory.children[tag], order, here)
            continue
        value = directory.values[tag]
        table += struct.pack(f"{order}HHI", tag, value.kind, value.count)
        if len(value.data) <= 4:
            table += value.data.ljust(4, b"\0")
        else:
            table += struct.pack(f"{order}I", here)
            body += value.data + b"\0" * (len(value.data) % 2)
    return table + bytes(4) + body


def _swapped(directory: Directory) -> Directory:
    """Return a directory in the other byte order; maker notes keep theirs."""
    values = {
        tag: Value(value.kind, value.count, _swapped_data(value))
        for tag, value in directory.values.items()
    }
    return Directory(values, {tag: _swapped(each) for tag, each in directory.children.items()})


def _swapped_data(value: Value) -> bytes:
    letter = _SWAP.get(value.kind)
    if letter is None:
        return value.data
    return np.frombuffer(value.data, dtype=letter).byteswap().tobytes()


def _data(content: bytes, entry: Entry) -> bytes:
    data = content[entry.value_at : entry.value_at + entry.num_bytes]
    return data if len(data) == entry.num_bytes else b""


def _number(content: bytes, page: list[Entry], tag: int, otherwise: int) -> int:
    order = "little" if exif.byte_order(content) == "<" else "big"
    for entry in page:
        if entry.tag == tag and entry.kind in (3, 4):
            size = exif.BYTES_OF[entry.kind]
            return int.from_bytes(content[entry.value_at : entry.value_at + size], order)  # type: ignore[arg-type]
    return otherwise
