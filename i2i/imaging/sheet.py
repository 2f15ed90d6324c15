"""Contact sheets: inputs beside their translations."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from i2i.imaging.alpha import rgb8
from i2i.imaging.picture import Picture

_GAP = 8  # pixels around a strip
_WIDEST = 4096  # pixels across a strip, beyond which cells shrink
_SMALLEST = 32  # pixels a side of a cell
_CAPTION = 24  # pixels high
_MISSING = (200, 200, 200)


def contact_sheet(
    strips: Iterable[Iterable[Picture | None]],
    captions: Sequence[str] = (),
    cell: int = 256,
    num_columns: int = 3,
) -> Picture:
    """Lay out strips, each an input left of its outputs, on white; no picture is enlarged.

    ``cell`` is the side, in pixels, of the square that a picture is reduced to fit in; many
    pictures in a strip make it smaller. ``num_columns`` is the most pairs in a row, which longer
    strips share as far as they go into their width; a row is as high as its tallest picture. All
    strips are of one length. None, for an output that is missing, becomes a grey place of the
    input's size. ``captions`` stand above the columns, one a picture of a strip.
    """
    small: list[list[Image.Image]] = []
    length = 2
    for strip in strips:  # reduced as they come, for each picture may be large
        images = [*_thumbnails(strip, cell)]
        length = len(images)
        cell = min(cell, max(_SMALLEST, _WIDEST // length))
        for image in images:
            image.thumbnail((cell, cell), Image.Resampling.LANCZOS)
        small.append(images)
    num_columns = max(1, min(2 * num_columns // length, len(small)))
    rows = [small[start : start + num_columns] for start in range(0, len(small), num_columns)]
    heights = [max(image.height for images in row for image in images) + 2 * _GAP for row in rows]
    top = _CAPTION + _GAP if captions else 0
    width = length * cell + 2 * _GAP
    sheet = Image.new("RGB", (num_columns * width, max(1, top + sum(heights))), "white")
    for column in range(num_columns):
        for place, text in enumerate(captions):
            sheet.paste(_caption(text, cell), (column * width + _GAP + place * cell, _GAP))
    for index, row in enumerate(rows):
        middle = top + sum(heights[:index]) + heights[index] // 2
        for column, images in enumerate(row):
            for place, image in enumerate(images):
                left = column * width + _GAP + place * cell + (cell - image.width) // 2
                sheet.paste(image, (left, middle - image.height // 2))
    return Picture(np.array(sheet))


def _thumbnails(strip: Iterable[Picture | None], cell: int) -> Iterable[Image.Image]:
    size = (cell, cell)
    for picture in strip:
        if picture is None:
            yield Image.new("RGB", size, _MISSING)
            continue
        image = Image.fromarray(rgb8(picture))
        image.thumbnail((cell, cell), Image.Resampling.LANCZOS)
        size = image.size
        yield image


def _caption(text: str, width: int) -> Image.Image:
    image = Image.new("RGB", (width, _CAPTION), "white")
    draw = ImageDraw.Draw(image)
    draw.text((width / 2, _CAPTION / 2), text, "black", ImageFont.load_default(16), anchor="mm")
    return image
