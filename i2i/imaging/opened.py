"""A file whose header was read: by libvips, or by Pillow where libvips' binary cannot."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from i2i.imaging import containers, tiff, vips, xmp
from i2i.imaging import exif as exif_block
from i2i.imaging.picture import Metadata
from i2i.imaging.vips import VipsImage


@dataclass(frozen=True)
class Opened:
    """An image whose pixels are not decoded yet, and what its file says.

    ``image`` may have CMYK or premultiplied-free alpha channels; ``metadata`` is raw: the profile
    unchecked, EXIF as found. ``orientation`` is EXIF's, 1 where it was applied.
    """

    image: VipsImage
    metadata: Metadata
    orientation: int = 1
    num_frames: int | None = 1  # None: several
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, upright."""
        height, width = self.image.height, self.image.width
        return (width, height) if self.orientation > 4 else (height, width)


class Unsupported(Exception):  # noqa: N818 - says what is the matter, not that there is an error
    """A sound file of a kind that is not read: ``wrong`` and ``expected`` say which."""

    def __init__(self, wrong: str, expected: str) -> None:
        super().__init__(wrong)
        self.wrong, self.expected = wrong, expected


def sniff(head: bytes) -> str | None:
    """Return the format that a file's first bytes tell; None for all that libvips does not read."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[4:8] == b"ftyp":
        brands = head[8 : min(int.from_bytes(head[:4], "big"), 256)]
        if b"avif" in brands or b"avis" in brands:
            return "avif"
        if any(brand in brands for brand in (b"hei", b"hev", b"mif1", b"msf1")):
            return "heic"
    return None


def open_with_vips(content: Any, kind: str) -> Opened:
    """Read the header of a file of one of ``vips.LOADERS``; raises ``vips.failures()``.

    Raises Unsupported for pixels that are no picture's: 32 bits, more than black and white.
    """
    described = tiff.describe(content) if kind == "tiff" else None
    if described is not None:
        _check_tiff(described)
    image = vips.open_image(content, kind)
    if image.format not in ("uchar", "ushort"):
        raise Unsupported("its 32-bit values have no agreed white", "8 or 16 bits a channel")
    texts = containers.png_texts(content) if kind == "png" else {}
    iptc = vips.blob(image, "iptc-data") or containers.raw_profile(texts, "iptc", "8bim")
    exif = vips.blob(image, "exif-data") or containers.raw_profile(texts, "exif", "app1")
    if described is not None:
        exif, iptc = described.exif, described.iptc or iptc
    density = exif_block.density(content) if described else containers.density(content, kind)
    metadata = Metadata(
        profile=vips.blob(image, "icc-profile-data"),
        exif=exif,
        xmp=_packet(image, content, kind),
        iptc=containers.iptc_records(iptc) if iptc else None,
        density=density,
        text=containers.plain_texts(texts),
    )
    orientation = vips.number(image, "orientation", 1)
    frames = _num_frames(image, content, kind, described)
    return Opened(_full_range(image, kind), metadata, orientation, frames)


def _packet(image: VipsImage, content: Any, kind: str) -> bytes | None:
    """Return the XMP packet as found; of a JPEG, with what lies in further segments."""
    packet = vips.blob(image, "xmp-data")
    if packet is not None and kind == "jpeg":
        with suppress(xmp.DamagedXmp):  # which will be said of the packet itself
            return xmp.with_extension(packet, content)
    return packet


def _check_tiff(described: tiff.Described) -> None:
    if described.bits not in (1, 2, 4, 8, 16, 32, 64):
        wrong = f"its {described.bits} bits a channel are not read"
        raise Unsupported(wrong, "8 or 16 bits a channel")
    if described.photometric in (8, 9, 10):
        raise Unsupported("its colours are CIE Lab", "RGB, grey or CMYK")


def _num_frames(
    image: VipsImage, content: bytes, kind: str, described: tiff.Described | None
) -> int | None:
    if kind == "png":
        return containers.num_png_frames(content)
    if described is not None:
        return described.num_pages
    if kind == "avif" and content[8:12] == b"avis":
        return None  # a film, whose frames only its decoder counts
    return vips.number(image, "n-pages", 1)


def _full_range(image: VipsImage, kind: str) -> VipsImage:
    """Return an AVIF's 10 or 12 bits as 16: libvips shifts them up, and white must be 65535."""
    bits = vips.number(image, "bits-per-sample", 16)
    if kind != "avif" or image.format != "ushort" or bits >= 16:
        return image
    white = (2**bits - 1) << (16 - bits)
    return (image * (65535 / white)).rint().cast("ushort").copy(interpretation=image.interpretation)
