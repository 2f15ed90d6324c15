"""Layouts: how folders of pictures become samples, as a pure function of (seed, epoch, index)."""

import os
import random
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from i2i.errors import DataError, RecipeError, nearest, unknown
from i2i.imaging import has_picture_suffix
from i2i.types import Inputs, derive_seed

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Sample:
    """One sample: the picture of each role, and its labels by name."""

    images: Mapping[str, Path]
    labels: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)


class Layout(ABC):
    """How a data folder becomes samples; a plugin offers its own through ``i2i_layouts``.

    A layout holds the paths of one split and decides, from (seed, epoch, index) alone, which of
    them make a sample. It is pickled into loader workers, so it holds nothing that cannot be.
    """

    Options: ClassVar[type[BaseModel]]
    """The recipe's ``[data.options]``; frozen, extra keys forbidden, every field described."""

    def __init__(self, root: Path, options: Any, inputs: Inputs, split: Split) -> None:
        """Find the pictures of ``split`` below ``root`` for the roles of ``inputs``.

        Raises DataError for a folder that is missing or empty, RecipeError for a family that this
        layout cannot serve.
        """
        self.check(options, inputs)
        self.root, self.options, self.inputs, self.split = root, options, inputs, split

    @classmethod  # noqa: B027 - a layout may serve all families
    def check(cls, options: Any, inputs: Inputs) -> None:
        """Raise RecipeError for options, or a family, that this layout cannot serve."""

    @classmethod
    @abstractmethod
    def list_pictures(cls, root: Path, options: Any, role: str, split: Split) -> tuple[Path, ...]:
        """Return every picture of a role in a split, in an order that is always the same.

        Raises DataError where there is none.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Return the samples of one epoch."""

    @abstractmethod
    def sample(self, seed: int, epoch: int, index: int) -> Sample:
        """Return sample ``index`` (0 to len - 1) of ``epoch``: a pure function of the three."""

    def preview_pictures(self, role: str, count: int) -> tuple[Path, ...]:
        """Return ``count`` fixed pictures, or all, spread over the test split.

        A data folder without a test split gives pictures of the train split.
        """
        try:
            pictures = self.list_pictures(self.root, self.options, role, "test")
        except DataError:
            pictures = self.list_pictures(self.root, self.options, role, "train")
        count = min(count, len(pictures))
        return tuple(pictures[place * len(pictures) // count] for place in range(count))


class UnpairedOptions(BaseModel):
    """Where the pictures of each role lie; role "a" is in ``trainA`` and ``testA`` unless told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: Mapping[str, str] = Field({}, description="Role to folder name, for training.")
    test: Mapping[str, str] = Field({}, description="Role to folder name, for previews and tests.")


class Unpaired(Layout):
    """A folder for each role, with pictures that have nothing to do with each other.

    An epoch is the larger domain. Each role runs through its pictures in an order shuffled anew
    for every pass; passes are counted over epochs, so each picture is used evenly.
    """

    Options = UnpairedOptions

    def __init__(self, root: Path, options: Any, inputs: Inputs, split: Split) -> None:
        super().__init__(root, options, inputs, split)
        self._pictures = {
            role: self.list_pictures(root, options, role, split) for role in inputs.images
        }
        self._orders: dict[tuple[str, int], tuple[int, list[int]]] = {}

    @classmethod
    def check(cls, options: Any, inputs: Inputs) -> None:
        """Refuse families that need more than single pictures, and roles that they lack."""
        _check_inputs(inputs)
        _check_roles(options, inputs)

    @classmethod
    def list_pictures(cls, root: Path, options: Any, role: str, split: Split) -> tuple[Path, ...]:
        """Return the pictures in the role's folder, at any depth, ordered by their path in it."""
        default = f"{split}{role[:1].upper()}{role[1:]}"
        folder = root / getattr(options, split).get(role, default)
        _check_folder(root, folder, f"the {split} pictures of role {role!r}")
        pictures = find_pictures(folder)
        if not pictures:
            raise DataError(
                "there is no picture in it",
                where=str(folder),
                expected=f"the {split} pictures of role {role!r}, at any depth",
                remedy="put pictures there such as JPEG or PNG files",
            )
        return pictures

    def __len__(self) -> int:
        return max(len(pictures) for pictures in self._pictures.values())

    def sample(self, seed: int, epoch: int, index: int) -> Sample:
        """Return the pictures that each role's shuffled passes have at this place."""
        place = epoch * len(self) + index
        images = {}
        for role, pictures in self._pictures.items():
            passes, slot = divmod(place, len(pictures))
            images[role] = pictures[self._order(seed, role, passes)[slot]]
        return Sample(images)

    def _order(self, seed: int, role: str, passes: int) -> list[int]:
        """Return the shuffled order of one pass; the last two a role are kept."""
        key = (role, passes % 2)
        kept = self._orders.get(key)
        number = derive_seed(seed, "order", role, passes)
        if kept is None or kept[0] != number:
            order = list(range(len(self._pictures[role])))
            random.Random(number).shuffle(order)
            kept = self._orders[key] = (number, order)
        return kept[1]


def find_pictures(folder: Path) -> tuple[Path, ...]:
    """Return the pictures below ``folder``, at any depth, ordered by their relative path.

    A picture is a file with the extension of a format that i2i reads. Hidden files and
    folders are left out; links to folders are followed, each folder once.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        # Which of two names for one folder is met first must not depend on the file system.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in files
            if not name.startswith(".") and has_picture_suffix(Path(name))
        ]
    return tuple(sorted(found, key=lambda path: _sort_key(path.relative_to(folder))))


def _sort_key(relative: Path) -> tuple[str, str]:
    text = relative.as_posix()
    return unicodedata.normalize("NFC", text), text


def _check_folder(root: Path, folder: Path, expected: str) -> None:
    """Raise DataError with the nearest existing name unless ``folder`` is there."""
    if folder.is_dir():
        return
    missing = folder if root.is_dir() else root
    parent = missing.parent
    names = [each.name for each in parent.iterdir() if each.is_dir()] if parent.is_dir() else []
    lowered = {name.lower(): name for name in names}
    near = nearest(missing.name.lower(), lowered)
    raise DataError(
        f"there is no folder {missing.name!r}",
        where=str(parent),
        expected="a data folder" if missing == root else expected,
        remedy="check the path, or name the folders in [data.options]"
        if near is None
        else f"did you mean {lowered[near]!r}?",
    )


def _check_inputs(inputs: Inputs) -> None:
    if inputs.paired or inputs.labels:
        needs = "pairs of pictures" if inputs.paired else f"labels ({', '.join(inputs.labels)})"
        raise RecipeError(
            f"the family trains on {needs}, which layout 'unpaired' does not bring",
            where="data.layout",
            expected="a layout that brings them",
            remedy="run 'i2i plugins' to see the layouts",
        )


def _check_roles(options: UnpairedOptions, inputs: Inputs) -> None:
    for split in ("train", "test"):
        for role in getattr(options, split):
            if role not in inputs.images:
                raise unknown(
                    "role",
                    role,
                    inputs.images,
                    where=f"data.options.{split}",
                    error=RecipeError,
                    otherwise="name a role of the family",
                )
