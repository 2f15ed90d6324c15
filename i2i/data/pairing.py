"""What layouts of pictures that belong together share: whom they serve, and pairs by name."""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from i2i.data.layouts import Pairing, Part, Split
from i2i.errors import DataError, RecipeError
from i2i.types import Inputs

_NUM_NAMED = 3  # files of a role that an error names

Named = Mapping[str, list[Part]]
"""The pictures of a role by name; more than one where files differ by the extension alone."""


def check_pairs(inputs: Inputs, layout: str) -> None:
    """Raise RecipeError for a family that does not train on pairs, or trains on labels too."""
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


def by_name(folder: Path, parts: Iterable[Part]) -> dict[str, list[Part]]:
    """Return parts by their path in ``folder`` without the extension, as Unicode normal form C."""
    named: dict[str, list[Part]] = {}
    for part in parts:
        text = part.path.relative_to(folder).with_suffix("").as_posix()
        named.setdefault(unicodedata.normalize("NFC", text), []).append(part)
    return named


def pair_names(named: Mapping[str, Named], *, skip: bool) -> Pairing:
    """Return the pictures, by role, whose names are equal, in the order of the first role.

    ``skip`` says that training leaves out those without a partner, and does not refuse them.
    """
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
            for name in next(iter(named.values()))
            if name in complete
        ),
        alone,
        doubled,
        any(doubled.values()) or (not skip and any(alone.values())),
    )


def refusal(root: Path, pairing: Pairing, split: Split, way: str) -> DataError:
    """Return the error for pictures that make no pairs, or not without a doubt.

    ``way`` is what else can be done than adding what is missing.
    """
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
