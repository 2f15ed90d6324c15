"""Find the pictures of a folder job and decide every output's name, before any work."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from i2i.engine import manifest
from i2i.errors import UsageError
from i2i.imaging import format_for_suffix, has_picture_suffix, printable, suffix_for_format


@dataclass(frozen=True, slots=True)
class Task:
    """One picture to translate, by one request, and where its translation goes.

    ``fallback`` is the PNG that is written where the format cannot hold the translation; None
    where ``--format`` asked for the format, or no name is free.
    """

    input: Path
    output: Path
    format: str  # one of imaging.FORMATS
    fallback: Path | None = None
    variant: str = ""  # of those that were asked for


@dataclass(frozen=True)
class Plan:
    """All pictures of a job, in a fixed order, and what of its folders is none.

    ``unreadable`` are folders that could not be looked into, each with the reason; ``left_out``
    those that hold the outputs of other jobs.
    """

    out: Path
    tasks: tuple[Task, ...]
    num_skipped: int
    unreadable: tuple[tuple[Path, str], ...] = ()
    left_out: tuple[Path, ...] = ()
    extras: tuple[Path, ...] = ()  # further files in ``out`` that the job writes
    variants: tuple[str, ...] = ("",)  # that each picture has a task of

    def name_of(self, path: Path) -> str:
        """Return an output's name in the manifest: relative to ``out``, with slashes."""
        return path.relative_to(self.out).as_posix()


@dataclass
class _Places:
    """Paths made comparable: through links of folders, and as the file system spells names."""

    folders: dict[Path, str] = field(default_factory=dict)

    def of(self, path: Path) -> str:
        if path.parent not in self.folders:
            self.folders[path.parent] = os.path.realpath(path.parent)
        return os.path.normcase(f"{self.folders[path.parent]}{os.sep}{path.name}")


def make_plan(
    inputs: Sequence[Path],
    out: Path,
    *,
    format_: str | None = None,
    keep_extension: bool = False,
    variants: Sequence[str] = ("",),
    reserved: Mapping[Path, str] | None = None,
    kept: Mapping[Path, str] | None = None,
) -> Plan:
    """Decide what becomes what: files as named, folders with their sub-folders kept under ``out``.

    In folders, hidden files and files without a picture's extension are counted as skipped; ``out``
    itself and the outputs of other jobs are left out where they lie inside. Links to folders are
    followed, each folder once; one that cannot be read is left to the caller to name. ``format_``
    overrides each input's own format. ``variants`` are those of the request, as ``variants_of``
    names them; the tasks of a picture are neighbours. ``reserved`` are further files that the job
    writes, and ``kept`` those that it reads, each with its name in messages. Raises UsageError
    where an input is missing, nothing is found, two outputs would be one file, or one would
    overwrite what is read.
    """
    tasks: list[Task] = []
    walk = _Walk(_real(out))
    num_skipped = 0
    for given in inputs:
        if not os.path.exists(given):  # noqa: PTH110 - Path.exists raises for names too long
            raise UsageError(
                "there is no such file or folder",
                where=printable(given),
                expected="a picture or a folder of pictures",
                remedy="check the path",
            )
        found = walk.files(given) if given.is_dir() else iter([(given, Path(given.name))])
        for path, relative in found:
            named = not given.is_dir()
            if not named and (path.name.startswith(".") or not has_picture_suffix(path)):
                num_skipped += 1
                continue
            chosen = format_ or format_for_suffix(path.suffix)
            for variant in variants:
                name = _output_name(relative, chosen, keep_extension, variant)
                tasks.append(Task(path, out / name, chosen, variant=variant))
    if not tasks and not walk.unreadable:
        raise UsageError(
            f"there are no pictures ({num_skipped} other files)",
            where=", ".join(map(printable, inputs)),
            expected="files with a picture's extension, such as .jpg or .png",
            remedy="check the path",
        )
    chosen_tasks = _checked(tasks, reserved or {}, kept or {})
    if format_ is None:
        chosen_tasks = _with_fallbacks(chosen_tasks, [*(reserved or {}), *(kept or {})])
    return Plan(
        out,
        chosen_tasks,
        num_skipped,
        tuple(walk.unreadable),
        tuple(walk.left_out),
        variants=tuple(variants),
    )


@dataclass
class _Walk:
    """Walks through folders, and remembers what it left out."""

    out: Path  # behind its links
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)

    def files(self, folder: Path) -> Iterator[tuple[Path, Path]]:
        """Yield each file of a folder with its relative path, in the order of the names."""
        excluded = None if _real(folder).is_relative_to(self.out) else self.out
        seen: set[Path] = set()
        for name, folders, files in os.walk(folder, onerror=self._skip, followlinks=True):
            parent = Path(name)
            real = _real(parent)
            others = parent != folder and real != self.out and manifest.NAME in files
            if others:
                self.left_out.append(parent)
            if others or real in seen or (excluded and real.is_relative_to(excluded)):
                folders.clear()
                continue
            seen.add(real)
            shown = [each for each in folders if not each.startswith(".")]
            # A folder keeps its own name, not that of a link to it
            folders[:] = sorted(shown, key=lambda each: ((parent / each).is_symlink(), each))
            for file in sorted(files):
                yield parent / file, (parent / file).relative_to(folder)

    def _skip(self, error: OSError) -> None:
        self.unreadable.append((Path(error.filename), error.strerror or str(error)))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _output_name(relative: Path, format_: str, keep_extension: bool, variant: str) -> Path:
    suffix = suffix_for_format(format_, relative.suffix)
    keeps = keep_extension and suffix != relative.suffix
    stem = relative.name if keeps else relative.stem
    return relative.with_name(f"{stem}.{variant}{suffix}" if variant else f"{stem}{suffix}")


def _checked(
    tasks: Sequence[Task], reserved: Mapping[Path, str], kept: Mapping[Path, str]
) -> tuple[Task, ...]:
    """Return the tasks, those given twice once; raises UsageError for outputs in the way."""
    places = _Places()
    sources = {places.of(task.input): task.input for task in tasks}
    for task in tasks:
        if task.input.is_symlink():
            sources[_behind(task.input)] = task.input
    for path in kept:
        sources[places.of(path)] = sources[_behind(path)] = path
    taken: dict[str, Task | str] = {}
    for path, name in reserved.items():
        for place in (places.of(path), _behind(path)):
            if place in sources:
                raise _overwrites(path, sources[place], name, kept)
        taken[places.of(path)] = name
    chosen = []
    for task in tasks:
        place = places.of(task.output)
        if place in sources:
            name = f"the translation of {task.input}"
            raise _overwrites(task.output, sources[place], name, kept)
        other = taken.setdefault(place, task)
        if other is task:
            chosen.append(task)
        elif isinstance(other, str) or places.of(other.input) != places.of(task.input):
            raise _collide(other, task)
    return tuple(chosen)


def _with_fallbacks(tasks: Sequence[Task], others: Sequence[Path]) -> tuple[Task, ...]:
    """Give each task that is no PNG the name of one that nothing else takes."""
    places = _Places()
    taken = {places.of(path) for task in tasks for path in (task.input, task.output)}
    taken |= {place for path in others for place in (places.of(path), _behind(path))}
    chosen = []
    for task in tasks:
        if task.format == "png":
            chosen.append(task)
            continue
        names = (f"{task.output.stem}.png", f"{task.output.name}.png")
        free = [name for name in names if places.of(task.output.with_name(name)) not in taken]
        fallback = task.output.with_name(free[0]) if free else None
        if fallback is not None:
            taken.add(places.of(fallback))
        chosen.append(replace(task, fallback=fallback))
    return tuple(chosen)


def _behind(path: Path) -> str:
    """Return where a file that is opened to write ends up: behind its links."""
    return os.path.normcase(os.path.realpath(path))


def _overwrites(path: Path, source: Path, name: str, kept: Mapping[Path, str]) -> UsageError:
    return UsageError(
        printable(f"{name} would overwrite {kept.get(source, 'the input')} {source}"),
        where=printable(path),
        expected="outputs that lie where nothing is read",
        remedy="choose another place with --out or --report",
    )


def _collide(first: Task | str, second: Task) -> UsageError:
    remedy = "translate them one after the other into folders of their own"
    if isinstance(first, Task):
        kept = {_kept_name(first), _kept_name(second)}
        if len(kept) > 1:
            name = max(kept, key=len)
            remedy = f"use --keep-extension, which writes {name} for one of them"
    one = first if isinstance(first, str) else str(first.input)
    return UsageError(
        printable(f"{one} and {second.input} would both be written there"),
        where=printable(second.output),
        expected="one name for each picture",
        remedy=printable(remedy),
    )


def _kept_name(task: Task) -> str:
    return _output_name(Path(task.input.name), task.format, True, task.variant).name
