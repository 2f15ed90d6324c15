"""Pillow's share: formats that libvips' binary does not read, and HEIC through pillow-heif."""

import re
import warnings
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from i2i.imaging import vips
from i2i.imaging.opened import Opened, Unsupported
from i2i.imaging.picture import Metadata, Pixels

# Pillow reads more, but some of those formats run other programs or have no mark of their own.
FORMATS = ("BMP", "DIB", "PPM", "JPEG2000", "TGA", "ICO")
"""What Pillow reads for us, by its own names."""

_GAP = rb"(?:\s|#[^\n]*\n)+"  # blanks and comments
_NETPBM = re.compile(rb"P([56])" + (_GAP + rb"(\d+)") * 3 + rb"\s")
_SIZ = b"\xff\x51"  # JPEG 2000's marker before sizes and depths


class NoHeic(Exception):  # noqa: N818 - says what is the matter
    """HEIC is read by an extra that is not installed."""


def size(content: Any) -> tuple[int, int]:
    """Return height and width from a header; raises what Pillow raises."""
    with _open(content) as image:
        return image.height, image.width


def heic_size(content: Any) -> tuple[int, int]:
    """Return the height and width of a HEIC picture, upright."""
    width, height = _heif().open_heif(BytesIO(content)).size
    return height, width


def open_with_pillow(content: bytes) -> Opened:
    """Decode a file of one of ``FORMATS``; raises what Pillow raises, which is nearly anything."""
    with _open(content) as image:
        netpbm = _NETPBM.match(content[:512]) if image.format == "PPM" else None
        is_deep = netpbm is not None and int(netpbm[4]) > 255
        pixels = _deep_netpbm(content, netpbm) if netpbm and is_deep else _array(image)
        notes = _notes(image, content)
        profile = image.info.get("icc_profile")
        dpi = image.info.get("dpi")
        density = (dpi[0] / 25.4, dpi[1] / 25.4) if dpi and dpi[0] > 0 and dpi[1] > 0 else None
    metadata = Metadata(profile=profile or None, density=density)
    return Opened(_image(pixels), metadata, notes=notes)


def open_heic(content: bytes) -> Opened:
    """Decode a HEIC picture, 10 bits as 16; raises NoHeic without the extra."""
    image = _heif().open_heif(BytesIO(content), convert_hdr_to_8bit=False)
    pixels = np.array(image)  # pillow-heif shifts 10 and 12 bits up
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    bits = int(image.info.get("bit_depth", 8))
    if pixels.dtype == np.uint16 and bits < 16:
        pixels = pixels | (pixels >> bits)  # so that white is 65535
    frames = len(image)
    metadata = Metadata(
        profile=image.info.get("icc_profile") or None,
        exif=image.info.get("exif") or None,
        xmp=image.info.get("xmp") or None,
    )
    return Opened(_image(pixels), metadata, num_frames=frames)


def _open(content: Any) -> Image.Image:
    Image.init()
    names = [name for name in FORMATS if name in Image.OPEN]
    return Image.open(BytesIO(content), formats=names)


def _heif() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pillow_heif
    except ImportError as error:
        raise NoHeic from error
    return pillow_heif


def _array(image: Image.Image) -> Pixels:
    """Return the (H, W, C) pixels of any mode: grey, RGB or CMYK, and alpha."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if image.mode in ("I", "F"):
        raise Unsupported("its 32-bit values have no agreed white", "8 or 16 bits a channel")
    has_alpha = image.has_transparency_data
    if image.mode == "1":
        image = image.convert("L")
    is_grey = image.mode in ("L", "LA", "La")
    if has_alpha:
        image = image.convert("LA" if is_grey else "RGBA")
    elif not is_grey:
        image = image.convert("RGB")
    pixels: Pixels = np.array(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _deep_netpbm(content: bytes, header: re.Match[bytes]) -> Pixels:
    """Return the 16 bits of a PGM or PPM, of which Pillow keeps eight where there is colour."""
    kind, width, height, peak = (int(each) for each in header.groups())
    shape = (height, width, 3 if kind == 6 else 1)
    values = np.frombuffer(content, ">u2", int(np.prod(shape)), header.end()).reshape(shape)
    scaled: Pixels = np.rint(np.minimum(values, peak) * (65535 / peak)).astype(np.uint16)
    return scaled


def _notes(image: Image.Image, content: bytes) -> tuple[str, ...]:
    """Say what Pillow loses: it reads deep JPEG 2000 in colour as 8 bits."""
    if image.format != "JPEG2000" or image.mode.startswith("I;16"):
        return ()
    at = content.find(_SIZ)
    bits = (content[at + 40] & 0x7F) + 1 if 0 <= at < len(content) - 40 else 8
    return (f"{bits} bits a channel read as 8",) if bits > 8 else ()


def _image(pixels: Pixels) -> vips.VipsImage:
    deep = pixels.dtype == np.uint16
    num_channels = pixels.shape[2]
    if num_channels < 3:
        return vips.from_pixels(pixels, "grey16" if deep else "b-w")
    return vips.from_pixels(pixels, "rgb16" if deep else "srgb")
