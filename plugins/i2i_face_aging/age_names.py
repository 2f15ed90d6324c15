"""What the names of files and folders, and the rows of a table, say of an age."""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i2i.errors import DataError, nearest
from i2i.imaging import has_picture_suffix

OLDEST = 120  # years
OPEN_YEARS = 10  # an open range such as 60+ counts as its beginning and this

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_FOLDER = re.compile(
    r"(?:(?:ages?|aged)[ _-]*)?"
    r"(?P<first>[0-9]{1,3})"
    r"(?:[ ]*(?:[-–_]|to)[ ]*(?P<last>[0-9]{1,3})"  # noqa: RUF001 - an en dash joins ranges
    r"|[ _-]*(?P<open>\+|plus|(?:and|or)[ _-](?:over|older|above)))?"
    r"(?:[ _-]*(?:years?|yrs?|y)(?:[ _-]*old)?)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Face:
    """What a file name of UTKFace says of a face; None for what it does not.

    ``age`` is in years. ``gender`` is 0 for male and 1 for female; ``race`` 0 for White, 1 for
    Black, 2 for Asian, 3 for Indian and 4 for others: the codes of the data set (Zhang et al.,
    arXiv:1702.08423), which its authors gave people by their looks.
    """

    age: int | None = None
    gender: int | None = None
    race: int | None = None


def describe(name: str) -> Face:
    """Return what a file name "[age]_[gender]_[race]_[date].jpg" says, of any of these parts.

    A name that does not begin with an age from 0 to 120 says nothing. A missing gender or race
    is not made up for: the known files with one code less lack the race.
    """
    first, *codes = name.split("_")[:-1] or [""]  # what follows the last is no code
    if not re.fullmatch("[0-9]+", first) or int(first) > OLDEST:
        return Face()
    gender, race = (*codes, "", "")[:2]
    return Face(
        int(first),
        int(gender) if re.fullmatch("[01]", gender) else None,
        int(race) if re.fullmatch("[0-4]", race) else None,
    )


def folder_age(name: str) -> float | None:
    """Return the age in years that a folder's name is, or None where it is none.

    "23", "age_30" and "20-29 years" are some; that of a range is its middle, 24.5, and "60+"
    counts as 70.
    """
    match = _FOLDER.fullmatch(name.strip())
    if match is None:
        return None
    first = last = int(match["first"])
    if match["last"]:
        last = int(match["last"])
    elif match["open"]:
        last = min(first + 2 * OPEN_YEARS, OLDEST)
    return (first + last) / 2 if first <= last <= OLDEST else None


@dataclass(frozen=True)
class Row:
    """One row of a table: ``path`` of a picture below the root, or why there is none."""

    line: int
    path: Path = Path()
    age: float = 0.0
    split: str = ""  # in lower case; empty where the table does not split
    fault: str | None = None


def read_table(
    root: Path, table: Path, path: str, age: str, split: str | None
) -> tuple[list[Row], bool]:
    """Return the rows of a CSV by the names of its columns, and whether it splits them.

    Columns are parted by commas, semicolons or tabs. Paths are relative to the table's folder or
    to ``root``. With ``split`` None the column "split" counts where there is one. Raises
    DataError for a file that is no CSV, and for a column that is not there or there twice.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=head.count))
            columns = [name.strip() for name in next(reader, [])]
            if split is None and "split" in columns:
                split = "split"
            names = [path, age] if split is None else [path, age, split]
            places = [_place(columns, name, table) for name in names]
            rows = list(_rows(root, table.parent, reader, places))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"it cannot be read ({' '.join(str(error).split())})",
            where=str(table),
            expected="a table of comma-separated values, as UTF-8",
            remedy="save it as such",
        ) from error
    return rows, split is not None


def _place(columns: Sequence[str], name: str, table: Path) -> int:
    if columns.count(name) == 1:
        return columns.index(name)
    lowered = {column.lower(): column for column in columns}
    near = nearest(name.lower(), lowered)
    if name in columns:
        remedy = "rename one of them"
    elif near is None:
        remedy = "name the column in [data.options]"
    else:
        remedy = f"did you mean {lowered[near]!r}?"
    raise DataError(
        f"{'two columns are' if name in columns else 'no column is'} named {name!r}",
        where=f"{table}, line 1",
        expected=f"it once among the columns, which are {', '.join(columns) or 'none'}",
        remedy=remedy,
    )


def _rows(root: Path, folder: Path, reader: Any, places: Sequence[int]) -> Iterator[Row]:
    seen: dict[Path, int] = {}
    for cells in reader:
        line = reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        name, age, *split = (cells[at].strip() if at < len(cells) else "" for at in places)
        try:
            path, years = _below(root, folder, name), _years(age)
            if path in seen:
                raise ValueError(f"{name} is in line {seen[path]} already")
        except ValueError as error:
            yield Row(line, fault=str(error))
        else:
            seen[path] = line
            yield Row(line, path, years, "".join(split).lower())


def _below(root: Path, folder: Path, name: str) -> Path:
    """Return the picture that a table in ``folder`` names; raises ValueError with what is wrong."""
    if not name:
        raise ValueError("it names no picture")
    # Tables that were made on Windows part folders by what is a letter elsewhere.
    for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
        for start in dict.fromkeys((folder, root)):
            if os.path.isfile(start / spelled):  # noqa: PTH113 - False for names too long, too
                break
        else:
            continue
        relative = Path(os.path.relpath(start / spelled, root))
        if relative.parts[0] == "..":
            raise ValueError(f"{name} is outside the data folder")
        if not has_picture_suffix(relative):
            raise ValueError(f"{name} has no extension of a picture that i2i reads")
        return root / relative
    raise ValueError(f"{name} is not there")


def _years(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"the age {text!r} is no number from 0 up" if text else "it has no age")
    if float(text) > OLDEST:
        raise ValueError(f"the age {text} is above {OLDEST}")
    return float(text)
