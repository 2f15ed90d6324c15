"""Pictures in folders: where those of a role lie, and in which order they are."""

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from i2i.data.layouts import Part, Split
from i2i.errors import DataError, RecipeError, nearest, unknown
from i2i.imaging import has_picture_suffix
from i2i.types import Inputs


class RoleFolders(BaseModel):
    """Where the pictures of each role lie; role "a" is in ``trainA`` and ``testA`` unless told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: Mapping[str, str] = Field({}, description="Role to folder name, for training.")
    test: Mapping[str, str] = Field({}, description="Role to folder name, for previews and tests.")

    def folder(self, root: Path, role: str, split: Split) -> Path:
        """Return the folder of a role."""
        default = f"{split}{role[:1].upper()}{role[1:]}"
        named = self.train if split == "train" else self.test
        return root / named.get(role, default)

    def check_roles(self, inputs: Inputs) -> None:
        """Raise RecipeError for a role that the family does not have."""
        for split, named in (("train", self.train), ("test", self.test)):
            for role in named:
                if role not in inputs.images:
                    raise unknown_role(role, inputs, f"data.options.{split}")


def unknown_role(role: str, inputs: Inputs, where: str) -> Exception:
    """Return the RecipeError for a role that the family does not have."""
    return unknown(
        "role",
        role,
        inputs.images,
        where=where,
        error=RecipeError,
        otherwise="name a role of the family",
    )


def list_folder(root: Path, folder: Path, what: str) -> tuple[Part, ...]:
    """Return the pictures in a folder below ``root``, at any depth, ordered by their path in it.

    Raises DataError where there is no such folder, or no picture in it; ``what`` says which
    pictures were looked for.
    """
    _check_folder(root, folder, what)
    pictures = find_pictures(folder)
    if not pictures:
        raise DataError(
            "there is no picture in it",
            where=str(folder),
            expected=f"{what}, at any depth",
            remedy="put pictures there such as JPEG or PNG files",
        )
    return tuple(map(Part, pictures))


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
        remedy=_other_layout(missing.name, names)
        or (
            "check the path, or name the folders in [data.options]"
            if near is None
            else f"did you mean {lowered[near]!r}?"
        ),
    )


def _other_layout(missing: str, names: list[str]) -> str:
    """Return what to do where the folders are those of another layout, or nothing."""
    if missing in ("trainA", "trainB") and "train" in names:
        return "for pairs side by side in 'train' say layout side_by_side"
    if missing == "train" and {"trainA", "trainB"} <= {*names}:
        return "for 'trainA' and 'trainB' say layout paired, or unpaired"
    return ""
