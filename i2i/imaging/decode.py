"""Read picture files with Pillow into upright 8-bit RGB."""

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from i2i.errors import ImageError
from i2i.imaging.picture import Picture, Pixels

MAX_PIXELS = 100_000_000
"""The largest picture that is read unless the caller says otherwise."""

# Pillow reads more, but some of those formats run other programs or have no mark of their own.
_READ = (
    "JPEG", "MPO", "PNG", "TIFF", "WEBP", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "TGA",
    "ICO",
)  # fmt: skip

_TURNED = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}
_ORIENTATION = 0x0112  # the EXIF tag


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture file; raises ImageError as ``decode`` does, or when it cannot be opened."""
    return decode(read_bytes(path), str(path), max_pixels)


def read_bytes(path: Path) -> bytes:
    """Return what a regular file holds; raises ImageError when it cannot be opened or is none."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"cannot be read ({error.strerror or error})",
            where=str(path),
            expected="a readable picture file",
            remedy="check the path and its permissions",
        ) from error
    # Reading a pipe waits for whoever writes to it, and a device may never end.
    raise ImageError(
        "is a folder, a pipe, a socket or a device",
        where=str(path),
        expected="a regular file, or a link to one",
        remedy="leave it out",
    )


def decode(
    content: bytes,
    where: str,
    max_pixels: int = MAX_PIXELS,
    *,
    if_too_large: str = "reduce it or leave it out",
) -> Picture:
    """Decode the bytes of a picture file into upright (H, W, 3) RGB; ``where`` names it.

    The orientation that EXIF asks for is applied. 16-bit grey is rounded to 8 bits. Transparent
    pictures are laid on white. Of several frames the first counts. Colour profiles are ignored.
    Raises ImageError for an empty, truncated, damaged, foreign or too large file; a caller whose
    limit can be raised says how in ``if_too_large``.
    """
    limit = _TooLarge(where, max_pixels, if_too_large)
    if not content:
        raise _unreadable("the file is empty", where)
    try:
        with Image.open(BytesIO(content), formats=_formats()) as image:
            if image.width * image.height > max_pixels:
                raise limit.error(f"{image.width}x{image.height} pixels are too many")
            image.load()
            turns = _TURNED.get(_orientation(image), ())
            pixels = _to_rgb(image, where)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise _unreadable("is not a picture", where) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise limit.error("too many pixels") from error
    except MemoryError as error:
        raise limit.error("too large for this machine's memory") from error
    except Exception as error:  # on a damaged file Pillow's readers raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _unreadable(f"cannot be decoded ({reason})", where) from error
    for turn in turns:
        pixels = np.asarray(Image.fromarray(pixels).transpose(turn))
    return Picture(np.array(pixels))


def has_picture_suffix(path: Path) -> bool:
    """Whether a file's name ends like that of a picture that ``decode`` reads."""
    return _suffixes().get(path.suffix.lower()) in _READ


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


def _to_rgb(image: Image.Image, where: str) -> Pixels:
    sixteen_bit_file = image.mode == "I" and image.format in ("PNG", "PPM")
    if image.mode.startswith("I;16") or sixteen_bit_file:
        values = np.asarray(image).astype(np.float64)
        grey = np.clip(np.round(values / 257), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ImageError(
            "its 32-bit values have no agreed white",
            where=where,
            expected="8 or 16 bits a channel",
            remedy="convert it to 8 or 16 bits first",
        )
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """Return what EXIF says, 1 where it is damaged: the pixels are sound all the same."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _suffixes() -> dict[str, str]:
    Image.init()
    return Image.registered_extensions()


def _formats() -> list[str]:
    Image.init()
    return [name for name in _READ if name in Image.OPEN]


def _unreadable(wrong: str, where: str) -> ImageError:
    return ImageError(
        wrong,
        where=where,
        expected="a whole JPEG, PNG, TIFF, WebP, BMP, GIF or other common picture",
        remedy="replace the file or leave it out",
    )


@dataclass(frozen=True)
class _TooLarge:
    where: str
    max_pixels: int
    remedy: str

    def error(self, wrong: str) -> ImageError:
        expected = f"at most {self.max_pixels:,} pixels"
        return ImageError(wrong, where=self.where, expected=expected, remedy=self.remedy)
