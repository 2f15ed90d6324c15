"""The layouts of faces whose ages are known: by file name, by folder, or by a table."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from i2i.data.folders import list_folder
from i2i.data.layouts import Split
from i2i.errors import DataError, RecipeError, suggest
from i2i_face_aging.age_names import describe, folder_age, read_table
from i2i_face_aging.aged_faces import (
    NUM_TEST,
    Aged,
    AgedFaces,
    FaceOptions,
    Faces,
    no_pictures,
    split_by_name,
)

_SPLITS: tuple[Split, ...] = ("train", "test")
_KEPT = "kept for previews and tests, those whose names have the smallest sha256"


class UTKFaceOptions(FaceOptions):
    """How many pictures are kept for tests, and how the others are drawn."""

    num_test: int = Field(NUM_TEST, ge=0, description=f"How many pictures are {_KEPT}.")


class AgeFoldersOptions(FaceOptions):
    """How many pictures are kept for tests, and how the others are drawn."""

    num_test: int | None = Field(
        None,
        ge=0,
        description=f"How many pictures are {_KEPT}, by path; {NUM_TEST} unless told. Only "
        "without folders train and test.",
    )


class AgeTableOptions(FaceOptions):
    """Where the table is, what its columns are called, and how faces are drawn."""

    table: str | None = Field(
        None, description="The CSV, in the data folder; the only .csv there unless told."
    )
    path: str = Field("path", description="The column of the pictures' paths.")
    age: str = Field("age", description="The column of the ages in years.")
    split: str | None = Field(
        None,
        description="The column that says train or test; 'split', where there is one, unless told.",
    )
    num_test: int | None = Field(
        None,
        ge=0,
        description=f"How many pictures are {_KEPT}, by path; {NUM_TEST} unless told. Only "
        "without a column that splits.",
    )

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if self.split is not None and self.num_test is not None:
            raise ValueError("num_test has no effect beside split, which names the test pictures")
        columns = [name for name in (self.path, self.age, self.split) if name is not None]
        if len({*columns}) < len(columns):
            raise ValueError("path, age and split must be different columns")
        return self


class UTKFace(AgedFaces):
    """Pictures, at any depth, whose names begin with the age as those of UTKFace do.

    Names are "[age]_[gender]_[race]_[date&time].jpg", of which only the age, from 0 to 120, must
    be there. Which are kept for tests does not depend on where the folder is.
    """

    Options = UTKFaceOptions
    expected = "names that begin with the age and '_', such as 23_0_1_20170104.jpg"

    @classmethod
    def find(cls, root: Path, options: Any) -> Faces:
        """Return the pictures whose names begin with an age, ordered by their path."""
        left_out = no_pictures(root)
        faces = []
        for part in list_folder(root, root, cls.expected):
            age = describe(part.path.name).age
            if age is None:
                relative = part.path.relative_to(root).as_posix()
                left_out[relative] = "its name does not begin with an age from 0 to 120 and '_'"
            else:
                faces.append((part.path, float(age)))
        names = [path.name for path, _ in faces]
        return Faces(partial(split_by_name, root, faces, names, options.num_test), left_out)


class AgeFolders(AgedFaces):
    """Folders named by an age or a range of ages, with pictures at any depth.

    A range counts as its middle, "60+" as 70. Folders of ages may lie in ``train`` and ``test``.
    """

    Options = AgeFoldersOptions
    expected = "folders named by ages, such as 23, 20-29 or 60+, or train and test with such"

    @classmethod
    def find(cls, root: Path, options: Any) -> Faces:
        """Return the pictures in folders that are named by ages, ordered by their path."""
        parted = [split for split in _SPLITS if (root / split).is_dir()]
        if parted and options.num_test is not None:
            raise _without_effect(f"the folder has {' and '.join(parted)}")
        left_out = no_pictures(root)
        odd: Counter[str] = Counter()
        found: dict[str, list[Aged]] = {split: [] for split in _SPLITS}
        for part in list_folder(root, root, cls.expected):
            names = part.path.relative_to(root).parts
            depth = 1 if parted else 0  # of the folder that says the age
            age = folder_age(names[depth]) if len(names) > depth + 1 else None
            if parted and names[0] not in parted:
                left_out["/".join(names)] = f"it is not in {' or '.join(parted)}"
            elif age is not None:
                found[names[0] if parted else "train"].append((part.path, age))
            elif len(names) > depth + 1:
                odd["/".join(names[: depth + 1])] += 1
            else:
                left_out["/".join(names)] = "it is in no folder that is named by an age"
        for name, count in odd.items():
            pictures = "1 picture" if count == 1 else f"{count} pictures"
            left_out[name] = f"the folder's name is no age from 0 to 120; it has {pictures}"
        if parted:
            return Faces(lambda: {split: tuple(found[split]) for split in _SPLITS}, left_out)
        return Faces(partial(_split_by_path, root, found["train"], options), left_out)


class AgeTable(AgedFaces):
    """Pictures that a CSV names, each with its age.

    Paths are relative to the CSV's folder or to the data folder, and a picture counts once.
    """

    Options = AgeTableOptions
    expected = "a CSV with a row for each picture: its path, its age and perhaps train or test"

    @classmethod
    def find(cls, root: Path, options: Any) -> Faces:
        """Return the pictures of the table in the order of its rows."""
        table = _table(root, options.table)
        rows, parted = read_table(root, table, options.path, options.age, options.split)
        if parted and options.num_test is not None:
            raise _without_effect(f"{table} has a column that splits")
        left_out = {}
        found: dict[str, list[Aged]] = {split: [] for split in _SPLITS}
        for row in rows:
            fault, split = row.fault, row.split if parted else "train"
            if fault is None and split not in _SPLITS:
                fault = f"the split {split!r} is neither train nor test"
            if fault is None:
                found[split].append((row.path, row.age))
            else:
                left_out[f"{table.relative_to(root).as_posix()} line {row.line}"] = fault
        if parted:
            return Faces(lambda: {split: tuple(found[split]) for split in _SPLITS}, left_out)
        return Faces(partial(_split_by_path, root, found["train"], options), left_out)


def _split_by_path(root: Path, faces: Sequence[Aged], options: Any) -> Any:
    names = [path.relative_to(root).as_posix() for path, _ in faces]
    num_test = NUM_TEST if options.num_test is None else options.num_test
    return split_by_name(root, faces, names, num_test)


def _table(root: Path, name: str | None) -> Path:
    """Return the table of this name, or the only one; raises DataError where there is none."""
    if not root.is_dir():
        list_folder(root, root, "a table of pictures and ages")  # says what is missing
    if name is not None and (root / name).is_file():
        return root / name
    tables = sorted(path.name for path in root.iterdir() if path.suffix.lower() == ".csv")
    if name is None and len(tables) == 1:
        return root / tables[0]
    others = f"there are {', '.join(tables)}" if tables else "there is none in the folder"
    raise DataError(
        f"there is no table {name!r}" if name else f"no table is named, and {others}",
        where=str(root),
        expected="one CSV with columns for the path and the age of each picture",
        remedy=suggest(name or "", tables, "name it in data.options.table"),
    )


def _without_effect(why: str) -> RecipeError:
    return RecipeError(
        f"num_test has no effect, as {why}",
        where="data.options.num_test",
        expected="none where the data says which pictures are for tests",
        remedy="remove it",
    )
