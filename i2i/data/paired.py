"""The layouts of pictures that belong together: in one file, or in files of one name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from i2i.data.folders import RoleFolders, list_folder, unknown_role
from i2i.data.layouts import Layout, Orders, Pairing, Part, Sample, Split
from i2i.data.pairing import by_name, check_pairs, pair_names, refusal
from i2i.errors import RecipeError
from i2i.types import Inputs


class SideBySideOptions(BaseModel):
    """Where the files lie, and which role is where in them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: str = Field("train", description="The folder for training.")
    test: str = Field("test", description="The folder for previews and tests.")
    order: tuple[str, ...] = Field(
        (), description="The roles from left to right; as the family has them unless told."
    )


class SideBySide(Layout):
    """Files that hold the pictures of all roles side by side, each of the same width.

    An epoch is every file once, in an order shuffled anew.
    """

    Options = SideBySideOptions

    def __init__(self, root: Path, options: Any, inputs: Inputs, split: Split) -> None:
        super().__init__(root, options, inputs, split)
        roles = {
            role: self.list_pictures(root, options, inputs, role, split) for role in inputs.images
        }
        self._pairs = _by_place(roles)
        self._orders = Orders()

    @classmethod
    def check(cls, options: Any, inputs: Inputs) -> None:
        """Refuse families that are not for pairs, and an order that is not of their roles."""
        check_pairs(inputs, "side_by_side")
        for role in options.order:
            if role not in inputs.images:
                raise unknown_role(role, inputs, "data.options.order")
        if options.order and sorted(options.order) != sorted(inputs.images):
            raise RecipeError(
                f"{', '.join(options.order)} is not each role once",
                where="data.options.order",
                expected=f"{', '.join(inputs.images)} in the order they have from left to right",
                remedy="name each role once",
            )

    @classmethod
    def list_pictures(
        cls, root: Path, options: Any, inputs: Inputs, role: str, split: Split
    ) -> tuple[Part, ...]:
        """Return the role's column of each file, at any depth, ordered by the file's path."""
        folder = root / (options.train if split == "train" else options.test)
        order = options.order or inputs.images
        return tuple(
            Part(whole.path, order.index(role), len(order))
            for whole in list_folder(root, folder, f"the {split} pictures")
        )

    def __len__(self) -> int:
        return len(self._pairs)

    def sample(self, seed: int, epoch: int, index: int) -> Sample:
        """Return the pair that the epoch's order has at this place."""
        order = self._orders.order(len(self), seed, "pairs", epoch)
        return Sample(self._pairs[order[index]])


class PairedOptions(RoleFolders):
    """Where the pictures of each role lie, and what becomes of those without a partner."""

    unmatched: Literal["refuse", "skip"] = Field(
        "refuse", description="What to do about pictures without a partner."
    )


class Paired(Layout):
    """A folder for each role, with pictures that belong together where their names are equal.

    A name is the path in the role's folder without the extension, as Unicode normal form C; upper
    and lower case differ. An epoch is every pair once, in an order shuffled anew.
    """

    Options = PairedOptions

    def __init__(self, root: Path, options: Any, inputs: Inputs, split: Split) -> None:
        super().__init__(root, options, inputs, split)
        pairing = self.match(root, options, inputs, split)
        if pairing.refused or not pairing.pairs:
            names = "give them equal names"
            way = 'set data.options.unmatched = "skip"' if pairing.pairs else names
            raise refusal(root, pairing, split, way)
        self._pairs = pairing.pairs
        self._orders = Orders()

    @classmethod
    def check(cls, options: Any, inputs: Inputs) -> None:
        """Refuse families that are not for pairs, and roles that they lack."""
        check_pairs(inputs, "paired")
        options.check_roles(inputs)

    @classmethod
    def list_pictures(
        cls, root: Path, options: Any, inputs: Inputs, role: str, split: Split
    ) -> tuple[Part, ...]:
        """Return all pictures in the role's folder, at any depth, ordered by their path in it."""
        what = f"the {split} pictures of role {role!r}"
        return list_folder(root, options.folder(root, role, split), what)

    @classmethod
    def match(cls, root: Path, options: Any, inputs: Inputs, split: Split) -> Pairing:
        """Return the pictures whose names are equal, and those without a partner."""
        named = {}
        for role in inputs.images:
            folder = options.folder(root, role, split)
            named[role] = by_name(folder, cls.list_pictures(root, options, inputs, role, split))
        return pair_names(named, skip=options.unmatched == "skip")

    def __len__(self) -> int:
        return len(self._pairs)

    def sample(self, seed: int, epoch: int, index: int) -> Sample:
        """Return the pair that the epoch's order has at this place."""
        order = self._orders.order(len(self), seed, "pairs", epoch)
        return Sample(self._pairs[order[index]])


def _by_place(roles: Mapping[str, tuple[Part, ...]]) -> tuple[Mapping[str, Part], ...]:
    rows = zip(*roles.values(), strict=True)
    return tuple(dict(zip(roles, row, strict=True)) for row in rows)
