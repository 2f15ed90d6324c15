"""Look at every picture of a data folder before anyone trains on it."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from i2i.data.layouts import Layout, Split
from i2i.errors import DataError, ImageError
from i2i.imaging import decode, pillow_unbound, read_bytes
from i2i.types import Inputs

_SPLITS: Final[tuple[Split, ...]] = ("train", "test")

Size = tuple[int, int]
"""Width and height in pixels, upright."""


@dataclass(frozen=True)
class Look:
    """What one file turned out to be; ``fault`` says why it cannot be read."""

    path: Path
    size: Size = (0, 0)
    mode: str = ""  # as Pillow names them: L, RGB, with A for alpha and ;16 for 16 bits
    is_grey: bool = False  # all channels equal, whatever the mode
    digest: str = ""  # of the file's bytes
    fault: str | None = None


@dataclass(frozen=True)
class FolderReport:
    """What the pictures of one role in one split are, or why there are none."""

    role: str
    split: Split
    looks: tuple[Look, ...] = ()
    missing: DataError | None = None

    @property
    def readable(self) -> list[Look]:
        """The pictures that decode to their end."""
        return [look for look in self.looks if look.fault is None]

    @property
    def unreadable(self) -> list[Look]:
        """The pictures that do not."""
        return [look for look in self.looks if look.fault is not None]

    @property
    def modes(self) -> Counter[str]:
        """Files by their colours and depth."""
        return Counter(look.mode for look in self.readable)

    @property
    def num_grey(self) -> int:
        """Pictures without colour, in greyscale files and in colour files alike."""
        return sum(look.is_grey for look in self.readable)

    @property
    def sizes(self) -> Counter[Size]:
        """Files by width and height."""
        return Counter(look.size for look in self.readable)

    def size_range(self) -> tuple[Size, Size, Size]:
        """Return the smallest, the median and the largest size by area; there must be one."""
        sizes = sorted((look.size for look in self.readable), key=lambda size: size[0] * size[1])
        return sizes[0], sizes[(len(sizes) - 1) // 2], sizes[-1]


@dataclass(frozen=True)
class DataReport:
    """All folders of a layout, and the pictures that are in both train and test."""

    folders: tuple[FolderReport, ...]
    shared: tuple[tuple[Path, Path], ...] = ()

    @property
    def is_fit(self) -> bool:
        """Whether training can begin: every train folder is there, every picture decodes."""
        return not any(
            folder.unreadable or (folder.missing and folder.split == "train")
            for folder in self.folders
        )


def check_folders(
    layout: type[Layout],
    root: Path,
    options: Any,
    inputs: Inputs,
    *,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> DataReport:
    """Decode every picture that ``layout`` finds below ``root``, in threads.

    ``on_picture`` hears of the pictures done and of all. Faults are in the report, not raised.
    """
    found: dict[tuple[str, Split], tuple[Path, ...] | DataError] = {}
    for split in _SPLITS:
        for role in inputs.images:
            try:
                found[role, split] = layout.list_pictures(root, options, role, split)
            except DataError as error:
                found[role, split] = error
    listed = [paths for paths in found.values() if not isinstance(paths, DataError)]
    looks = _look_at(dict.fromkeys(path for paths in listed for path in paths), on_picture)
    folders = tuple(
        FolderReport(role, split, missing=paths)
        if isinstance(paths, DataError)
        else FolderReport(role, split, tuple(looks[path] for path in paths))
        for (role, split), paths in found.items()
    )
    return DataReport(folders, _shared(folders))


def look(path: Path) -> Look:
    """Decode one picture to its end, as training would."""
    try:
        content = read_bytes(path)
        picture = decode(content, str(path))
    except ImageError as error:
        return Look(path, fault=error.wrong)
    mode = ("L" if picture.is_grey else "RGB") + ("A" if picture.alpha is not None else "")
    if picture.pixels.dtype == np.uint16:
        mode += ";16"
    is_grey = bool((picture.pixels == picture.pixels[..., :1]).all())
    height, width = picture.size
    size = (width, height)
    return Look(path, size, mode, is_grey, hashlib.sha256(content).hexdigest())


def _look_at(paths: Iterable[Path], on_picture: Callable[[int, int], None]) -> dict[Path, Look]:
    todo = list(paths)
    looks = {}
    num_threads = min(8, (os.cpu_count() or 1) + 1)
    with pillow_unbound(), ThreadPoolExecutor(num_threads) as threads:
        for done, seen in enumerate(threads.map(look, todo), start=1):
            looks[seen.path] = seen
            on_picture(done, len(todo))
    return looks


def _shared(folders: Iterable[FolderReport]) -> tuple[tuple[Path, Path], ...]:
    """Return (train, test) pairs of files with the same bytes."""
    trained: dict[str, Path] = {}
    for folder in folders:
        if folder.split == "train":
            trained |= {seen.digest: seen.path for seen in folder.readable}
    pairs = dict.fromkeys(
        (trained[seen.digest], seen.path)
        for folder in folders
        if folder.split == "test"
        for seen in folder.readable
        if seen.digest in trained
    )
    return tuple(pairs)
