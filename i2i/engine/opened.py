"""A picture of a folder job between its file and the file of its translation."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from i2i.engine.discovery import Task
from i2i.engine.inference import Work
from i2i.imaging import Picture


@dataclass(frozen=True)
class Opened:
    """A picture that is decoded and waits to be translated."""

    task: Task  # with the output and format that can hold the result
    name: str
    sha256: str
    content: bytes | None  # of its file, where that is signed into the output
    picture: Picture
    works: tuple[Work, ...]  # of all of it, or of its regions
    dtype: np.dtype[Any]  # of the result's pixels
    notes: tuple[str, ...]
    seconds: float
    cost: int  # bytes, as it was estimated

    @property
    def in_regions(self) -> bool:
        """Whether only regions of it are translated."""
        return self.works[0].region is not None
