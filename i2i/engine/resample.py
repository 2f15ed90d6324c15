"""Bicubic resampling with antialiasing, a strip of rows at a time.

A picture of hundreds of megapixels is never whole in float32: rows are read where a strip needs
them, resampled across, then down by the rows of one matrix. The filter is that of
``torch.nn.functional.interpolate`` (Keys, a = -0.5, widened when reducing).
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate

Size = tuple[int, int]  # height and width in pixels

_STRIP_VALUES = 2**23  # of float32, read and made at once


def strips(
    read: Callable[[int, int], Tensor], size: Size, target: Size
) -> Iterator[tuple[int, Tensor]]:
    """Yield (first row, (C, rows, W') float32) of a picture resized from ``size`` to ``target``.

    ``read(start, stop)`` returns those rows of the picture, (C, stop - start, W). Values may
    overshoot at edges.
    """
    height, width = target
    longest = max(width, size[1])
    factor = max(1.0, size[0] / height)
    rows = max(1, min(height, round(_STRIP_VALUES / (3 * longest * factor))))
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        if size[0] == height:
            yield start, _across(read(start, stop), width)
        else:
            first, weights = axis_weights(size[0], height, start, stop)
            source = _across(read(first, first + weights.shape[1]), width)
            yield start, torch.einsum("oi,ciw->cow", weights, source)


def axis_weights(length: int, target: int, start: int, stop: int) -> tuple[int, Tensor]:
    """Return how places [start, stop) of ``target`` are summed from ``length`` along one axis.

    The first place that counts, and (stop - start, count) float32 weights of it and those after.
    """
    scale = length / target
    widened = max(scale, 1.0)
    centres = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * scale
    support = 2 * widened
    first = max(0, int(float(centres[0]) - support + 0.5))
    last = min(length, int(float(centres[-1]) + support + 0.5))
    places = torch.arange(first, last, dtype=torch.float64)
    weights = _cubic((places + 0.5 - centres[:, None]) / widened)
    return first, (weights / weights.sum(1, keepdim=True)).float()


def _across(rows: Tensor, width: int) -> Tensor:
    if rows.shape[2] == width:
        return rows
    size = (rows.shape[1], width)  # of one axis only: torch 2.13 errs where both change and W' is 1
    return interpolate(rows[None], size, mode="bicubic", antialias=True)[0]


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5: 1.5|x|³ - 2.5|x|² + 1, then -0.5|x|³ + 2.5|x|² - 4|x| + 2."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
