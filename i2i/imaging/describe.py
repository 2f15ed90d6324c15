"""What a picture's file says of itself, from its header alone where that can be read alone."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import ImageCms

from i2i.imaging import vips
from i2i.imaging.decode import decode
from i2i.imaging.opened import Opened, open_with_vips, sniff
from i2i.imaging.picture import Metadata

_GREY = ("b-w", "grey16")


@dataclass(frozen=True)
class Description:
    """A picture without its pixels; ``metadata`` is as found where ``kind`` is not "other"."""

    kind: str  # "jpeg", "png" ... of those that ``sniff`` knows, else "other"
    size: tuple[int, int]  # height and width, upright
    depth: int  # bits a channel
    colours: str  # "grey", "RGB" or "CMYK"
    has_alpha: bool
    metadata: Metadata


def describe(content: bytes, where: str) -> Description:
    """Describe the bytes of a picture file; raises ImageError as ``decode`` does."""
    kind = sniff(content[:256])
    if kind is not None and kind in vips.LOADERS:
        try:
            return _of_header(open_with_vips(content, kind), kind)
        except Exception:
            decode(content, where)  # names what is wrong
            raise
    picture = decode(content, where)
    depth = 8 if picture.pixels.dtype == np.uint8 else 16
    colours = "grey" if picture.is_grey else "RGB"
    has_alpha = picture.alpha is not None
    return Description(kind or "other", picture.size, depth, colours, has_alpha, picture.metadata)


def profile_name(profile: bytes) -> str | None:
    """Return what an ICC profile calls itself; None where it is damaged."""
    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(profile))).strip()
    except (ImageCms.PyCMSError, OSError):
        return None


def _of_header(opened: Opened, kind: str) -> Description:
    image = opened.image
    depth = vips.number(image, "bits-per-sample", 8 if image.format == "uchar" else 16)
    colours = "CMYK" if image.interpretation == "cmyk" else "RGB"
    if image.interpretation in _GREY:
        colours = "grey"
    return Description(kind, opened.size, depth, colours, bool(image.hasalpha()), opened.metadata)
