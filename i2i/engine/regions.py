"""Parts of a photograph: cut out, and what translation changed in them pasted back softly.

A crop is resampled by the mean of bilinear samples, about one a pixel of the photograph: one sample
a pixel where both are equally fine, more where the crop is coarser. The way back is the same, of
the change alone times a feather, so that the photograph stays as sharp as it was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from i2i.engine.resample import Size
from i2i.engine.tiles import Source, size_of
from i2i.errors import PluginError
from i2i.imaging import from_tensor, to_tensor
from i2i.types import Fit, Region

FEATHER = 0.2
"""The width of a crop's soft border, of its shorter side."""

_ROWS = 256  # of a photograph that are float32 at once
_FLATTEST = 1e-3  # pixels of the photograph that a crop's pixel covers at least, in any direction
_FARTHEST = 1e9  # pixels
_MOST_SAMPLES = 4  # a pixel and direction, beside the means that are taken first
_TOLERANCE = 0.25  # of a pixel, by which pixels may be coarser and get one sample

Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]
Box = tuple[int, int, int, int]  # rows from, to, columns from, to


def check_regions(regions: object, size: Size, fit: Fit, name: str) -> tuple[Region, ...]:
    """Return the regions of a photograph of ``size`` that a family located.

    Raises PluginError, which names the family, for none, for one that is not finite, has no area
    or lies beside the photograph, and for a family whose results cannot be pasted back.
    """
    if not isinstance(regions, Sequence):
        wrong = f"returned {type(regions).__name__}"
        raise _fault(name, wrong, "a sequence of i2i.Region, or None")
    if not regions:
        wrong, remedy = "returned no region", "raise ImageError where there is nothing to translate"
        raise _fault(name, wrong, "one at least, or None for the whole picture", remedy)
    if fit.scale != 1 or (fit.channels_in, fit.channels_out) != (3, 3):
        made = f"{fit.channels_in} to {fit.channels_out} channels at scale {fit.scale}"
        remedy = "return None, or translate RGB to RGB at scale 1"
        raise _fault(name, f"returned regions, and translates {made}", "3 to 3 at scale 1", remedy)
    for region in regions:
        if wrong := _wrong_with(region, size):
            expected = "crops of whole pixels, a matrix that can be undone, and an overlap"
            raise _fault(name, f"returned {region!r}, {wrong}", expected)
    return tuple(regions)


def cut_out(image: Source, region: Region) -> Tensor:
    """Return the crop of a photograph as (3, h, w) float32; beyond it, its edge goes on.

    Only the box around the region is read.
    """
    place = _box(region.matrix, region.size, size_of(image))
    values, factor = _reduced(image, place, _coarser(region.matrix))
    matrix = _shifted(region.matrix, place[2], place[0], factor)
    return _sampled(values, matrix, (0, region.size[0], 0, region.size[1]))


def feather(x: Tensor, y: Tensor, size: Size) -> Tensor:
    """Return how much of a change counts at places in a crop's pixels: 0 outside, 1 well within.

    A smoothstep over FEATHER of the shorter side, of the distance to the rectangle within: corners
    are round.
    """
    width = FEATHER * min(size)
    short = []
    for place, length in ((y, size[0]), (x, size[1])):
        inwards = torch.minimum(place + 0.5, length - 0.5 - place)
        short.append((width - inwards).clamp_min(0))
    into = (1 - torch.hypot(*short) / width).clamp_min(0)
    return (into * into * (3 - 2 * into)).float()


def paste(
    onto: Source, image: Source, regions: Sequence[Region], changes: Sequence[Tensor]
) -> None:
    """Add to ``onto``, the photograph ``image`` as it shall be written, what regions changed.

    ``changes`` are (3, h, w), the result less the crop. Each is feathered and warped back; where
    the feathers of several sum up to more than 1 the changes are weighted by them, whatever the
    order. What is beside all regions stays as it is.
    """
    patches = [_patch(*each, size_of(image)) for each in zip(regions, changes, strict=True)]
    top, bottom = min(each.box[0] for each in patches), max(each.box[1] for each in patches)
    for start in range(top, bottom, _ROWS):
        rows = start, min(start + _ROWS, bottom)
        active = [each for each in patches if each.box[0] < rows[1] and each.box[1] > rows[0]]
        if active:
            _paste_rows(onto, image, active, rows)


@dataclass(frozen=True)
class _Patch:
    """A change on its way back."""

    values: Tensor  # (3, h, w), reduced where the photograph is coarser
    to_values: Matrix  # from the photograph's pixels
    to_crop: Matrix
    size: Size  # of the crop
    box: Box  # of the photograph that it touches

    def added(self, box: Box) -> tuple[Tensor, Tensor]:
        """Return what is added in a box of the photograph, (3, rows, columns), and its weight."""
        weight = feather(*_places(self.to_crop, box), self.size)
        return _sampled(self.values, self.to_values, box) * weight, weight


def _patch(region: Region, change: Tensor, size: Size) -> _Patch:
    inverse = _inverse(region.matrix)
    whole = 0, region.size[0], 0, region.size[1]
    values, factor = _reduced(change, whole, _coarser(inverse))
    matrix = _shifted(inverse, 0, 0, factor)
    return _Patch(values, matrix, inverse, region.size, _box(region.matrix, region.size, size))


def _paste_rows(
    onto: Source, image: Source, patches: Sequence[_Patch], rows: tuple[int, int]
) -> None:
    left, right = min(each.box[2] for each in patches), max(each.box[3] for each in patches)
    change = torch.zeros(3, rows[1] - rows[0], right - left)
    weight = torch.zeros(change.shape[1:])
    for each in patches:
        box = max(each.box[0], rows[0]), min(each.box[1], rows[1]), each.box[2], each.box[3]
        place = slice(box[0] - rows[0], box[1] - rows[0]), slice(box[2] - left, box[3] - left)
        values, counts = each.added(box)
        change[:, *place] += values
        weight[*place] += counts
    change /= weight.clamp_min(1)
    changed = (_piece(image, (*rows, left, right)) + change).clamp_(-1, 1)
    down, across = slice(*rows), slice(left, right)
    if isinstance(onto, Tensor):
        onto[:, down, across] = changed
    else:
        onto[down, across] = from_tensor(changed, onto.dtype)


def _sampled(values: Tensor, matrix: Matrix, box: Box) -> Tensor:
    """Return (C, rows, columns) of the pixels of ``box``, which ``matrix`` takes to ``values``.

    Edges go on. In float64, a strip at a time: the places of ``grid_sample`` in float32 would blur
    16-bit pixels.
    """
    made = torch.empty(len(values), box[1] - box[0], box[3] - box[2])
    across, down = (_offsets(step) for step in _steps(matrix))
    samples = [(x, y) for y in down for x in across]
    for top in range(box[0], box[1], _ROWS):
        strip = top, min(top + _ROWS, box[1]), box[2], box[3]
        seen = _box(_from_strip(matrix, strip), _lengths(strip), (values.shape[1], values.shape[2]))
        piece = values[:, seen[0] : seen[1], seen[2] : seen[3]].double()[None]
        size = piece.shape[3], piece.shape[2]
        total = torch.zeros(1, len(values), *_lengths(strip), dtype=torch.float64)
        for x, y in samples:
            places = _places(_shifted(matrix, seen[2], seen[0], 1), strip, x, y)
            grid = torch.stack(
                [(2 * place + 1) / n - 1 for place, n in zip(places, size, strict=True)], 2
            )
            total += F.grid_sample(piece, grid[None], padding_mode="border", align_corners=False)
        made[:, strip[0] - box[0] : strip[1] - box[0]] = total[0] / len(samples)
    return made


def _lengths(box: Box) -> Size:
    return box[1] - box[0], box[3] - box[2]


def _from_strip(matrix: Matrix, box: Box) -> Matrix:
    """Return the matrix from the pixels of a box, counted from its own corner."""
    (a, b, c), (d, e, f) = matrix
    return (a, b, a * box[2] + b * box[0] + c), (d, e, d * box[2] + e * box[0] + f)


def _places(matrix: Matrix, box: Box, right: float = 0, down: float = 0) -> tuple[Tensor, Tensor]:
    """Return where ``matrix`` takes the pixels of a box: x and y, (rows, columns) float64."""
    (a, b, c), (d, e, f) = matrix
    y = torch.arange(box[0], box[1], dtype=torch.float64)[:, None] + down
    x = torch.arange(box[2], box[3], dtype=torch.float64) + right
    return a * x + b * y + c, d * x + e * y + f


def _steps(matrix: Matrix) -> tuple[float, float]:
    """Return how far apart neighbours across, and neighbours down, are taken."""
    (a, b, _), (d, e, _) = matrix
    return math.hypot(a, d), math.hypot(b, e)


def _coarser(matrix: Matrix) -> int:
    """Return of how many pixels a side means are taken before a matrix's places are sampled."""
    return max(1, int(min(_steps(matrix)) / 2))


def _offsets(step: float) -> list[float]:
    """Return where a pixel that is ``step`` pixels wide is sampled, from its centre."""
    count = max(1, min(_MOST_SAMPLES, math.ceil(step - _TOLERANCE)))
    return [(index + 0.5) / count - 0.5 for index in range(count)]


def _reduced(image: Source, box: Box, factor: int) -> tuple[Tensor, int]:
    """Return means of ``factor`` x ``factor`` pixels of a box, float32, and the factor.

    A small box limits it. A strip is read at a time.
    """
    factor = min(factor, box[1] - box[0], box[3] - box[2])
    if factor == 1:
        return _piece(image, box), 1
    rows = factor * max(1, _ROWS // factor)
    pieces = [
        F.avg_pool2d(
            _piece(image, (top, min(top + rows, box[1]), box[2], box[3])), factor, ceil_mode=True
        )
        for top in range(box[0], box[1], rows)
    ]
    return torch.cat(pieces, 1), factor


def _piece(image: Source, box: Box) -> Tensor:
    down, across = slice(box[0], box[1]), slice(box[2], box[3])
    return image[:, down, across] if isinstance(image, Tensor) else to_tensor(image[down, across])


def _box(matrix: Matrix, size: Size, within: Size) -> Box:
    """Return the pixels of a picture that a crop covers, and those around it; one at least."""
    places = _corners(matrix, size)
    left, right = _span([x for x, _ in places], within[1])
    top, bottom = _span([y for _, y in places], within[0])
    return top, bottom, left, right


def _span(places: Sequence[float], length: int) -> tuple[int, int]:
    start = min(max(0, math.floor(min(places)) - 1), length - 1)
    return start, min(max(start + 1, math.ceil(max(places)) + 2), length)


def _corners(matrix: Matrix, size: Size) -> list[tuple[float, float]]:
    (a, b, c), (d, e, f) = matrix
    corners = [(x - 0.5, y - 0.5) for x in (0, size[1]) for y in (0, size[0])]
    return [(a * x + b * y + c, d * x + e * y + f) for x, y in corners]


def _inverse(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f) = matrix
    area = a * e - b * d
    return (
        (e / area, -b / area, (b * f - c * e) / area),
        (-d / area, a / area, (c * d - a * f) / area),
    )


def _shifted(matrix: Matrix, left: int, top: int, factor: int) -> Matrix:
    """Return the matrix to the pixels of a box that begins there and was reduced."""
    (a, b, c), (d, e, f) = matrix
    middle = (factor - 1) / 2
    return (
        (a / factor, b / factor, (c - left - middle) / factor),
        (d / factor, e / factor, (f - top - middle) / factor),
    )


def _wrong_with(region: object, size: Size) -> str:
    """Say what is wrong with a region of a photograph of ``size``; "" where nothing is."""
    if not isinstance(region, Region):
        return "which is no i2i.Region"
    try:
        height, width = region.size
        (a, b, c), (d, e, f) = ((float(value) for value in row) for row in region.matrix)
    except (TypeError, ValueError):
        return "which has another shape"
    if not all(isinstance(side, int) and side > 0 for side in (height, width)):
        return "whose size is none in pixels"
    if not all(abs(value) < _FARTHEST for value in (a, b, c, d, e, f)):
        return "which is not finite, or too far away"
    if float(np.linalg.svd([[a, b], [d, e]], compute_uv=False)[-1]) < _FLATTEST:
        return "which has no area"
    places = _corners(region.matrix, region.size)
    for values, length in zip(zip(*places, strict=True), size[::-1], strict=True):
        if max(values) <= -0.5 or min(values) >= length - 0.5:
            return "which lies beside the photograph"
    return ""


def _fault(
    name: str, wrong: str, expected: str, remedy: str = "correct the family's locate"
) -> PluginError:
    return PluginError(
        f"locate {wrong}", where=f"family {name!r}", expected=expected, remedy=remedy
    )
