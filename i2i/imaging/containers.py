"""Metadata in the files around the pixels: JPEG segments, PNG and WebP chunks, IPTC's wrapping.

libvips writes pixels and profiles. It would write EXIF too, but through a library that takes it
apart and adds entries of its own; here a block is stored as it is.
"""

import binascii
import re
import struct
import zlib
from collections.abc import Iterator, Mapping

from i2i.imaging.exif import PREFIX

_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC_RESOURCE = 0x0404
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
MAX_SEGMENT = 65533
"""The bytes that a JPEG segment holds, its marker and length left out."""

MAX_EXIF = MAX_SEGMENT - len(PREFIX)
"""The bytes of an EXIF block that a JPEG holds."""

MAX_XMP = MAX_SEGMENT - len(_JPEG_XMP)
"""The bytes of an XMP packet that a JPEG holds."""

_MAX_TEXT = 1 << 20  # bytes of a PNG's text chunk, unpacked: more is no text but an attack
_PNG_XMP = "XML:com.adobe.xmp"
_RAW_PROFILE = "Raw profile type "  # what ImageMagick and ExifTool store IPTC and EXIF under


def iptc_records(block: bytes) -> bytes | None:
    """Return the IIM records in a block, with or without Photoshop's wrapping."""
    if block[:1] == b"\x1c":
        return block
    at = len(_PHOTOSHOP) if block.startswith(_PHOTOSHOP) else 0
    while block[at : at + 4] == b"8BIM" and at + 12 <= len(block):
        kind, name_length = struct.unpack_from(">HB", block, at + 4)
        at += 6 + (name_length + 2) // 2 * 2
        length = int.from_bytes(block[at : at + 4], "big")
        if kind == _IPTC_RESOURCE:
            return block[at + 4 : at + 4 + length] or None
        at += 4 + length + length % 2
    return None


def photoshop_block(records: bytes) -> bytes:
    """Return IIM records in Photoshop's wrapping, as JPEG and PNG files hold them."""
    padding = b"\0" * (len(records) % 2)
    return b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(records)) + records + padding


def density(content: bytes, kind: str) -> tuple[float, float] | None:
    """Return pixels a millimetre as a JPEG's or PNG's own header says; libvips makes one up."""
    if kind == "jpeg" and content[2:4] == b"\xff\xe0" and content[6:11] == b"JFIF\0":
        unit, across, down = struct.unpack_from(">BHH", content, 13)
        millimetres = {1: 25.4, 2: 10.0}.get(unit)
        return (across / millimetres, down / millimetres) if millimetres and across * down else None
    for name, data, _ in png_chunks(content) if kind == "png" else ():
        if name == b"pHYs" and len(data) == 9 and data[8] == 1:
            across, down = struct.unpack_from(">II", data)
            return (across / 1000, down / 1000) if across * down else None
    return None


def without_density(content: bytes, format_: str) -> bytes:
    """Return a JPEG or PNG file as libvips writes them that says nothing of dots an inch."""
    if format_ == "jpeg" and content[6:11] == b"JFIF\0":
        return content[:13] + struct.pack(">BHH", 0, 1, 1) + content[18:]  # an aspect ratio, 1:1
    for kind, data, at in png_chunks(content) if format_ == "png" else ():
        if kind == b"pHYs":
            return content[:at] + content[at + 12 + len(data) :]
    return content


def with_jpeg_density(content: bytes, density: tuple[float, float]) -> bytes:
    """Return a JPEG file with a JFIF header (version 1.01) that names pixels a millimetre.

    In whole dots an inch. libvips leaves that header out where it keeps no more than the profile.
    """
    dots = [round(each * 25.4) for each in density]
    if content[2:4] == b"\xff\xe0" or not all(0 < each < 2**16 for each in dots):
        return content
    header = b"\xff\xe0" + struct.pack(">H5s2B", 16, b"JFIF\0", 1, 1)
    return content[:2] + header + struct.pack(">BHH2B", 1, *dots, 0, 0) + content[2:]


def with_jpeg_segments(
    content: bytes, exif: bytes | None, xmp: bytes | None, iptc: bytes | None
) -> bytes:
    """Return a JPEG file with metadata in it; what is longer than a segment is left out."""
    payloads = [
        (0xE1, PREFIX + exif if exif else b""),
        (0xE1, _JPEG_XMP + xmp if xmp else b""),
        (0xED, _PHOTOSHOP + photoshop_block(iptc) if iptc else b""),
    ]
    segments = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
        for marker, payload in payloads
        if 0 < len(payload) <= MAX_SEGMENT
    )
    at = 2
    if content[2:4] == b"\xff\xe0":  # JFIF wants to be first
        at += 2 + int.from_bytes(content[4:6], "big")
    return content[:at] + segments + content[at:]


def with_png_chunks(
    content: bytes,
    exif: bytes | None,
    xmp: bytes | None,
    iptc: bytes | None,
    text: Mapping[str, str],
) -> bytes:
    """Return a PNG file with metadata in it, before its pixels."""
    chunks = b""
    if exif:
        chunks += _png_chunk(b"eXIf", exif)
    if xmp:
        chunks += _png_chunk(b"iTXt", _PNG_XMP.encode() + bytes(5) + xmp)
    if iptc:
        block = photoshop_block(iptc)
        digits = re.sub(b"(.{72})", rb"\1\n", block.hex().encode())
        profile = b"\niptc\n%8d\n%s\n" % (len(block), digits)
        chunks += _png_chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(profile))
    for key, value in text.items():
        chunks += _text_chunk(key, value)
    after_header = 8 + 25
    return content[:after_header] + chunks + content[after_header:]


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield kind, data and offset of the chunks of a PNG that are not pixels; PNG, section 5.3."""
    at = 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        if kind != b"IDAT":
            yield kind, content[at + 8 : at + 8 + length], at
        at += 12 + length


def png_texts(content: bytes) -> dict[str, str]:
    """Return the texts of a PNG by their keywords, XMP's left out; damaged ones are skipped."""
    texts = {}
    for kind, data, _ in png_chunks(content):
        key, _, rest = data.partition(b"\0")
        try:
            if kind == b"tEXt":
                value = rest.decode("latin-1")
            elif kind == b"zTXt":
                value = _unpacked(rest[1:]).decode("latin-1")
            elif kind == b"iTXt":
                packed = rest[:1] == b"\1"
                body = rest[2:].split(b"\0", 2)[2]
                value = (_unpacked(body) if packed else body).decode()
            else:
                continue
        except (IndexError, UnicodeDecodeError, zlib.error):
            continue
        name = key.decode("latin-1")
        if name != _PNG_XMP and 0 < len(name) < 80:
            texts[name] = value
    return texts


def raw_profile(texts: Mapping[str, str], *names: str) -> bytes | None:
    """Return a block that ImageMagick or ExifTool hid in a text, under one of these names."""
    for name in names:
        lines = texts.get(_RAW_PROFILE + name, "").split("\n", 3)
        if len(lines) == 4:
            try:
                return binascii.unhexlify("".join(lines[3].split()))
            except binascii.Error:
                continue
    return None


def plain_texts(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts that are no blocks in disguise."""
    return {key: value for key, value in texts.items() if not key.startswith(_RAW_PROFILE)}


def num_png_frames(content: bytes) -> int:
    """Return the number of frames of a PNG: more than 1 where it is an animation."""
    for kind, data, _ in png_chunks(content):
        if kind == b"acTL":
            return int.from_bytes(data[:4], "big")
    return 1


def with_webp_chunks(
    content: bytes, exif: bytes | None, xmp: bytes | None, size: tuple[int, int], *, has_alpha: bool
) -> bytes:
    """Return a WebP file with metadata in it: a simple file becomes an extended one."""
    if not exif and not xmp:
        return content
    body = content[12:]
    if not body.startswith(b"VP8X"):
        height, width = size
        canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        body = _riff(b"VP8X", bytes([0x10 * has_alpha, 0, 0, 0]) + canvas) + body
    flags = body[8] | (0x08 if exif else 0) | (0x04 if xmp else 0)
    body = body[:8] + bytes([flags]) + body[9:]
    body += _riff(b"EXIF", exif) if exif else b""
    body += _riff(b"XMP ", xmp) if xmp else b""
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _text_chunk(key: str, value: str) -> bytes:
    name = key.encode("latin-1", "replace")[:79]
    try:
        return _png_chunk(b"tEXt", name + b"\0" + value.encode("latin-1"))
    except UnicodeEncodeError:
        return _png_chunk(b"iTXt", name + bytes(5) + value.encode())


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(data, _MAX_TEXT)
    if unpacker.unconsumed_tail:
        raise zlib.error("too long for a text")
    return unpacked
