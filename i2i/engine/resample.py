"""Resampling with antialiasing, a strip of rows at a time.

A picture of hundreds of megapixels is never whole in float32: rows are read where a strip needs
them, resampled across, then down by the rows of one matrix. "bicubic" is the filter of
``torch.nn.functional.interpolate`` (Keys, a = -0.5), and "lanczos" that of Pillow (a sinc windowed
by the middle of another, three zeros wide); both are widened when reducing.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

Size = tuple[int, int]  # height and width in pixels
Filter = Literal["bicubic", "lanczos"]

_STRIP_VALUES = 2**23  # of float32, read and made at once
_BLOCK = 64  # columns made by one matrix: each reads those below it, and not the whole row
_ZEROS = 3  # of Lanczos' sinc, a side


def strips(
    read: Callable[[int, int], Tensor], size: Size, target: Size, kind: Filter = "bicubic"
) -> Iterator[tuple[int, Tensor]]:
    """Yield (first row, (C, rows, W') float32) of a picture resized from ``size`` to ``target``.

    ``read(start, stop)`` returns those rows of the picture, (C, stop - start, W). Values may
    overshoot at edges.
    """
    height, width = target
    across = _across(size[1], width, kind)
    longest = max(width, size[1])
    factor = max(1.0, size[0] / height)
    rows = max(1, min(height, round(_STRIP_VALUES / (3 * longest * factor))))
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        if size[0] == height:
            yield start, across(read(start, stop))
        else:
            first, weights = axis_weights(size[0], height, start, stop, kind)
            source = across(read(first, first + weights.shape[1]))
            yield start, torch.einsum("oi,ciw->cow", weights, source)


def axis_weights(
    length: int, target: int, start: int, stop: int, kind: Filter = "bicubic"
) -> tuple[int, Tensor]:
    """Return how places [start, stop) of ``target`` are summed from ``length`` along one axis.

    The first place that counts, and (stop - start, count) float32 weights of it and those after.
    """
    scale = length / target
    widened = max(scale, 1.0)
    centres = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * scale
    support = (_ZEROS if kind == "lanczos" else 2) * widened
    first = max(0, int(float(centres[0]) - support + 0.5))
    last = min(length, int(float(centres[-1]) + support + 0.5))
    places = torch.arange(first, last, dtype=torch.float64)
    kernel = _lanczos if kind == "lanczos" else _cubic
    weights = kernel((places + 0.5 - centres[:, None]) / widened)
    return first, (weights / weights.sum(1, keepdim=True)).float()


def _across(length: int, width: int, kind: Filter) -> Callable[[Tensor], Tensor]:
    """Return what resamples (C, rows, length) along its rows to (C, rows, width)."""
    if length == width:
        return lambda rows: rows
    if kind == "bicubic":
        # Of one axis only: torch 2.13 errs where both change and W' is 1
        return lambda rows: interpolate(
            rows[None], (rows.shape[1], width), mode="bicubic", antialias=True
        )[0]
    edges = [*range(0, width, _BLOCK), width]
    blocks = [axis_weights(length, width, *pair, kind) for pair in pairwise(edges)]
    return lambda rows: torch.cat(
        [rows[..., first : first + each.shape[1]] @ each.T for first, each in blocks], dim=2
    )


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5: 1.5|x|³ - 2.5|x|² + 1, then -0.5|x|³ + 2.5|x|² - 4|x| + 2."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _lanczos(x: Tensor) -> Tensor:
    """Lanczos' kernel: sinc(x) sinc(x / 3) up to 3, and nothing beyond."""
    kernel = torch.sinc(x) * torch.sinc(x / _ZEROS)
    return torch.where(x.abs() < _ZEROS, kernel, torch.zeros_like(x))
