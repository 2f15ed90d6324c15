"""EXIF blocks, edited where they stand: maker notes hold offsets that moving them would break.

A block is a TIFF structure (Exif 2.32, section 4.5): a header, directories of 12-byte entries, and
values that the entries point at.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PREFIX = b"Exif\0\0"  # what stands before the block in JPEG, and in files of careless writers

EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005  # tags that point at a directory
BYTES_OF = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""The size of a value by the number of its type."""

_ORIENTATION, _RESOLUTION, _UNIT = 0x0112, (0x011A, 0x011B), 0x0128
_WIDTH, _HEIGHT = (0x0100, 0xA002), (0x0101, 0xA003)  # in the first directory; in Exif's own
_MM_PER_UNIT = {2: 25.4, 3: 10.0}


@dataclass(frozen=True)
class Entry:
    """One entry of a directory; ``at`` is where it stands, ``value_at`` where its value does."""

    tag: int
    kind: int
    count: int
    at: int
    value_at: int

    @property
    def num_bytes(self) -> int:
        """The size of the value; 0 for a type that is unknown."""
        return BYTES_OF.get(self.kind, 0) * self.count


def byte_order(block: bytes | bytearray) -> str:
    """Return "<" or ">"; raises ValueError where there is no classic TIFF structure."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None or len(block) < 8:
        raise ValueError("no TIFF structure")
    return order


def directory(block: bytes | bytearray, at: int) -> tuple[list[Entry], int]:
    """Return the entries of the directory at an offset, and the offset of the next one or 0.

    Raises ValueError where it does not lie within the block. Values may lie outside.
    """
    order = byte_order(block)
    try:
        (count,) = struct.unpack_from(f"{order}H", block, at)
        (following,) = struct.unpack_from(f"{order}I", block, at + 2 + 12 * count)
    except struct.error as error:
        raise ValueError("a directory lies outside") from error
    entries = []
    for index in range(count):
        here = at + 2 + 12 * index
        tag, kind, num = struct.unpack_from(f"{order}HHI", block, here)
        inline = BYTES_OF.get(kind, 0) * num <= 4
        value_at = here + 8 if inline else struct.unpack_from(f"{order}I", block, here + 8)[0]
        entries.append(Entry(tag, kind, num, here, value_at))
    return entries, following


def first_directory(block: bytes | bytearray) -> int:
    """Return the offset of the first directory."""
    at: int = struct.unpack_from(f"{byte_order(block)}I", block, 4)[0]
    return at


def cleaned(content: bytes) -> bytes | None:
    """Return a block with orientation 1 and no thumbnail; None where it is damaged."""
    block = bytearray(content.removeprefix(PREFIX))
    try:
        entries, following = directory(block, first_directory(block))
        for _ in _all_entries(block):  # every directory must lie within
            pass
    except (ValueError, struct.error):
        return None
    if following:
        after = entries[-1].at + 12 if entries else first_directory(block) + 2
        struct.pack_into("4x", block, after)
        _erase_thumbnail(block, following)
    for entry in entries:
        if entry.tag == _ORIENTATION:
            _set_integer(block, entry, 1)
    return bytes(block)


def fitted(block: bytes, size: tuple[int, int], density: tuple[float, float] | None) -> bytes:
    """Return a block that names this height and width, and this density, where it names any."""
    changed = bytearray(block)
    entries = list(_all_entries(changed))
    units = [_integer(changed, entry) for entry in entries if entry.tag == _UNIT]
    millimetres = _MM_PER_UNIT.get(units[0] if units else 2, 25.4)
    for entry in entries:
        if entry.tag in _HEIGHT:
            _set_integer(changed, entry, size[0])
        elif entry.tag in _WIDTH:
            _set_integer(changed, entry, size[1])
        elif density is not None and entry.tag in _RESOLUTION and entry.kind == 5:
            value = density[_RESOLUTION.index(entry.tag)] * millimetres
            pair = (round(value * 1000), 1000) if value % 1 else (int(value), 1)
            _put(changed, entry.value_at, struct.pack(f"{byte_order(changed)}II", *pair))
    return bytes(changed)


def density(block: bytes) -> tuple[float, float] | None:
    """Return pixels a millimetre, across and down, where the block names both."""
    order, found = byte_order(block), {}
    unit = 2
    for entry in directory(block, first_directory(block))[0]:
        if entry.tag in _RESOLUTION and entry.kind == 5 and entry.value_at + 8 <= len(block):
            over, under = struct.unpack_from(f"{order}II", block, entry.value_at)
            found[entry.tag] = over / under if under else 0.0
        elif entry.tag == _UNIT:
            unit = _integer(block, entry)
    if unit not in _MM_PER_UNIT or len(found) < 2 or not all(found.values()):
        return None
    across, down = (found[tag] / _MM_PER_UNIT[unit] for tag in _RESOLUTION)
    return across, down


def without_gps(block: bytes) -> bytes:
    """Return a block without its GPS directory: the entry gone, what it pointed at zeroed."""
    changed = bytearray(block)
    at = first_directory(changed)
    entries, following = directory(changed, at)
    for entry in entries:
        if entry.tag == GPS_IFD:
            _erase_directory(changed, _integer(changed, entry))
    kept = [bytes(block[e.at : e.at + 12]) for e in entries if e.tag != GPS_IFD]
    order = byte_order(changed)
    table = (
        struct.pack(f"{order}H", len(kept)) + b"".join(kept) + struct.pack(f"{order}I", following)
    )
    _put(changed, at, table.ljust(6 + 12 * len(entries), b"\0"))
    return bytes(changed)


def _all_entries(block: bytes | bytearray) -> Iterator[Entry]:
    """Yield the entries of the first directory and of those that it points at."""
    waiting, seen = [first_directory(block)], set()
    while waiting:
        at = waiting.pop(0)
        if at in seen:
            continue
        seen.add(at)
        for entry in directory(block, at)[0]:
            yield entry
            if entry.tag in (EXIF_IFD, GPS_IFD, INTEROP_IFD):
                waiting.append(_integer(block, entry))


def _erase_directory(block: bytearray, at: int) -> None:
    entries, _ = directory(block, at)
    for entry in entries:
        _erase(block, entry.value_at, entry.num_bytes)
    _erase(block, at, 6 + 12 * len(entries))


def _erase_thumbnail(block: bytearray, at: int) -> None:
    """Zero the thumbnail, which may show what was cut from the picture; drop it from the end."""
    try:
        entries, _ = directory(block, at)
    except ValueError:
        return
    numbers = {entry.tag: _integer(block, entry) for entry in entries}
    start, length = numbers.get(0x0201, 0), numbers.get(0x0202, 0)
    _erase_directory(block, at)
    _erase(block, start, length)
    if start and start + length >= len(block):
        del block[start:]


def _integer(block: bytes | bytearray, entry: Entry) -> int:
    letter = {1: "B", 3: "H", 4: "I", 13: "I"}.get(entry.kind)
    if letter is None or entry.value_at + BYTES_OF[entry.kind] > len(block):
        return 0
    value: int = struct.unpack_from(byte_order(block) + letter, block, entry.value_at)[0]
    return value


def _set_integer(block: bytearray, entry: Entry, value: int) -> None:
    if entry.count != 1 or entry.kind not in (3, 4):
        return
    kind = 4 if value > 65535 else entry.kind
    order = byte_order(block)
    number = struct.pack(order + ("I" if kind == 4 else "H"), value).ljust(4, b"\0")
    _put(block, entry.at + 2, struct.pack(f"{order}H", kind))
    _put(block, entry.at + 8, number)


def _put(block: bytearray, at: int, data: bytes) -> None:
    """Write where it fits: an entry of a careless writer may point outside."""
    if at + len(data) <= len(block):
        block[at : at + len(data)] = data


def _erase(block: bytearray, at: int, length: int) -> None:
    if at + length <= len(block):
        block[at : at + length] = bytes(length)
