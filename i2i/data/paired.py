"""The layouts of pictures that belong together: in one file, or in files of one name."""

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from i2i.data.folders import RoleFolders, list_folder, unknown_role
from i2i.data.layouts import Layout, Orders, Pairing, Part, Sample, Split
from i2i.errors import DataError, RecipeError
from i2i.types import Inputs

_NUM_NAMED = 3  # files of a role that an error names


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
        _check_inputs(inputs, "side_by_side")
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
            raise _refusal(root, pairing, split)
        self._pairs = pairing.pairs
        self._orders = Orders()

    @classmethod
    def check(cls, options: Any, inputs: Inputs) -> None:
        """Refuse families that are not for pairs, and roles that they lack."""
        _check_inputs(inputs, "paired")
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
            named[role] = _by_name(folder, cls.list_pictures(root, options, inputs, role, split))
        complete = set.intersection(*map(set, named.values()))
        alone = {
            role: tuple(part for name in names if name not in complete for part in names[name])
            for role, names in named.items()
        }
        doubled = {
            role: tuple(tuple(parts) for parts in names.values() if len(parts) > 1)
            for role, names in named.items()
        }
        return Pairing(
            tuple(
                {role: names[name][0] for role, names in named.items()}
                for name in named[inputs.images[0]]
                if name in complete
            ),
            alone,
            doubled,
            any(doubled.values()) or (options.unmatched == "refuse" and any(alone.values())),
        )

    def __len__(self) -> int:
        return len(self._pairs)

    def sample(self, seed: int, epoch: int, index: int) -> Sample:
        """Return the pair that the epoch's order has at this place."""
        order = self._orders.order(len(self), seed, "pairs", epoch)
        return Sample(self._pairs[order[index]])


def _by_place(roles: Mapping[str, tuple[Part, ...]]) -> tuple[Mapping[str, Part], ...]:
    rows = zip(*roles.values(), strict=True)
    return tuple(dict(zip(roles, row, strict=True)) for row in rows)


def _by_name(folder: Path, parts: tuple[Part, ...]) -> dict[str, list[Part]]:
    named: dict[str, list[Part]] = {}
    for part in parts:
        text = part.path.relative_to(folder).with_suffix("").as_posix()
        named.setdefault(unicodedata.normalize("NFC", text), []).append(part)
    return named


def _refusal(root: Path, pairing: Pairing, split: Split) -> DataError:
    """Return the error for pictures that make no pairs, or not without a doubt."""
    for groups in pairing.doubled.values():
        for group in groups:
            first, second = group[:2]
            return DataError(
                f"two pictures have one name, {first.path.name} and {second.path.name}",
                where=str(first.path.parent),
                expected="names that differ by more than the extension, as pairs are found by them",
                remedy="remove or rename one of them; 'i2i data check' lists every such name",
            )
    alone = {role: parts for role, parts in pairing.alone.items() if parts}
    count = sum(map(len, alone.values()))
    named = "; ".join(f"of role {role!r} {_some(parts)}" for role, parts in alone.items())
    way = 'set data.options.unmatched = "skip"' if pairing.pairs else "give them equal names"
    return DataError(
        f"{count} {split} {'picture has' if count == 1 else 'pictures have'} no partner ({named})",
        where=str(root),
        expected="for each picture one of the same name for every role",
        remedy=f"run 'i2i data check' to list them all, then add what is missing or {way}",
    )


def _some(parts: tuple[Part, ...]) -> str:
    names = [part.path.name for part in parts[:_NUM_NAMED]]
    if len(parts) > _NUM_NAMED:
        names.append(f"{len(parts) - _NUM_NAMED} more")
    return ", ".join(names)


def _check_inputs(inputs: Inputs, layout: str) -> None:
    if not inputs.paired:
        # As samples the pairs would show the family what it is to find out by itself.
        raise RecipeError(
            f"the family trains on pictures that do not belong together, and layout {layout!r} "
            "brings pairs",
            where="data.layout",
            expected="'unpaired', with a folder for each role",
            remedy="choose it, or a family that trains on pairs",
        )
    if inputs.labels:
        raise RecipeError(
            f"the family trains on labels ({', '.join(inputs.labels)}), which layout {layout!r} "
            "does not bring",
            where="data.layout",
            expected="a layout that brings them",
            remedy="run 'i2i plugins' to see the layouts",
        )
