"""Contact sheets: inputs beside their translations."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from i2i.imaging.alpha import rgb8
from i2i.imaging.picture import Picture

_GAP = 8  # pixels around a pair


def contact_sheet(
    pairs: Iterable[tuple[Picture, Picture]], cell: int = 256, num_columns: int = 3
) -> Picture:
    """Lay out pairs, each input left of its output, on white; none is enlarged.

    ``cell`` is the side, in pixels, of the square that a picture is reduced to fit in, and
    ``num_columns`` the most pairs in a row; a row is as high as its tallest picture.
    """
    # Reduced as they come, for each may be large
    small_pairs = [tuple(_thumbnail(picture, cell) for picture in pair) for pair in pairs]
    num_columns = max(1, min(num_columns, len(small_pairs)))
    rows = [
        small_pairs[start : start + num_columns]
        for start in range(0, len(small_pairs), num_columns)
    ]
    heights = [max(small.height for pair in row for small in pair) + 2 * _GAP for row in rows]
    width = 2 * cell + 2 * _GAP
    sheet = Image.new("RGB", (num_columns * width, max(1, sum(heights))), "white")
    for index, row in enumerate(rows):
        middle = sum(heights[:index]) + heights[index] // 2
        for column, pair in enumerate(row):
            for side, small in enumerate(pair):
                left = column * width + _GAP + side * cell + (cell - small.width) // 2
                sheet.paste(small, (left, middle - small.height // 2))
    return Picture(np.array(sheet))


def _thumbnail(picture: Picture, cell: int) -> Image.Image:
    image = Image.fromarray(rgb8(picture))
    image.thumbnail((cell, cell), Image.Resampling.LANCZOS)
    return image
