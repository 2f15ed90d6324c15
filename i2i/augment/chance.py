"""The numbers that one call of an augmentation draws, handed out one after another."""

from collections.abc import Iterator

from torch import Tensor

from i2i.types import Batch, Progress

_MOST = 32  # numbers of a kind that one call asks for, at most


class Chance:
    """Draws for the samples of ``batch``, keyed by sample and ``name``; each is (N,) float32.

    All come from two draws, since seeding a generator costs more than the numbers.
    """

    def __init__(self, batch: Batch, now: Progress, name: str) -> None:
        uniform = now.uniform(batch, f"{name}.augment", _MOST)
        normal = now.normal(batch, f"{name}.augment.normal", _MOST)
        self._uniform: Iterator[Tensor] = iter(uniform.unbind(1))
        self._normal: Iterator[Tensor] = iter(normal.unbind(1))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw from [low, high)."""
        return next(self._uniform) * (high - low) + low

    def integer(self, number: int) -> Tensor:
        """Draw a whole number from 0 to ``number - 1``, as floats."""
        return self.uniform(0, number).floor().clamp(max=number - 1)  # float32 may round up

    def normal(self) -> Tensor:
        """Draw from N(0, 1)."""
        return next(self._normal)

    def happens(self, probability: Tensor) -> Tensor:
        """Draw whether something of this probability happens: (N,) of 0 and 1."""
        return (next(self._uniform) < probability).float()
