"""What a metric is: the contract that plugins offer their own through, by ``i2i_metrics``."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from i2i.downloads import Watcher

Bytes = NDArray[np.uint8]
"""(H, W, 3) sRGB pixels, 0..255: results are rounded to 8 bits before anything is measured."""

Better = Literal["higher", "lower"]


class Metric(ABC):
    """How results are compared with their targets: ``measure`` looks at a pair, ``combine`` at all.

    Most metrics give each picture a number and take the mean, which is what ``combine`` does unless
    told. One over whole sets, such as a distance between distributions of features, returns from
    ``measure`` what it needs of a pair, overrides ``combine``, and sets ``per_picture`` to False.
    """

    name: ClassVar[str]
    """As ``--metrics`` spells it; the name that the plugin offers."""

    unit: ClassVar[str] = ""
    """Of its values, such as "dB"; empty for a plain number."""

    better: ClassVar[Better]
    """Which values are the better ones."""

    digits: ClassVar[int] = 4
    """Decimals in a table."""

    per_picture: ClassVar[bool] = True
    """Whether ``measure`` returns a number that says something of its picture alone."""

    bytes_a_pixel: ClassVar[int] = 100
    """The memory that ``measure`` takes for a pixel of the result, at most."""

    @abstractmethod
    def protocol(self, scale: int) -> str:
        """Say all that a value depends on: two values compare only where this text is the same.

        ``scale`` is the family's: pixels of the result a pixel of the source, a side.
        """

    def smallest(self, scale: int) -> int:
        """Return the least height and width, in pixels of the result, that can be measured."""
        return 1

    def prepare(self, watcher: Watcher | None = None) -> None:  # noqa: B027 - most need nothing
        """Load what the metric looks through; called once, before any picture is translated.

        Raises DownloadError where that can be had neither here nor from the network.
        """

    @abstractmethod
    def measure(self, result: Bytes, target: Bytes, scale: int) -> Any:
        """Return a pair's value, or what ``combine`` needs of it.

        Both are (H, W, 3) uint8 sRGB of one size, at least ``smallest`` a side. Pure: the same pair
        gives the same answer, whatever was measured before.
        """

    def combine(self, measured: Sequence[Any]) -> float:
        """Return the value over pictures from what ``measure`` said of each, at least one."""
        return math.fsum(measured) / len(measured)
