"""What the layouts of faces share: groups that come equally often, and a split by number."""

import hashlib
import logging
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from i2i.data.layouts import Layout, Orders, Part, Sample, Split
from i2i.errors import DataError, RecipeError
from i2i.imaging import has_picture_suffix
from i2i.types import Inputs
from i2i_face_aging.ages import AGE_GROUPS, group_of

NUM_TEST = 600

Aged = tuple[Path, float]
"""A picture and the age in years of the face in it."""

_log = logging.getLogger(__name__)


class FaceOptions(BaseModel):
    """How faces are drawn, wherever their ages come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    balance: bool = Field(
        True,
        description="Whether the six age groups come equally often; else every picture does.",
    )


@dataclass(frozen=True)
class Faces:
    """The faces of a data folder, each with its age in years, and what is left out.

    ``splits`` gives them by split; it raises DataError where that cannot be done, and what is left
    out is known all the same.
    """

    splits: Callable[[], Mapping[Split, tuple[Aged, ...]]]
    left_out: Mapping[str, str] = field(default_factory=dict)


class AgedFaces(Layout):
    """Faces with the label "age" in years; each layout says where they are.

    An epoch has as many samples as there are pictures. With ``balance`` every six samples in a
    row have one of each age group, in an order shuffled anew, and each group runs through its
    pictures in shuffled passes that are counted over epochs; groups without pictures are passed
    over. Else an epoch is every picture once, in an order shuffled anew.
    """

    Options = FaceOptions
    roles = ("face",)
    labels = ("age",)

    expected: ClassVar[str]
    """What the data folder should look like, for errors."""

    def __init__(self, root: Path, options: Any, inputs: Inputs, split: Split) -> None:
        super().__init__(root, options, inputs, split)
        found = self.find(root, options)
        self._faces = self._some(root, found, split)
        groups: list[list[int]] = [[] for _ in AGE_GROUPS]
        for number, (_, age) in enumerate(self._faces):
            groups[group_of(age)].append(number)
        self._groups = [group for group in groups if group]
        self._orders = Orders()
        if found.left_out and split == "train":
            place, reason = next(iter(found.left_out.items()))
            _log.warning(
                "%d left out of %s, such as %s: %s; 'i2i data check' lists them",
                *(len(found.left_out), root, place, reason),
            )

    @classmethod
    @abstractmethod
    def find(cls, root: Path, options: Any) -> Faces:
        """Return the faces below ``root`` in an order that is always the same.

        Raises DataError where there is none.
        """

    @classmethod
    def check(cls, options: Any, inputs: Inputs) -> None:
        """Refuse families that train on anything but single faces and their ages."""
        if inputs.paired or inputs.images != cls.roles or not {*inputs.labels} <= {*cls.labels}:
            wants = ", ".join((*inputs.images, *inputs.labels))
            raise RecipeError(
                f"the family trains on {'pairs of ' if inputs.paired else ''}{wants}, and the "
                "layout brings face and age",
                where="data.layout",
                expected="a layout that brings what the family trains on",
                remedy="run 'i2i plugins' to see the layouts",
            )

    @classmethod
    def list_pictures(
        cls, root: Path, options: Any, inputs: Inputs, role: str, split: Split
    ) -> tuple[Part, ...]:
        """Return the faces of a split, ordered by their path."""
        faces = cls._some(root, cls.find(root, options), split)
        return tuple(Part(path) for path, _ in faces)

    @classmethod
    def left_out(cls, root: Path, options: Any, inputs: Inputs) -> Mapping[str, str]:
        """Return the files, folders and rows that give no face with an age."""
        return cls.find(root, options).left_out

    @classmethod
    def groups(cls, root: Path, options: Any, inputs: Inputs, split: Split) -> Mapping[str, int]:
        """Return the pictures of each of the six age groups."""
        faces = cls._some(root, cls.find(root, options), split)
        counts = Counter(group_of(age) for _, age in faces)
        return {name: counts[number] for number, name in enumerate(AGE_GROUPS)}

    @classmethod
    def remark(cls, options: Any, role: str, pixels: NDArray[np.uint8]) -> str | None:
        """Return how a face is not where it should be; raises I2IError without a detector."""
        from i2i_face_aging.faces import misplaced

        return misplaced(pixels)

    def __len__(self) -> int:
        return len(self._faces)

    def sample(self, seed: int, epoch: int, index: int) -> Sample:
        """Return the face that the shuffled passes, of its group or of all, have at this place."""
        if not self.options.balance:
            order = self._orders.order(len(self), seed, "faces", epoch)
            return self._sample(order[index])
        turn, place = divmod(epoch * len(self) + index, len(self._groups))
        number = self._orders.order(len(self._groups), seed, "groups", turn)[place]
        group = self._groups[number]
        passes, slot = divmod(turn, len(group))
        return self._sample(
            group[self._orders.order(len(group), seed, f"group {number}", passes)[slot]]
        )

    def _sample(self, number: int) -> Sample:
        path, age = self._faces[number]
        return Sample({"face": Part(path)}, {"age": age})

    @classmethod
    def _some(cls, root: Path, found: Faces, split: Split) -> tuple[Aged, ...]:
        """Return the faces of a split; raises DataError where there is none."""
        faces = found.splits().get(split, ())
        if not faces:
            others = f", {len(found.left_out)} left out" if found.left_out else ""
            raise DataError(
                f"there is no {split} picture of a known age{others}",
                where=str(root),
                expected=cls.expected,
                remedy="correct the names, or choose another data.layout; 'i2i data check' lists "
                "what is left out",
            )
        return faces


def split_by_name(
    root: Path, faces: Sequence[Aged], names: Sequence[str], num_test: int
) -> Mapping[Split, tuple[Aged, ...]]:
    """Keep the faces of ``num_test`` names for tests: those with the smallest sha256, as UTF-8.

    ``names`` are those of ``faces``; who share one stay together. Raises DataError where fewer
    would be left for training.
    """
    digests = {name: hashlib.sha256(name.encode(errors="surrogateescape")) for name in names}
    if len(digests) < 2 * num_test and digests:
        raise DataError(
            f"it has {len(digests)} faces of known age, too few to keep {num_test} for tests",
            where=str(root),
            expected=f"{2 * num_test} or more",
            remedy=f"add pictures, or set data.options.num_test to at most {len(digests) // 2}",
        )
    kept = {*sorted(digests, key=lambda name: digests[name].hexdigest())[:num_test]}
    named = list(zip(names, faces, strict=True))
    return {
        "train": tuple(face for name, face in named if name not in kept),
        "test": tuple(face for name, face in named if name in kept),
    }


def no_pictures(root: Path) -> dict[str, str]:
    """Return the files below ``root`` that no layout takes for pictures, each with why."""
    found = []
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name).relative_to(root).as_posix()
            for name in files
            if not name.startswith(".") and not has_picture_suffix(Path(name))
        ]
    return dict.fromkeys(sorted(found), "its name does not end like a picture's that i2i reads")
