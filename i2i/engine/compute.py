"""Run a family within the memory there is: batches and tiles shrink where it is short."""

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from i2i.engine.ensemble import ensembled
from i2i.engine.inference import (
    Work,
    by_padded_size,
    forward,
    is_out_of_memory,
    result_bytes,
    translate_works,
)
from i2i.engine.memory import available, bytes_a_pixel
from i2i.engine.records import Settings
from i2i.engine.tiles import Source, frame, size_of
from i2i.errors import ImageError
from i2i.translator import Translator

_LARGE = 2**19  # pixels; below, a family's need is not measured
_LONGEST_TILE = 1024  # pixels a side; larger ones are no faster
_SHORTEST_TILE = 64
_SHARE = 1 / 3  # of the memory there is, for what the networks hold


class Computer:
    """Translates groups of pictures whose windows are of one size; remembers what memory allows."""

    def __init__(self, translator: Translator, settings: Settings) -> None:
        self.translator, self.settings = translator, settings
        self.fit = translator.fit
        self.batch_size = settings.batch_size
        self.tile = settings.tile if isinstance(settings.tile, int) else None
        self._request = settings.request  # of the pictures at hand
        self._shortest = max(_SHORTEST_TILE, 4 * self.fit.halo)  # below, halos are the most of it
        self._need: float | None = None
        self._measured = False

    def compute(
        self,
        works: Sequence[Work],
        dtypes: Sequence[np.dtype[Any] | None],
        request: BaseModel | None = None,
    ) -> list[Source | Exception]:
        """Return the result of each picture, or why it has none; none spoils another's.

        When memory runs out, fewer pictures are tried at once, then smaller tiles; both stay so.
        ``request`` is that of all these pictures, the settings' if None.
        """
        self._request = request or self.settings.request
        while True:
            failure: Exception
            try:
                self._prepare(works, available() - self._kept(works, dtypes))
                return [*self._attempt(works, dtypes)]
            except Exception as error:
                failure = error
            short = is_out_of_memory(failure)
            if short:
                failure.with_traceback(None)  # which keeps the memory of the attempt alive
            if short and self.settings.device.type == "cuda":
                torch.cuda.empty_cache()
            if len(works) > 1:
                half = len(works) // 2
                if short:
                    self.batch_size = min(self.batch_size, half)
                first = self.compute(works[:half], dtypes[:half], request)
                return [*first, *self.compute(works[half:], dtypes[half:], request)]
            if not (short and self._shrink(works[0])):
                return [failure]

    def compute_divided(
        self,
        pictures: Sequence[Sequence[Work]],
        dtypes: Sequence[np.dtype[Any]],
        request: BaseModel | None = None,
    ) -> list[list[Source] | Exception]:
        """Return what ``compose`` takes for each picture, or why it has none.

        The works of a picture are what it was divided into, of whatever sizes.
        """
        works = [
            (work, dtype if work.region is None else None)
            for parts, dtype in zip(pictures, dtypes, strict=True)
            for work in parts
        ]
        outputs: dict[int, Source | Exception] = {}
        for indices in by_padded_size([work for work, _ in works]):
            chosen, kinds = zip(*(works[index] for index in indices), strict=True)
            outputs.update(zip(indices, self.compute(chosen, kinds, request), strict=True))
        in_order = (outputs[index] for index in range(len(works)))
        return [_all_or_why(islice(in_order, len(parts))) for parts in pictures]

    def _attempt(
        self, works: Sequence[Work], dtypes: Sequence[np.dtype[Any] | None]
    ) -> list[Source]:
        return translate_works(works, self._run, self.fit, self.tile, self.batch_size, dtypes)

    def _run(self, batch: Tensor) -> Tensor:
        return ensembled(self._forward, batch) if self.settings.ensemble else self._forward(batch)

    def _forward(self, batch: Tensor) -> Tensor:
        settings = self.settings
        return forward(
            self.translator,
            batch,
            self._request,
            device=settings.device,
            precision=settings.precision,
        )

    def _kept(self, works: Sequence[Work], dtypes: Sequence[np.dtype[Any] | None]) -> int:
        """Return how many bytes the results take; raises where memory has no room for them."""
        pairs = zip(works, dtypes, strict=True)
        kept = sum(result_bytes(work, dtype, self.fit) for work, dtype in pairs)
        memory = available()
        if kept > memory:
            if len(works) > 1:
                raise MemoryError
            raise self._result_too_large(works[0], kept, memory)
        return kept

    def _prepare(self, works: Sequence[Work], memory: int) -> None:
        """Choose a tile for a large picture, or refuse one that ``memory`` cannot take whole."""
        height, width = works[0].frame.padded
        together = min(len(works), self.batch_size)
        large = together * height * width > _LARGE and self.fit.exact_size is None
        if not large or self.settings.device.type != "cpu":
            if self.fit.tiles and self.settings.tile == "auto" and self.tile is None:
                self.tile = _LONGEST_TILE
            return
        need = self._bytes_a_pixel()
        if need is None:
            return
        if self.fit.tiles and self.settings.tile == "auto":
            side = math.isqrt(int(memory * _SHARE / (need * self.batch_size)))
            self.tile = max(self._shortest, min(side, self.tile or _LONGEST_TILE))
        elif not self.fit.tiles or self.tile is None:
            needed = need * height * width * together
            if needed > memory:
                if len(works) > 1:
                    raise MemoryError
                raise self._too_large(works[0], needed, memory)

    def _bytes_a_pixel(self) -> float | None:
        """Measure the family once, on a small picture; None where it does not take that one."""
        if not self._measured:
            self._measured = True
            side = frame((_SHORTEST_TILE, _SHORTEST_TILE), self.fit).padded
            image = torch.zeros(1, self.fit.channels_in, *side)
            try:
                self._need = bytes_a_pixel(self._run, image)
            except Exception:  # of the family: it will say so on a picture
                self._need = None
        return self._need

    def _shrink(self, work: Work) -> bool:
        """Halve the batch of tiles, then the tile; False where neither goes."""
        if not self.fit.tiles or self.settings.tile == "off":
            return False
        if self.batch_size > 1 and len(work.frame.windows(self.tile, self.fit)) > 1:
            self.batch_size //= 2
            return True
        tile = min(self.tile or max(work.frame.padded), max(work.frame.padded))
        if tile // 2 < self._shortest:
            return False
        self.tile = tile // 2
        return True

    def _result_too_large(self, work: Work, needed: int, memory: int) -> ImageError:
        height, width = (side * self.fit.scale for side in work.target)
        short = int(min(size_of(work.source)) * math.sqrt(0.8 * memory / needed))
        return ImageError(
            f"its result of {width}x{height} pixels needs about {needed / 1e9:.1f} GB of memory, "
            f"and {memory / 1e9:.1f} GB are free",
            where=f"family {self.translator.name!r}",
            expected="a picture whose result fits in memory",
            remedy=f"reduce it first with --work-size {max(1, short)} --no-restore-size",
        )

    def _too_large(self, work: Work, needed: float, memory: int) -> ImageError:
        short = min(work.frame.size)
        fitting = int(short * math.sqrt(0.8 * memory / needed))
        height, width = work.frame.size
        return ImageError(
            f"{width}x{height} pixels need about {needed / 1e9:.1f} GB of memory, "
            f"and {memory / 1e9:.1f} GB are free",
            where=f"family {self.translator.name!r}",
            expected="a picture that fits in memory, as the family takes it whole",
            remedy=f"reduce it with --work-size {max(1, fitting)}",
        )


def _all_or_why(outputs: Iterable[Source | Exception]) -> list[Source] | Exception:
    made: list[Source] = []
    for output in outputs:
        if isinstance(output, Exception):
            return output
        made.append(output)
    return made
