"""Turn pictures into the bytes of a file: equal pictures give equal bytes, without a time stamp."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from i2i.errors import ImageError
from i2i.imaging import avif, colour, containers, exif, tiff, vips
from i2i.imaging.metadata import fitted
from i2i.imaging.picture import Picture, Pixels
from i2i.imaging.vips import VipsImage

FORMATS: Mapping[str, str] = MappingProxyType(
    {"jpeg": ".jpg", "png": ".png", "tiff": ".tif", "webp": ".webp", "avif": ".avif"}
)
"""The formats that are written, each with the suffix that it is given."""

_SUFFIXES = {
    ".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".jfif": "jpeg",
    ".png": "png",
    ".tif": "tiff", ".tiff": "tiff",
    ".webp": "webp",
    ".avif": "avif",
}  # fmt: skip

_SPELLED = {"jpeg": "JPEG", "png": "PNG", "tiff": "TIFF", "webp": "WebP", "avif": "AVIF"}
_LARGEST_SIDE = {"jpeg": 65500, "webp": 16383, "avif": 16384}
_SIXTEEN_BITS = ("png", "tiff", "avif")
_COLOUR_ONLY = ("webp", "avif")
_CLASSIC_TIFF = 3_900_000_000  # bytes of pixels: offsets of 32 bits reach a little further


def format_for_suffix(suffix: str) -> str:
    """Return the format that a file of this suffix is written in: its own, else "png"."""
    return _SUFFIXES.get(suffix.lower(), "png")


def suffix_for_format(format_: str, suffix: str) -> str:
    """Return ``suffix`` where it already names the format, else the format's usual one."""
    return suffix if _SUFFIXES.get(suffix.lower()) == format_ else FORMATS[format_]


def holds_16_bits(format_: str) -> bool:
    """Whether a format keeps more than 8 bits a channel; AVIF keeps 12 of the 16."""
    return format_ in _SIXTEEN_BITS


def refusal(format_: str, size: tuple[int, int], *, has_alpha: bool) -> str | None:
    """Return why a format cannot hold a picture of this height and width, None where it can."""
    height, width = size
    if has_alpha and format_ == "jpeg":
        return "JPEG has no transparency"
    limit = _LARGEST_SIDE.get(format_)
    if limit is not None and max(size) > limit:
        return f"{width}x{height} pixels are more than the {limit:,} a side of {_SPELLED[format_]}"
    return None


def left_out(picture: Picture, format_: str, *, keep_profile: bool = False) -> tuple[str, ...]:
    """Return notes on what ``encode`` will not keep, a clause each."""
    metadata, notes = picture.metadata, []
    name = _SPELLED[format_]
    is_grey = picture.is_grey and format_ not in _COLOUR_ONLY
    if picture.is_grey and not is_grey:
        notes.append(f"grey written as RGB: {name} has no grey")
    kind = colour.num_channels(metadata.profile) if metadata.profile else None
    if keep_profile and metadata.profile and kind != (1 if is_grey else 3):
        notes.append("its profile is of another kind of colours than the output: tagged sRGB")
    if picture.pixels.dtype == np.uint16 and not holds_16_bits(format_):
        notes.append(f"16 bits rounded to 8: {name} holds no more")
    if metadata.exif and format_ == "jpeg" and len(metadata.exif) > containers.MAX_EXIF:
        notes.append("its EXIF is longer than a JPEG holds: left out")
    if metadata.iptc and format_ in _COLOUR_ONLY:
        notes.append(f"its IPTC has no place in {name}: left out")
    if metadata.text and format_ != "png":
        notes.append(f"its PNG texts have no place in {name}: left out")
    return tuple(notes)


def encode(picture: Picture, format_: str, where: str, *, keep_profile: bool = False) -> bytes:
    """Return the bytes of a file of one of ``FORMATS``, with the picture's metadata in it.

    JPEG, WebP and AVIF at quality 95, JPEG and AVIF 4:4:4; 16 bits are rounded to 8 where the
    format holds no more. One channel becomes a grey file, in WebP and AVIF three equal ones. A
    picture that came with a colour profile is tagged sRGB; with ``keep_profile`` it is converted
    back and carries its own, where that has as many channels. Raises ImageError where the format
    cannot hold the picture; ``where`` names it.
    """
    reason = refusal(format_, picture.size, has_alpha=picture.alpha is not None)
    if reason is not None:
        raise _unwritable(reason, where)
    try:
        content = _encoded(_image(picture, format_, keep_profile), format_)
    except vips.failures() as error:
        height, width = picture.size
        reason = f"{width}x{height} pixels cannot be written as {format_}"
        raise _unwritable(reason, where) from error
    return _with_metadata(content, format_, picture)


def _image(picture: Picture, format_: str, keep_profile: bool) -> VipsImage:
    """Return the picture over its own memory, in the output's colours, with its profile."""
    deep = picture.pixels.dtype == np.uint16 and holds_16_bits(format_)
    pixels = picture.pixels if deep else eight_bits(picture.pixels)
    kind = ("grey16" if deep else "b-w") if picture.is_grey else ("rgb16" if deep else "srgb")
    image = vips.from_pixels(pixels, kind)
    if picture.is_grey and format_ in _COLOUR_ONLY:
        kind = "rgb16" if deep else "srgb"
        image = image.bandjoin([image, image]).copy(interpretation=kind)
    profile = picture.metadata.profile
    if profile is not None:
        if keep_profile and colour.num_channels(profile) == image.bands:
            image = colour.from_srgb(image, profile)
        else:
            profile = colour.srgb_profile(image.bands)
    if picture.alpha is not None:
        alpha = picture.alpha if deep else eight_bits(picture.alpha)
        image = image.bandjoin(vips.from_pixels(alpha, kind)).copy(interpretation=kind)
    # An image of ours carries nothing but this: what converting attached is gone
    image = image.copy()
    if image.get_typeof("icc-profile-data"):
        image.remove("icc-profile-data")
    if profile is not None:
        image = vips.with_blob(image, "icc-profile-data", profile)
    if format_ in ("tiff", "avif") and picture.metadata.xmp is not None:
        image = vips.with_blob(image, "xmp-data", picture.metadata.xmp)
    if format_ == "avif" and picture.metadata.exif is not None:
        image = vips.with_blob(image, "exif-data", avif.placeholder())
    if picture.metadata.density is not None:
        across, down = picture.metadata.density
        image = image.copy(xres=across, yres=down)
    return image


def _encoded(image: VipsImage, format_: str) -> bytes:
    """Compress; docs/formats.md says what was measured for each setting."""
    is_deep = image.format == "ushort"
    content: bytes
    if format_ == "jpeg":  # optimal codes would hold every coefficient in memory at once
        content = image.jpegsave_buffer(Q=95, subsample_mode="off", keep="icc")
    elif format_ == "png":
        content = image.pngsave_buffer(compression=2, filter="up", keep="icc")
    elif format_ == "tiff":
        num_bytes = image.width * image.height * image.bands * (2 if is_deep else 1)
        content = image.tiffsave_buffer(
            compression="deflate", predictor="horizontal", keep="icc|xmp",
            bigtiff=num_bytes > _CLASSIC_TIFF, resunit="inch",
        )  # fmt: skip
    elif format_ == "webp":
        content = image.webpsave_buffer(Q=95, effort=2, keep="icc")
    else:  # libvips makes an EXIF block up where it is to keep one and there is none
        kept = "icc|xmp|exif" if image.get_typeof("exif-data") else "icc|xmp"
        content = image.heifsave_buffer(
            compression="av1", Q=95, effort=0, subsample_mode="off", keep=kept,
            bitdepth=12 if is_deep else 8,
        )  # fmt: skip
    return content


def _with_metadata(content: bytes, format_: str, picture: Picture) -> bytes:
    metadata, _ = fitted(picture.metadata, format_)
    if metadata.density is None:  # libvips writes 25 dots an inch
        content = containers.without_density(content, format_)
    elif format_ == "jpeg":
        content = containers.with_jpeg_density(content, metadata.density)
    block = exif.fitted(metadata.exif, picture.size, metadata.density) if metadata.exif else None
    if format_ == "jpeg":
        return containers.with_jpeg_segments(content, block, metadata.xmp, metadata.iptc)
    if format_ == "png":
        return containers.with_png_chunks(
            content, block, metadata.xmp, metadata.iptc, metadata.text
        )
    if format_ == "webp":
        has_alpha = picture.alpha is not None
        return containers.with_webp_chunks(
            content, block, metadata.xmp, picture.size, has_alpha=has_alpha
        )
    if format_ == "tiff" and content[2:4] in (b"*\0", b"\0*"):
        return tiff.with_exif(
            content, block, metadata.iptc, has_density=metadata.density is not None
        )
    if format_ == "avif" and block is not None:
        return avif.with_exif(content, block)
    return content


def eight_bits(pixels: Pixels) -> Pixels:
    """Return pixels of 16 bits rounded to 8, and those of 8 as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    rounded = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), 256):  # in strips: the sum needs 32 bits
        strip = pixels[top : top + 256].astype(np.uint32)
        rounded[top : top + 256] = (strip + 128) // 257
    return rounded


def _unwritable(reason: str, where: str) -> ImageError:
    return ImageError(
        reason,
        where=where,
        expected="a picture that the format can hold",
        remedy="choose another with --format, such as png",
    )
