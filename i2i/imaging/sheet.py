"""Contact sheets: inputs beside their translations."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from i2i.imaging.picture import Picture, Pixels

_GAP = 8  # pixels around a pair


def contact_sheet(
    pairs: Sequence[tuple[Picture, Picture]], cell: int = 256, num_columns: int = 3
) -> Picture:
    """Lay out pairs, each input left of its output, on white; none is enlarged.

    ``cell`` is the side, in pixels, of the square that a picture is reduced to fit in, and
    ``num_columns`` the most pairs in a row.
    """
    num_columns = max(1, min(num_columns, len(pairs)))
    num_rows = -(-len(pairs) // num_columns)
    width, height = 2 * cell + 2 * _GAP, cell + 2 * _GAP
    sheet = Image.new("RGB", (num_columns * width, max(1, num_rows) * height), "white")
    for index, pair in enumerate(pairs):
        row, column = divmod(index, num_columns)
        for side, picture in enumerate(pair):
            small = _thumbnail(picture.pixels, cell)
            left = column * width + _GAP + side * cell + (cell - small.width) // 2
            top = row * height + _GAP + (cell - small.height) // 2
            sheet.paste(small, (left, top))
    return Picture(np.array(sheet))


def _thumbnail(pixels: Pixels, cell: int) -> Image.Image:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    image.thumbnail((cell, cell), Image.Resampling.LANCZOS)
    return image
