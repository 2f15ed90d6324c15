"""XMP packets: put properties in, read them back, take out what a new picture must not carry.

Everything else in a packet keeps its meaning: structures, language alternatives, attributes and
elements, prefixes, any script. Comments, padding and the packet's own encoding do not: what is
written is UTF-8. Equal packets and properties give equal bytes. A property is named as
ElementTree does, ``{namespace}Name``.

Source: ISO 16684-1 (XMP data model and RDF serialization).
"""

import codecs
import hashlib
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from xml.sax.saxutils import escape, quoteattr

from i2i.imaging.names import printable

OWN = "urn:i2i-gan:provenance:1:"
"""The namespace of i2i's own properties; its 1 rises when one changes its meaning."""

IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_XML = "http://www.w3.org/XML/1998/namespace"
_GEO = "http://www.w3.org/2003/01/geo/wgs84_pos#"
_PREFIXES = {_RDF: "rdf", _META: "x", OWN: "i2i", IPTC_EXTENSION: "Iptc4xmpExt"}

_DESCRIPTION = f"{{{_RDF}}}Description"
_ABOUT = f"{{{_RDF}}}about"
_ORIENTATION = f"{{{_TIFF}}}Orientation"
_EXTENDED = "{http://ns.adobe.com/xmp/note/}HasExtendedXMP"
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"  # begins the segments of a JPEG that hold it
# What is true of the file that was read, and not of a picture that was made from it.
_OF_THE_FILE = frozenset(
    {
        f"{{{_TIFF}}}ImageWidth",
        f"{{{_TIFF}}}ImageLength",
        f"{{{_TIFF}}}BitsPerSample",
        f"{{{_EXIF}}}PixelXDimension",
        f"{{{_EXIF}}}PixelYDimension",
        "{http://ns.adobe.com/xap/1.0/}Thumbnails",
        _EXTENDED,
        "{http://purl.org/dc/terms/}provenance",  # where to find a C2PA manifest of those bytes
    }
)
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_TAIL = '\n<?xpacket end="w"?>'
_DEEPEST = 100  # elements within each other; real packets stay below ten


class DamagedXmp(ValueError):  # noqa: N818 - what it is; never shown as an error
    """A packet that cannot be read: whoever asked leaves it out and says so."""


def merge(packet: bytes | None, properties: Mapping[str, str]) -> bytes:
    """Return the packet with ``properties`` in it, and no others in i2i's own namespace.

    Earlier values are replaced. Without a packet a new one is begun. Raises DamagedXmp.
    """
    document = _new() if packet is None else _parse(packet)
    document.remove(lambda name: name in properties or name.startswith(f"{{{OWN}}}"))
    if not properties:
        return document.to_bytes()
    descriptions = document.rdf.findall(_DESCRIPTION)
    # All of a packet describes one thing, by one name that is nearly always empty.
    about = descriptions[0].get(_ABOUT, "") if descriptions else ""
    added = ET.SubElement(document.rdf, _DESCRIPTION, {_ABOUT: about})
    for name in sorted(properties):
        ET.SubElement(added, name).text = _legal(properties[name])
    return document.to_bytes()


def read(packet: bytes) -> dict[str, str]:
    """Return the packet's properties that are plain texts, by name; raises DamagedXmp."""
    found: dict[str, str] = {}
    for description in _parse(packet).rdf:
        found |= description.attrib
        for each in description:
            if not len(each):
                found[each.tag] = each.get(f"{{{_RDF}}}resource") or (each.text or "").strip()
    return {name: text for name, text in found.items() if not name.startswith(f"{{{_RDF}}}")}


def carry_over(packet: bytes) -> bytes:
    """Return the packet as a picture may carry it that was made, upright, from another.

    The orientation becomes 1; sizes, thumbnails, and pointers to what lies outside the packet are
    left out. Raises DamagedXmp.
    """
    document = _parse(packet)
    for description in document.rdf:
        if _ORIENTATION in description.attrib:
            description.set(_ORIENTATION, "1")
        for each in description.findall(_ORIENTATION):
            each.text = "1"
    document.remove(_OF_THE_FILE.__contains__)
    return document.to_bytes()


def with_extension(packet: bytes, jpeg: bytes) -> bytes:
    """Return the packet of a JPEG with what did not fit into its segment and lies in others.

    Unchanged where there is none, or not all of it. Raises DamagedXmp. Source: XMP specification,
    part 3, section 1.1.3.1.
    """
    name = read(packet).get(_EXTENDED, "").upper()
    mark = _EXTENSION + name.encode()
    parts = {}
    at = jpeg.find(mark) if name else -1
    while at >= 0:  # before the mark stands the segment's length, after it two of the extension's
        end = at - 2 + int.from_bytes(jpeg[at - 2 : at], "big")
        start = at + len(mark) + 8
        parts[int.from_bytes(jpeg[start - 4 : start], "big")] = jpeg[start:end]
        at = jpeg.find(mark, start)
    rest = b"".join(parts[offset] for offset in sorted(parts))
    if hashlib.md5(rest, usedforsecurity=False).hexdigest().upper() != name:
        return packet
    document, extension = _parse(packet), _parse(rest)
    document.rdf.extend(extension.rdf)
    document.prefixes = extension.prefixes | document.prefixes
    document.remove(_EXTENDED.__eq__)
    return document.to_bytes()


def remove_gps(packet: bytes) -> bytes:
    """Return the packet without positions, however deep: GPS of any vendor, and W3C's geo.

    Names of places stay. Raises DamagedXmp.
    """
    document = _parse(packet)
    for element in document.root.iter():
        _strip(element, _is_position)
    return document.to_bytes()


def shrink(packet: bytes, limit: int) -> tuple[bytes, tuple[str, ...]]:
    """Leave out the largest properties until the packet has at most ``limit`` bytes.

    Also return their names, as "xmpMM:History". What says that a model made the picture stays.
    Raises DamagedXmp.
    """
    if len(packet) <= limit:
        return packet, ()
    document = _parse(packet)
    left_out = []
    while len(packet := document.to_bytes()) > limit:
        largest = document.largest()
        if largest is None:
            raise DamagedXmp(f"does not fit {limit:,} bytes")
        document.remove(largest.__eq__)
        left_out.append(_spelled(largest, document.prefixes))
    return packet, tuple(left_out)


@dataclass
class _Document:
    """A packet while it is changed; ``prefixes`` holds what it called each namespace."""

    root: ET.Element
    rdf: ET.Element
    prefixes: dict[str, str]

    def remove(self, unwanted: Callable[[str], bool]) -> None:
        """Take out properties by their names, and descriptions that then say nothing."""
        for description in list(self.rdf):
            _strip(description, unwanted)
            if not len(description) and set(description.attrib) <= {_ABOUT}:
                self.rdf.remove(description)

    def largest(self) -> str | None:
        """Return the name of the property that takes the most bytes, of those that may go."""
        sizes: Counter[str] = Counter()
        for description in self.rdf:
            for name, text in description.items():
                sizes[name] += len(quoteattr(text).encode())
            for each in description:
                sizes[each.tag] += len("".join(_written(each, self.prefixes)).encode())
        for name in list(sizes):
            if name.startswith((f"{{{_RDF}}}", f"{{{OWN}}}", f"{{{IPTC_EXTENSION}}}")):
                del sizes[name]
        return max(sizes, key=lambda name: (sizes[name], name), default=None)

    def to_bytes(self) -> bytes:
        """Return the packet as UTF-8, every namespace declared at its root."""
        names = [name for each in self.root.iter() for name in (each.tag, *each.attrib)]
        spaces = sorted({_split(name)[0] for name in names} - {"", _XML})
        prefixes = {_XML: "xml"}
        for space in spaces:
            wanted = self.prefixes.get(space) or "ns"
            others = (f"{wanted}{number}" for number in count(2))
            free = (each for each in chain([wanted], others) if each not in prefixes.values())
            prefixes[space] = next(free)
        declared = "".join(f" xmlns:{prefixes[s]}={quoteattr(s)}" for s in spaces)
        return "".join([_HEAD, *_written(self.root, prefixes, declared), _TAIL]).encode()


class _Builder(ET.TreeBuilder):
    """Builds the tree, and refuses what no packet holds and an attack would."""

    def __init__(self) -> None:
        super().__init__()
        self.prefixes: dict[str, str] = {}
        self.depth = 0

    def start_ns(self, prefix: str | None, uri: str) -> None:
        """Note the first prefix that a namespace goes by."""
        self.prefixes.setdefault(uri, prefix or "")

    def start(self, tag: str, attrs: dict[str, str], /) -> ET.Element:
        """Open an element, unless it lies absurdly deep."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise DamagedXmp(f"has more than {_DEEPEST} levels")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ET.Element:
        """Close an element."""
        self.depth -= 1
        return super().end(tag)

    def doctype(self, *_: str | None) -> None:
        """Refuse a document type, and with it every entity that could grow or be fetched."""
        raise DamagedXmp("declares a document type")


def _parse(packet: bytes) -> _Document:
    builder = _Builder()
    try:
        parser = ET.XMLParser(target=builder)
        parser.feed(_text(packet))
        root = parser.close()
    except (ET.ParseError, UnicodeError) as error:
        raise DamagedXmp(str(error)) from error
    rdf = root if root.tag == f"{{{_RDF}}}RDF" else root.find(f"{{{_RDF}}}RDF")
    if rdf is None:
        raise DamagedXmp("holds no RDF")
    if rdf is root:
        root = ET.Element(f"{{{_META}}}xmpmeta")
        root.append(rdf)
    return _Document(root, rdf, builder.prefixes | _PREFIXES)


def _new() -> _Document:
    root = ET.Element(f"{{{_META}}}xmpmeta")
    return _Document(root, ET.SubElement(root, f"{{{_RDF}}}RDF"), dict(_PREFIXES))


def _text(packet: bytes) -> str:
    """Decode a packet, which names its encoding by its first bytes, and cut off its padding."""
    if packet.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif 0 in packet[:2]:
        encoding = "utf-16-be" if packet[0] == 0 else "utf-16-le"
    else:
        encoding = "utf-8-sig"
    return packet.decode(encoding).rstrip("\0 \r\n\t")


def _strip(element: ET.Element, unwanted: Callable[[str], bool]) -> None:
    """Take attributes and children out by their names."""
    for name in filter(unwanted, list(element.attrib)):
        del element.attrib[name]
    for child in list(element):
        if unwanted(child.tag):
            element.remove(child)


def _legal(text: str) -> str:
    """Return a text without what XML cannot hold."""
    return printable(text).translate({0xFFFE: "\ufffd", 0xFFFF: "\ufffd"})


def _is_position(name: str) -> bool:
    space, local = _split(name)
    return local.lower().startswith("gps") or space == _GEO


def _written(element: ET.Element, prefixes: Mapping[str, str], declared: str = "") -> Iterator[str]:
    """Yield an element's text with all that is in it; its tail too."""
    name = _spelled(element.tag, prefixes)
    attributes = "".join(
        f" {_spelled(key, prefixes)}={quoteattr(text)}" for key, text in element.items()
    )
    yield f"<{name}{declared}{attributes}>{_escaped(element.text)}"
    for each in element:
        yield from _written(each, prefixes)
    yield f"</{name}>{_escaped(element.tail)}"


def _escaped(text: str | None) -> str:
    return escape(text or "", {"\r": "&#13;"})


def _spelled(name: str, prefixes: Mapping[str, str]) -> str:
    space, local = _split(name)
    return f"{prefixes.get(space) or 'ns'}:{local}" if space else local


def _split(name: str) -> tuple[str, str]:
    """Return (namespace, local name) of ``{namespace}name``."""
    space, _, local = name.rpartition("}")
    return space[1:], local
