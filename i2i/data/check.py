"""Look at every picture of a data folder before anyone trains on it."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np

from i2i.data.layouts import Layout, Pairing, Part, Split
from i2i.errors import DataError, I2IError, ImageError
from i2i.imaging import Pixels, decode, pillow_unbound, read_bytes, rgb8
from i2i.types import Inputs

_SPLITS: Final[tuple[Split, ...]] = ("train", "test")

Size = tuple[int, int]
"""Width and height in pixels, upright."""


@dataclass(frozen=True)
class Look:
    """What one picture turned out to be; ``fault`` says why it cannot be read.

    ``remark`` is the layout's, of what seems wrong with it.
    """

    path: Path  # of its file
    size: Size = (0, 0)
    mode: str = ""  # as Pillow names them: L, RGB, with A for alpha and ;16 for 16 bits
    is_grey: bool = False  # all channels equal, whatever the mode
    digest: str = ""  # of the file's bytes
    fault: str | None = None
    remark: str | None = None


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
    def remarked(self) -> list[Look]:
        """The pictures with which something seems wrong."""
        return [look for look in self.looks if look.remark is not None]

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
class PairReport:
    """Which pictures of a split belong together, and the pairs that differ in size.

    ``misfits`` are pairs of a layout that cuts them, and why it cannot; sizes may differ there.
    """

    split: Split
    pairing: Pairing
    unequal: tuple[tuple[Look, ...], ...] = ()
    misfits: tuple[tuple[tuple[Look, ...], str], ...] = ()


@dataclass(frozen=True)
class DataReport:
    """All folders of a layout, their pairs, and the pictures that are in both train and test.

    ``resized`` says whether training makes the sizes within a pair equal, ``left_out`` what no
    split has and why, ``groups`` how many pictures of a split each group has, and ``unseen`` why
    the layout could not look for remarks.
    """

    folders: tuple[FolderReport, ...]
    shared: tuple[tuple[Path, Path], ...] = ()
    pairs: tuple[PairReport, ...] = ()
    resized: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[Split, Mapping[str, int]] = field(default_factory=dict)
    unseen: I2IError | None = None

    @property
    def is_fit(self) -> bool:
        """Whether training can begin.

        Every train folder is there, every picture decodes, and the train pictures make pairs where
        the layout brings pairs.
        """
        return not any(
            folder.unreadable or (folder.missing and folder.split == "train")
            for folder in self.folders
        ) and not any(
            each.pairing.refused
            or not each.pairing.pairs
            or each.misfits
            or (each.unequal and not self.resized)
            for each in self.pairs
            if each.split == "train"
        )


def check_folders(
    layout: type[Layout],
    root: Path,
    options: Any,
    inputs: Inputs,
    *,
    resized: bool = False,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> DataReport:
    """Decode every picture that ``layout`` finds below ``root``, in threads.

    ``on_picture`` hears of the files done and of all. Faults are in the report, not raised.
    """
    found: dict[tuple[str, Split], tuple[Part, ...] | DataError] = {}
    for split in _SPLITS:
        for role in inputs.images:
            try:
                found[role, split] = layout.list_pictures(root, options, inputs, role, split)
            except DataError as error:
                found[role, split] = error
    roles = {
        part: role
        for (role, _), parts in found.items()
        if not isinstance(parts, DataError)
        for part in parts
    }
    remarks = _Remarks(layout, options, roles)
    looks = _look_at(roles, remarks, on_picture)
    folders = tuple(
        FolderReport(role, split, missing=parts)
        if isinstance(parts, DataError)
        else FolderReport(role, split, tuple(looks[part] for part in parts))
        for (role, split), parts in found.items()
    )
    pairs = []
    for split in _SPLITS:
        if not any(isinstance(found[role, split], DataError) for role in inputs.images):
            pairing = layout.match(root, options, inputs, split)
            if pairing is not None and layout.cuts:
                misfits = _misfits(layout, options, split, pairing, looks)
                pairs.append(PairReport(split, pairing, misfits=misfits))
            elif pairing is not None:
                pairs.append(PairReport(split, pairing, _unequal(pairing, looks)))
    left_out, groups = _told(layout, root, options, inputs)
    shared = _shared(folders)
    return DataReport(folders, shared, tuple(pairs), resized, left_out, groups, remarks.unseen)


class _Remarks:
    """The layout's remarks on pictures, one at a time, until it says that it cannot look."""

    def __init__(self, layout: type[Layout], options: Any, roles: Mapping[Part, str]) -> None:
        self._layout, self._options, self._roles = layout, options, roles
        self._lock = Lock()
        self.unseen: I2IError | None = None

    def __call__(self, part: Part, pixels: Pixels) -> str | None:
        seen = np.asarray(pixels, np.uint8)
        with self._lock:
            if self.unseen is None:
                try:
                    return self._layout.remark(self._options, self._roles[part], seen)
                except I2IError as error:
                    self.unseen = error
            return None


def _told(
    layout: type[Layout], root: Path, options: Any, inputs: Inputs
) -> tuple[Mapping[str, str], Mapping[Split, Mapping[str, int]]]:
    """Return what the layout leaves out, and the groups of each split that there is."""
    left_out: Mapping[str, str] = {}
    groups: dict[Split, Mapping[str, int]] = {}
    with suppress(DataError):
        left_out = layout.left_out(root, options, inputs)
    for split in _SPLITS:
        with suppress(DataError):
            groups[split] = layout.groups(root, options, inputs, split)
    return left_out, groups


def look(path: Path, parts: Sequence[Part], remarks: _Remarks) -> dict[Part, Look]:
    """Decode one file to its end, as training would, and look at the pictures in it."""
    try:
        content = read_bytes(path)
        picture = decode(content, str(path))
    except ImageError as error:
        return dict.fromkeys(parts, Look(path, fault=error.wrong))
    mode = ("L" if picture.is_grey else "RGB") + ("A" if picture.alpha is not None else "")
    if picture.pixels.dtype == np.uint16:
        mode += ";16"
    whole = Look(path, mode=mode, digest=hashlib.sha256(content).hexdigest())
    pixels = rgb8(picture)
    return {part: _look_at_part(part, pixels, whole, remarks) for part in parts}


def _look_at_part(part: Part, pixels: Pixels, whole: Look, remarks: _Remarks) -> Look:
    try:
        pixels = part.cut(pixels)
    except DataError as error:
        return Look(part.path, fault=error.wrong)
    is_grey = bool((pixels == pixels[..., :1]).all())
    size, remark = (pixels.shape[1], pixels.shape[0]), remarks(part, pixels)
    return replace(whole, size=size, is_grey=is_grey, remark=remark)


def _look_at(
    parts: Iterable[Part], remarks: _Remarks, on_picture: Callable[[int, int], None]
) -> dict[Part, Look]:
    todo: dict[Path, list[Part]] = {}
    for part in parts:
        todo.setdefault(part.path, []).append(part)
    looks: dict[Part, Look] = {}
    num_threads = min(8, (os.cpu_count() or 1) + 1)
    with pillow_unbound(), ThreadPoolExecutor(num_threads) as threads:
        for done, seen in enumerate(
            threads.map(look, todo, todo.values(), repeat(remarks)), start=1
        ):
            looks |= seen
            on_picture(done, len(todo))
    return looks


def _unequal(pairing: Pairing, looks: Mapping[Part, Look]) -> tuple[tuple[Look, ...], ...]:
    """Return the pairs whose pictures can be read and differ in size."""
    pairs = [tuple(looks[part] for part in pair.values()) for pair in pairing.pairs]
    return tuple(
        pair
        for pair in pairs
        if all(each.fault is None for each in pair) and len({each.size for each in pair}) > 1
    )


def _misfits(
    layout: type[Layout],
    options: Any,
    split: Split,
    pairing: Pairing,
    looks: Mapping[Part, Look],
) -> tuple[tuple[tuple[Look, ...], str], ...]:
    """Return the pairs whose pictures can be read and that the layout cannot use, and why."""
    found = []
    for pair in pairing.pairs:
        seen = {role: looks[part] for role, part in pair.items()}
        if all(each.fault is None for each in seen.values()):
            sizes = {role: each.size for role, each in seen.items()}
            wrong = layout.misfit(options, split, sizes)
            if wrong is not None:
                found.append((tuple(seen.values()), wrong))
    return tuple(found)


def _shared(folders: Iterable[FolderReport]) -> tuple[tuple[Path, Path], ...]:
    """Return (train, test) pairs of files with the same bytes.

    A file that the layout itself takes for both is none.
    """
    trained: dict[str, Path] = {}
    for folder in folders:
        if folder.split == "train":
            trained |= {seen.digest: seen.path for seen in folder.readable}
    pairs = dict.fromkeys(
        (trained[seen.digest], seen.path)
        for folder in folders
        if folder.split == "test"
        for seen in folder.readable
        if trained.get(seen.digest, seen.path) != seen.path
    )
    return tuple(pairs)
