"""Read picture files into upright sRGB or grey pixels, straight alpha and metadata."""

import mmap
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from i2i.errors import ImageError
from i2i.imaging import colour, exif, fallback, vips, xmp
from i2i.imaging.opened import Opened, Unsupported, open_with_vips, sniff
from i2i.imaging.picture import Metadata, Picture, Pixels

MAX_PIXELS = 100_000_000
"""The largest picture that is read unless the caller says otherwise."""

# The names of what `decode` reads; HEIC's too, so that its owner hears of the extra.
_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".tif", ".tiff", ".webp",
        ".avif", ".avifs", ".gif", ".heic", ".heif", ".hif", ".bmp", ".dib", ".ppm", ".pgm",
        ".pbm", ".pnm", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc", ".tga", ".icb", ".vda",
        ".vst", ".ico",
    }
)  # fmt: skip
_NAMES = {"jpeg": "JPEG", "png": "PNG", "tiff": "TIFF", "webp": "WebP", "avif": "AVIF"}


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture file; raises ImageError as ``decode`` does, or when it cannot be opened."""
    return decode(read_bytes(path), str(path), max_pixels)


def read_bytes(path: Path) -> bytes:
    """Return what a regular file holds; raises ImageError when it cannot be opened or is none."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return path.read_bytes()
    except OSError as error:
        raise _unopened(error, path) from error
    # Reading a pipe waits for whoever writes to it, and a device may never end.
    raise _irregular(path)


def picture_size(
    path: Path, max_pixels: int | None = None, *, if_too_large: str = "leave it out"
) -> tuple[int, int]:
    """Return the height and width of a picture file, upright, from its header alone.

    Raises ImageError where ``read_bytes`` would, for what has no picture's header, and for more
    than ``max_pixels``.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _irregular(path)
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise _unreadable("the file is empty", str(path))
            # Closed by whoever drops it last: libvips may hold it a little longer than this block
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = _size(content, str(path))
        if max_pixels is not None:
            _TooLarge(str(path), max_pixels, if_too_large).check(size)
        return size
    except OSError as error:
        raise _unopened(error, path) from error


def decode(
    content: bytes,
    where: str,
    max_pixels: int = MAX_PIXELS,
    *,
    if_too_large: str = "reduce it or leave it out",
    frames: Literal["first", "error"] = "first",
) -> Picture:
    """Decode the bytes of a picture file; ``where`` names it.

    The orientation that EXIF asks for is applied. Colours become sRGB, grey its curve, 8 bits or 16
    as the file has them; how, ``i2i.imaging.colour`` says. Of several frames the first counts, or
    the file is refused. Raises ImageError for an empty, truncated, damaged, foreign or too large
    file; a caller whose limit can be raised says how in ``if_too_large``.
    """
    if not content:
        raise _unreadable("the file is empty", where)
    limit = _TooLarge(where, max_pixels, if_too_large)
    kind = sniff(content[:256])
    try:
        if kind not in vips.LOADERS:
            limit.check(fallback.heic_size(content) if kind == "heic" else fallback.size(content))
        opened = _open(content, kind)
        limit.check(opened.size)
        notes = (*opened.notes, *_frames_note(opened, frames, where))
        return _picture(opened, notes)
    except MemoryError as error:
        raise limit.error("too large for this machine's memory") from error
    except Exception as error:  # on a damaged file Pillow's readers raise nearly anything
        raise _explained(error, kind, where, limit) from error


def has_picture_suffix(path: Path) -> bool:
    """Whether a file's name ends like that of a picture that ``decode`` reads."""
    return path.suffix.lower() in _SUFFIXES


@contextmanager
def pillow_unbound() -> Iterator[None]:
    """Switch off Pillow's own size limit and its warnings about metadata, inside the block.

    Both are settings of the whole process, so a job enters this once around all its threads;
    ``max_pixels`` of ``decode`` is the limit then.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _open(content: bytes, kind: str | None) -> Opened:
    if kind is None or kind == "heic":
        return fallback.open_heic(content) if kind else fallback.open_with_pillow(content)
    return open_with_vips(content, kind)


def _size(content: Any, where: str) -> tuple[int, int]:
    kind = sniff(content[:256])
    try:
        if kind is None or kind == "heic":
            return fallback.heic_size(content) if kind else fallback.size(content)
        return open_with_vips(content, kind).size
    except Exception as error:
        raise _explained(
            error, kind, where, _TooLarge(where, MAX_PIXELS, "leave it out")
        ) from error


def _picture(opened: Opened, notes: tuple[str, ...]) -> Picture:
    """Convert the colours, decode, turn, and take the alpha off."""
    image, metadata = opened.image, opened.metadata
    is_cmyk = image.interpretation == "cmyk"
    num_colours = 4 if is_cmyk else 3 if image.bands >= 3 else 1
    if image.bands > num_colours + 1:
        notes += ("channels beside colour and alpha left out",)
    profile = metadata.profile
    if profile is not None and not colour.is_usable(profile, num_colours):
        profile = None
        notes += ("its colour profile is damaged or of another kind: taken as sRGB",)
    colours = image.extract_band(0, n=num_colours) if image.bands > num_colours else image
    converted = colour.to_srgb(colours, profile, is_cmyk=is_cmyk)
    if image.bands > num_colours:
        converted = converted.bandjoin(image[num_colours])
    pixels = _turned(vips.to_pixels(converted), opened.orientation)
    alpha: Pixels | None = None
    if image.bands > num_colours:
        alpha = _contiguous(pixels[..., -1:])
        pixels = _contiguous(pixels[..., :-1])
    if is_cmyk and profile is None:
        profile = colour.srgb_profile(3)  # they are certainly sRGB now
    metadata, damage = _carried_over(replace(metadata, profile=profile))
    return Picture(pixels, alpha, metadata, notes + damage)


def _carried_over(metadata: Metadata) -> tuple[Metadata, tuple[str, ...]]:
    """Return metadata as an upright picture made from another carries it, and what is damaged."""
    notes: tuple[str, ...] = ()
    block = exif.cleaned(metadata.exif) if metadata.exif else None
    if metadata.exif and block is None:
        notes += ("its EXIF is damaged: left out",)
    density = metadata.density or (exif.density(block) if block else None)
    packet = metadata.xmp or None
    try:
        packet = xmp.carry_over(packet) if packet else None
    except xmp.DamagedXmp:
        packet = None
        notes += ("its XMP is damaged: left out",)
    return replace(metadata, exif=block, xmp=packet, density=density), notes


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """Return pixels as EXIF's orientation asks: Exif 2.32, table 6."""
    if not 1 < orientation <= 8:
        return pixels
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return _contiguous(pixels)


def _contiguous(pixels: Any) -> Pixels:
    contiguous: Pixels = np.ascontiguousarray(pixels)
    return contiguous


def _frames_note(opened: Opened, frames: str, where: str) -> tuple[str, ...]:
    count = "several" if opened.num_frames is None else f"{opened.num_frames}"
    if opened.num_frames is not None and opened.num_frames < 2:
        return ()
    if frames == "error":
        raise ImageError(
            f"it has {count} frames or pages",
            where=where,
            expected="one picture",
            remedy="take the first with --frames first, or split it",
        )
    return (f"first of {count} frames",)


def _explained(error: Exception, kind: str | None, where: str, limit: "_TooLarge") -> Exception:
    """Return the ImageError that says what an error of a reader means."""
    if isinstance(error, ImageError):
        return error
    if isinstance(error, UnidentifiedImageError):
        return _unreadable("is not a picture", where)
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return limit.error("too many pixels")
    if isinstance(error, Unsupported):
        remedy = "convert it first"
        return ImageError(error.wrong, where=where, expected=error.expected, remedy=remedy)
    if isinstance(error, fallback.NoHeic):
        return ImageError(
            "HEIC is read by an extra that is not installed",
            where=where,
            expected="the package pillow-heif",
            remedy='pip install "i2i-gan[heic]", or convert it first',
        )
    name = _NAMES.get(kind or "", (kind or "file").upper() if kind else "file")
    return _unreadable(f"cannot be decoded (the {name} is cut short or damaged)", where)


def _unreadable(wrong: str, where: str) -> ImageError:
    return ImageError(
        wrong,
        where=where,
        expected="a whole JPEG, PNG, TIFF, WebP, AVIF, BMP, GIF or other common picture",
        remedy="replace the file or leave it out",
    )


def _unopened(error: OSError, path: Path) -> ImageError:
    return ImageError(
        f"cannot be read ({error.strerror or error})",
        where=str(path),
        expected="a readable picture file",
        remedy="check the path and its permissions",
    )


def _irregular(path: Path) -> ImageError:
    return ImageError(
        "is a folder, a pipe, a socket or a device",
        where=str(path),
        expected="a regular file, or a link to one",
        remedy="leave it out",
    )


@dataclass(frozen=True)
class _TooLarge:
    where: str
    max_pixels: int
    remedy: str

    def check(self, size: tuple[int, int]) -> None:
        """Raise ImageError for a height and width with too many pixels."""
        if size[0] * size[1] > self.max_pixels:
            raise self.error(f"{size[1]}x{size[0]} pixels are too many")

    def error(self, wrong: str) -> ImageError:
        """Return the error for a picture that is too large."""
        expected = f"at most {self.max_pixels:,} pixels"
        return ImageError(wrong, where=self.where, expected=expected, remedy=self.remedy)
