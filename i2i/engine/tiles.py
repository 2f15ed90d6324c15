"""Where a picture is cut into windows, and how their results are put together.

A picture is padded to what the family takes by reflection. What is too large for memory is cut
into windows of one size: each is a core, which divides the picture evenly, with a halo around it
that is translated too and thrown away.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from i2i.engine.resample import Size
from i2i.imaging import Pixels, from_tensor, to_tensor
from i2i.types import Fit

Source = Pixels | Tensor
"""(H, W, C) pixels, or (C, H, W) float32 in [-1, 1]."""


def size_of(image: Source) -> Size:
    """Return height and width of pixels or of a tensor."""
    if isinstance(image, Tensor):
        return image.shape[-2], image.shape[-1]
    return image.shape[0], image.shape[1]


@dataclass(frozen=True)
class Span:
    """A window along one axis of the padded picture: all of it, and the core that is kept."""

    start: int
    stop: int
    core_start: int
    core_stop: int


@dataclass(frozen=True)
class Frame:
    """How a picture lies in what the family sees; sizes in pixels."""

    size: Size
    padded: Size
    offset: Size  # rows above and columns left of the picture

    def windows(self, side: int | None, fit: Fit) -> list[tuple[Span, Span]]:
        """Return the windows (down, across) that cover the picture, none longer than ``side``.

        All are of one size. ``side`` None is a single window.
        """
        down, across = (cover(length, side or length, fit) for length in self.padded)
        return list(itertools.product(down, across))


def frame(size: Size, fit: Fit) -> Frame:
    """Pad a size to the family's multiple and smallest side, evenly on both ends."""
    height, width = (_padded_length(length, fit) for length in size)
    return Frame(size, (height, width), ((height - size[0]) // 2, (width - size[1]) // 2))


def cover(length: int, side: int, fit: Fit) -> list[Span]:
    """Cut a padded axis into the fewest even cores whose windows are at most ``side`` long.

    Windows begin at multiples of ``fit.multiple``, so a network that halves its input sees each
    pixel in the phase in which it sees it in the whole picture. Those at an end stop there: what
    the network itself pads is the same as without tiles. A ``side`` that has no room for a core
    between two halos is taken as the smallest that has.
    """
    halo = -(-fit.halo // fit.multiple) * fit.multiple
    if side >= length:
        return [Span(0, length, 0, length)]
    least = max(_padded_length(1, fit) - 2 * halo, fit.multiple)
    room = max(least, (side - 2 * halo) // fit.multiple * fit.multiple)
    units = length // fit.multiple
    parts = -(-units // (room // fit.multiple))
    edges = [round(part * units / parts) * fit.multiple for part in range(parts + 1)]
    longest = max(stop - start for start, stop in itertools.pairwise(edges))
    window = max(longest + 2 * halo, _padded_length(1, fit))
    if window >= length:  # each would see it all
        return [Span(0, length, 0, length)]
    starts = [min(max(0, start - halo), length - window) for start in edges[:-1]]
    return [
        Span(begin, begin + window, start, stop)
        for begin, (start, stop) in zip(starts, itertools.pairwise(edges), strict=True)
    ]


def cut(source: Source, place: Frame, window: tuple[Span, Span], num_channels: int) -> Tensor:
    """Return one window of a picture as (C, h, w) float32: only that much is ever converted."""
    rows, columns = (
        _mirrored(length, offset, span)
        for length, offset, span in zip(place.size, place.offset, window, strict=True)
    )
    if isinstance(source, Tensor):
        return source[:, rows[:, None], columns]
    return to_tensor(source[rows.numpy()[:, None], columns.numpy()], num_channels)


class Canvas:
    """The result of a picture, filled window by window: pixels, or float32 where no type is given.

    ``values`` is (H, W, C) pixels of ``dtype``, or a (C, H, W) tensor.
    """

    def __init__(self, place: Frame, fit: Fit, dtype: np.dtype | None) -> None:
        self.place, self.scale = place, fit.scale
        height, width = place.size[0] * fit.scale, place.size[1] * fit.scale
        self.values: Source
        if dtype is None:
            self.values = torch.empty(fit.channels_out, height, width)
        else:
            self.values = np.empty((height, width, fit.channels_out), dtype)

    def put(self, window: tuple[Span, Span], output: Tensor) -> None:
        """Keep the core of one window's (C, h, w) result, less what lies in the padding."""
        kept, places = [], []
        for span, offset, length in zip(window, self.place.offset, self.place.size, strict=True):
            start = max(span.core_start, offset)
            stop = min(span.core_stop, offset + length)
            if stop <= start:
                return  # nothing but padding
            kept.append(slice((start - span.start) * self.scale, (stop - span.start) * self.scale))
            places.append(slice((start - offset) * self.scale, (stop - offset) * self.scale))
        core = output[:, kept[0], kept[1]]
        if isinstance(self.values, Tensor):
            self.values[:, places[0], places[1]] = core
        else:
            self.values[places[0], places[1]] = from_tensor(core, self.values.dtype)


def _padded_length(length: int, fit: Fit) -> int:
    at_least = max(length, fit.smallest)
    return -(-at_least // fit.multiple) * fit.multiple


def _mirrored(length: int, before: int, span: Span) -> Tensor:
    """Return which index each place of a window shows, of a line that is mirrored at both ends."""
    if length == 1:
        return torch.zeros(span.stop - span.start, dtype=torch.long)
    period = 2 * (length - 1)
    place = (torch.arange(span.start, span.stop) - before).remainder(period)
    return torch.minimum(place, period - place)
