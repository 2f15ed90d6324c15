"""Turn pictures into the bytes of a file: equal pictures give equal bytes, without a time stamp."""

from collections.abc import Mapping
from io import BytesIO
from types import MappingProxyType
from typing import Any

from PIL import Image

from i2i.errors import ImageError
from i2i.imaging.picture import Picture

FORMATS: Mapping[str, str] = MappingProxyType(
    {"jpeg": ".jpg", "png": ".png", "tiff": ".tif", "webp": ".webp"}
)
"""The formats that are written, each with the suffix that it is given."""

_SUFFIXES = {
    ".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".jfif": "jpeg",
    ".png": "png",
    ".tif": "tiff", ".tiff": "tiff",
    ".webp": "webp",
}  # fmt: skip

_SETTINGS: dict[str, dict[str, Any]] = {
    "jpeg": {"quality": 95, "subsampling": 0},  # 0 is 4:4:4: stripes keep their edges
    "png": {},
    "tiff": {"compression": "tiff_adobe_deflate"},
    "webp": {"quality": 95, "method": 4},
}


def format_for_suffix(suffix: str) -> str:
    """Return the format that a file of this suffix is written in: its own, else "png"."""
    return _SUFFIXES.get(suffix.lower(), "png")


def suffix_for_format(format_: str, suffix: str) -> str:
    """Return ``suffix`` where it already names the format, else the format's usual one."""
    return suffix if _SUFFIXES.get(suffix.lower()) == format_ else FORMATS[format_]


def encode(picture: Picture, format_: str, where: str) -> bytes:
    """Return the bytes of a file of one of ``FORMATS``; JPEG at quality 95 and 4:4:4.

    One channel becomes a grey file. Raises ImageError where the format cannot hold the picture;
    ``where`` names it.
    """
    pixels = picture.pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    file = BytesIO()
    try:
        image.save(file, format_, **_SETTINGS[format_])
    except (OSError, ValueError) as error:
        height, width = picture.size
        raise ImageError(
            f"{width}x{height} pixels cannot be written as {format_} ({error})",
            where=where,
            expected="a picture that the format can hold",
            remedy="choose another with --format, such as png",
        ) from error
    return file.getvalue()
