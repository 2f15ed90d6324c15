"""What a file becomes when it is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""(H, W, 3) sRGB or (H, W, 1) grey of the same tone curve; 0..255 or 0..65535."""


@dataclass(frozen=True)
class Metadata:
    """What a file said beside its pixels, ready to be written into another.

    ``profile`` is the ICC profile that the file's colours were described by; the pixels of a
    ``Picture`` have been converted from it to sRGB. ``exif`` (a TIFF structure, orientation 1, no
    thumbnail), ``xmp`` (a packet) and ``iptc`` (IIM records) are kept as they were otherwise.
    ``density`` is in pixels a millimetre, across and down; ``text`` the text chunks of a PNG.
    """

    profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    density: tuple[float, float] | None = None
    text: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """An upright picture: its colours, its transparency, and what else its file said.

    ``alpha`` is (H, W, 1) of the pixels' type, 0 where nothing is seen; the colours are not
    multiplied by it. ``notes`` say what reading left out or changed, a clause each: "first of 12
    frames".
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = Metadata()
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def is_grey(self) -> bool:
        """Whether there is one channel of colour."""
        return bool(self.pixels.shape[2] == 1)
