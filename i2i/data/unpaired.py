"""The layout of pictures that have nothing to do with each other."""

from pathlib import Path
from typing import Any

from i2i.data.folders import RoleFolders, list_folder
from i2i.data.layouts import Layout, Orders, Part, Sample, Split
from i2i.errors import RecipeError
from i2i.types import Inputs


class Unpaired(Layout):
    """A folder for each role, with pictures that have nothing to do with each other.

    An epoch is the larger domain. Each role runs through its pictures in an order shuffled anew
    for every pass; passes are counted over epochs, so each picture is used evenly.
    """

    Options = RoleFolders

    def __init__(self, root: Path, options: Any, inputs: Inputs, split: Split) -> None:
        super().__init__(root, options, inputs, split)
        self._pictures = {
            role: self.list_pictures(root, options, inputs, role, split) for role in inputs.images
        }
        self._orders = Orders()

    @classmethod
    def check(cls, options: Any, inputs: Inputs) -> None:
        """Refuse families that need more than single pictures, and roles that they lack."""
        _check_inputs(inputs)
        options.check_roles(inputs)

    @classmethod
    def list_pictures(
        cls, root: Path, options: Any, inputs: Inputs, role: str, split: Split
    ) -> tuple[Part, ...]:
        """Return the pictures in the role's folder, at any depth, ordered by their path in it."""
        what = f"the {split} pictures of role {role!r}"
        return list_folder(root, options.folder(root, role, split), what)

    def __len__(self) -> int:
        return max(len(pictures) for pictures in self._pictures.values())

    def sample(self, seed: int, epoch: int, index: int) -> Sample:
        """Return the pictures that each role's shuffled passes have at this place."""
        place = epoch * len(self) + index
        images = {}
        for role, pictures in self._pictures.items():
            passes, slot = divmod(place, len(pictures))
            images[role] = pictures[self._orders.order(len(pictures), seed, role, passes)[slot]]
        return Sample(images)


def _check_inputs(inputs: Inputs) -> None:
    if inputs.paired:
        raise RecipeError(
            "the family trains on pairs of pictures, which layout 'unpaired' does not bring",
            where="data.layout",
            expected="'side_by_side' for pairs in one file, 'paired' for a folder for each role",
            remedy="choose one of the two",
        )
    if inputs.labels:
        raise RecipeError(
            f"the family trains on labels ({', '.join(inputs.labels)}), which layout 'unpaired' "
            "does not bring",
            where="data.layout",
            expected="a layout that brings them",
            remedy="run 'i2i plugins' to see the layouts",
        )
