"""Layouts: how folders of pictures become samples, as a pure function of (seed, epoch, index)."""

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from i2i.errors import DataError
from i2i.imaging import Pixels
from i2i.types import Inputs, derive_seed

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Part:
    """A picture: a whole file, or one of several columns of equal width in it.

    Columns are counted from the left, from 0. A plugin's layout may bring frozen dataclasses of
    its own that override ``cut``, for whatever else of a file is a picture: the loader reads a
    file once for all the parts of a sample.
    """

    path: Path
    column: int = 0
    num_columns: int = 1

    def cut(self, pixels: Pixels) -> Pixels:
        """Return the part's pixels from those of the whole file, both (H, W, C).

        Raises DataError for a width that does not divide.
        """
        width, rest = divmod(pixels.shape[1], self.num_columns)
        if rest or not width:
            raise DataError(
                f"its width of {pixels.shape[1]} pixels does not divide by {self.num_columns}",
                where=str(self.path),
                expected=f"{self.num_columns} pictures of one size side by side",
                remedy="crop it, or choose another data.layout",
            )
        return pixels[:, self.column * width : (self.column + 1) * width]


@dataclass(frozen=True)
class PreparedPart(Part, ABC):
    """A picture that is made from a file in two steps, of which the first takes the time.

    With ``keep`` the loader keeps what ``prepare`` made, in the user's cache, and a sample takes
    what ``cut`` would from there. ``preparation`` must say all that ``prepare`` goes by.
    """

    keep: bool = False

    @property
    @abstractmethod
    def preparation(self) -> str:
        """What ``prepare`` does, in words that no other preparation has."""

    @abstractmethod
    def prepare(self, pixels: Pixels) -> Pixels:
        """Return what is worth keeping, made from the pixels of the whole file; both (H, W, C)."""

    @abstractmethod
    def take(self, prepared: Pixels) -> Pixels:
        """Return the part's pixels from those that ``prepare`` made; may be a view of them."""

    def cut(self, pixels: Pixels) -> Pixels:
        """Return the part's pixels from those of the whole file."""
        return self.take(self.prepare(pixels))


@dataclass(frozen=True)
class Sample:
    """One sample: the picture of each role, and its labels by name."""

    images: Mapping[str, Part]
    labels: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pairing:
    """Which pictures belong together: ``pairs`` have one for every role.

    ``alone`` are those that lack a partner, ``doubled`` groups of one role's pictures that claim
    the same place; both by role. ``refused`` says whether training refuses them.
    """

    pairs: tuple[Mapping[str, Part], ...]
    alone: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    doubled: Mapping[str, tuple[tuple[Part, ...], ...]] = field(default_factory=dict)
    refused: bool = False


class Layout(ABC):
    """How a data folder becomes samples; a plugin offers its own through ``i2i_layouts``.

    A layout holds the pictures of one split and decides, from (seed, epoch, index) alone, which
    of them make a sample. It is pickled into loader workers, so it holds nothing that cannot be.
    """

    Options: ClassVar[type[BaseModel]]
    """The recipe's ``[data.options]``; frozen, extra keys forbidden, every field described."""

    roles: ClassVar[tuple[str, ...]] = ()
    """The roles that the layout serves, where they are not any that a family names."""

    labels: ClassVar[tuple[str, ...]] = ()
    """The labels that the layout brings."""

    cuts: ClassVar[bool] = False
    """Whether the layout cuts its pictures to what training takes.

    Those of a pair may then differ in size by a whole factor, and the recipe may only turn and
    mirror them: one draw makes the same turn of any size, and little else.
    """

    def __init__(self, root: Path, options: Any, inputs: Inputs, split: Split) -> None:
        """Find the pictures of ``split`` below ``root`` for the roles of ``inputs``.

        Raises DataError for a folder that is missing or empty, RecipeError for a family that this
        layout cannot serve.
        """
        self.check(options, inputs)
        self.root, self.options, self.inputs, self.split = root, options, inputs, split

    @classmethod
    def defaults(cls, scale: int) -> Mapping[str, Any]:
        """Return what ``Options`` takes of pairs for a model that enlarges by ``scale``.

        For 'i2i evaluate', where no recipe says more; empty where all is well as it is.
        """
        return {}

    @classmethod  # noqa: B027 - a layout may serve all families
    def check(cls, options: Any, inputs: Inputs) -> None:
        """Raise RecipeError for options, or a family, that this layout cannot serve."""

    @classmethod
    @abstractmethod
    def list_pictures(
        cls, root: Path, options: Any, inputs: Inputs, role: str, split: Split
    ) -> tuple[Part, ...]:
        """Return every picture of a role in a split, in an order that is always the same.

        Raises DataError where there is none.
        """

    @classmethod
    def match(cls, root: Path, options: Any, inputs: Inputs, split: Split) -> Pairing | None:
        """Return which pictures of a split belong together, for 'i2i data check' to report.

        None where nothing can be without a partner. Raises DataError as ``list_pictures`` does.
        """
        return None

    @classmethod
    def misfit(cls, options: Any, split: Split, sizes: Mapping[str, tuple[int, int]]) -> str | None:
        """Return why a pair of these sizes cannot be used, for layouts that cut; None if it can.

        ``sizes`` are (width, height) of the whole parts of ``match`` by role.
        """
        return None

    @classmethod
    def left_out(cls, root: Path, options: Any, inputs: Inputs) -> Mapping[str, str]:
        """Return what no split has, though it looks as if meant to be there, and why.

        Keys are as people find it: a file's path in the folder, "ages.csv line 7". For
        'i2i data check' to report. Raises DataError as ``list_pictures`` does.
        """
        return {}

    @classmethod
    def groups(cls, root: Path, options: Any, inputs: Inputs, split: Split) -> Mapping[str, int]:
        """Return the pictures of each group of a split, for 'i2i data check' to report.

        Empty where the layout knows no groups. Raises DataError as ``list_pictures`` does.
        """
        return {}

    @classmethod
    def remark(cls, options: Any, role: str, pixels: NDArray[np.uint8]) -> str | None:
        """Return what seems wrong with a picture, (H, W, 3) RGB, for 'i2i data check'.

        None where all is well. Never called from two threads at once. Raises I2IError where it
        cannot look at pictures at all, for want of an extra; it is then asked no more.
        """
        return None

    @abstractmethod
    def __len__(self) -> int:
        """Return the samples of one epoch."""

    @abstractmethod
    def sample(self, seed: int, epoch: int, index: int) -> Sample:
        """Return sample ``index`` (0 to len - 1) of ``epoch``: a pure function of the three."""

    def preview_pictures(self, role: str, count: int) -> tuple[Part, ...]:
        """Return ``count`` fixed pictures, or all, spread over the test split.

        A data folder without a test split gives pictures of the train split.
        """
        found = (self.root, self.options, self.inputs, role)
        try:
            pictures = self.list_pictures(*found, "test")
        except DataError:
            pictures = self.list_pictures(*found, "train")
        count = min(count, len(pictures))
        return tuple(pictures[place * len(pictures) // count] for place in range(count))


class Orders:
    """Shuffled orders, each a function of (seed, name, passes) alone.

    The last two of a name are kept, as a batch reaches from one pass into the next.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], tuple[int, list[int]]] = {}

    def order(self, count: int, seed: int, name: str, passes: int) -> list[int]:
        """Return the numbers 0 to ``count - 1`` in the order of one pass."""
        key = (name, passes % 2)
        kept = self._kept.get(key)
        number = derive_seed(seed, "order", name, passes)
        if kept is None or kept[0] != number:
            order = list(range(count))
            random.Random(number).shuffle(order)
            kept = self._kept[key] = (number, order)
        return kept[1]
