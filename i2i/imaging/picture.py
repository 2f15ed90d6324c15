"""What a file becomes when it is read."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB or (H, W, 1) grey, 0..255."""


@dataclass(frozen=True)
class Picture:
    """An upright picture: its pixels, and what else its file said.

    A translation replaces the pixels with ``dataclasses.replace``, so that every further field
    (profile, transparency, depth) travels from the input to the output by itself.
    """

    pixels: Pixels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]
