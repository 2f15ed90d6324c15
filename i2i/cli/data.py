"""``i2i data``: look at training pictures before anyone trains on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from i2i.data.check import DataReport, FolderReport, PairReport

_NUM_NAMED = 20  # files named by a heading before "and more"
_NUM_ALONE = 200  # of those without a partner: somebody will go through the list


@click.group()
def command() -> None:
    """Look at training pictures."""


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--layout", help="How folders become samples.  [default: unpaired]")
@click.option("--recipe", help="Take the layout, its options and the roles from this recipe.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key of the recipe."
)
@click.pass_context
def check(
    ctx: click.Context,
    folder: Path,
    layout: str | None,
    recipe: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Decode every picture of a data folder and report counts, sizes, modes and bad files.

    Of layouts that bring pairs it also lists the pictures that have no partner. What the layout
    leaves out, how many pictures each of its groups has, and pictures with which something seems
    wrong are told where the layout knows such things.

    Exit status 1 when a picture cannot be read, a training folder is missing or empty, or its
    pictures do not make the pairs that training would need.
    """
    from i2i.data.check import check_folders

    kind, options, inputs, resized = _layout(layout, recipe, overrides)
    with _progress() as progress:
        task = progress.add_task("decoding", total=None)
        report = check_folders(
            kind,
            _existing(folder),
            options,
            inputs,
            resized=resized,
            on_picture=lambda done, total: progress.update(task, completed=done, total=total),
        )
    _print(report, folder)
    if not report.is_fit:
        ctx.exit(1)


def _layout(
    layout: str | None, recipe: str | None, overrides: Sequence[str]
) -> tuple[Any, Any, Any, bool]:
    """Return the layout's class, its options, the family's inputs, and whether it resizes pairs."""
    from i2i.data.loading import resizes_first
    from i2i.errors import UsageError
    from i2i.plugins import load_plugins
    from i2i.recipe import find_recipe, load_recipe

    plugins = load_plugins()
    if recipe is None and overrides:
        raise UsageError(
            "there is no recipe whose keys could be set",
            where=f"--set {overrides[0]}",
            expected="--recipe beside it",
            remedy="name the recipe that you train by",
        )
    if recipe is None:
        kind = plugins.layout(layout or "unpaired")
        return kind, kind.Options(), _some_inputs(kind), False
    if layout is not None:
        raise UsageError(
            "--layout and --recipe exclude each other",
            where="i2i data check",
            expected="one of the two",
            remedy="leave --layout out, the recipe names its own",
        )
    loaded = load_recipe(find_recipe(recipe, plugins), plugins, overrides)
    kind, family = plugins.layout(loaded.data.layout), plugins.family(loaded.family)
    kind.check(loaded.data.options, family.inputs)
    return kind, loaded.data.options, family.inputs, resizes_first(loaded.augment.host)


def _some_inputs(kind: Any) -> Any:
    """Return what the layout brings: its roles, or else a and b, as pairs or on their own."""
    from i2i.errors import RecipeError
    from i2i.types import Inputs

    roles = kind.roles or ("a", "b")
    pairs = Inputs(images=roles, paired=True, labels=kind.labels)
    try:
        kind.check(kind.Options(), pairs)
    except RecipeError:
        return Inputs(images=roles, paired=False, labels=kind.labels)
    return pairs


def _existing(folder: Path) -> Path:
    from i2i.errors import DataError

    if not folder.is_dir():
        raise DataError(
            "there is no such folder",
            where=str(folder),
            expected="a data folder",
            remedy="check the path",
        )
    return folder


def _progress() -> Any:
    """Return a bar on standard error, silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _print(report: "DataReport", root: Path) -> None:
    """Print the table of folders, then what is wrong with them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from i2i.imaging import printable

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 160  # wide enough to keep a row on a line in a file or a pipe
    table = Table(box=box.SIMPLE)
    for name in ("folder", "role", "split"):
        table.add_column(name)
    for name in ("pictures", "smallest", "median", "largest", "most common", "modes"):
        table.add_column(name, justify="right")
    for name in ("grey", "unreadable"):
        table.add_column(name, justify="right")
    for folder in report.folders:
        if folder.missing is None:
            table.add_row(*map(printable, _row(folder, root)))
    if table.row_count:
        console.print(table)
    _print_missing(report)
    _print_unreadable(report, root)
    _print_told(report, root)
    for pairs in report.pairs:
        _print_pairs(pairs, root, report.resized)
    if report.shared:
        count = len(report.shared)
        pictures = "1 picture is" if count == 1 else f"{count} pictures are"
        click.echo(f"{pictures} in both train and test:")
        _print_some([f"{_short(a, root)} = {_short(b, root)}" for a, b in report.shared])
    click.echo("Ready to train." if report.is_fit else "Not ready to train: see above.")


def _print_missing(report: "DataReport") -> None:
    """Say which folders are not there; roles may lie in one."""
    missing = [folder for folder in report.folders if folder.missing is not None]
    for line in dict.fromkeys(str(each.missing) for each in missing if each.split == "train"):
        _say(line)
    for folder in missing:
        if folder.split == "test":
            click.echo(f"No test pictures of role {folder.role!r}: previews show train pictures.")


def _print_unreadable(report: "DataReport", root: Path) -> None:
    """List what cannot be read, once where roles lie in one file."""
    roles: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for folder in report.folders:
        lines = tuple(f"{_short(look.path, root)}: {look.fault}" for look in folder.unreadable)
        if lines:
            roles.setdefault((folder.split, lines), []).append(repr(folder.role))
    for (split, lines), named in roles.items():
        click.echo(f"{len(lines)} unreadable, {split} role {' and '.join(named)}:")
        _print_some(lines)


def _print_told(report: "DataReport", root: Path) -> None:
    """Print what the layout itself says of the folder and of single pictures."""
    if report.left_out:
        click.echo(f"{len(report.left_out)} left out:")
        _print_some([f"{place}: {reason}" for place, reason in report.left_out.items()])
    for split, groups in report.groups.items():
        if groups:
            counts = ", ".join(f"{name}: {count}" for name, count in groups.items())
            _say(f"Pictures a group in {split}: {counts}.")
    if report.unseen is not None:
        _say(f"What the pictures show was not looked at: {report.unseen}")
    for folder in report.folders:
        if folder.remarked:
            verb = "seems" if len(folder.remarked) == 1 else "seem"
            pictures = _counted(len(folder.readable), f"{folder.split} picture")
            click.echo(
                f"{len(folder.remarked)} of {pictures} of role {folder.role!r} {verb} wrong:"
            )
            _print_some([f"{_short(look.path, root)}: {look.remark}" for look in folder.remarked])


def _print_pairs(report: "PairReport", root: Path, resized: bool) -> None:
    """Say how many pairs there are, and list what makes none."""
    split, pairing = report.split, report.pairing
    click.echo(f"{_counted(len(pairing.pairs), 'pair')} in {split}.")
    for role, parts in pairing.alone.items():
        if parts:
            verb = "has" if len(parts) == 1 else "have"
            skipped = "" if pairing.refused else ", left out in training"
            pictures = _counted(len(parts), f"{split} picture")
            click.echo(f"{pictures} of role {role!r} {verb} no partner{skipped}:")
            _print_some([_short(part.path, root) for part in parts], _NUM_ALONE)
    for role, groups in pairing.doubled.items():
        if groups:
            shared = "1 name stands" if len(groups) == 1 else f"{len(groups)} names stand"
            click.echo(f"{shared} for more than one {split} picture of role {role!r}:")
            lines = [" = ".join(_short(part.path, root) for part in group) for group in groups]
            _print_some(lines)
    if report.unequal:
        verb = "differs" if len(report.unequal) == 1 else "differ"
        way = (
            "the recipe's Resize makes the sizes equal"
            if resized
            else "make the sizes equal, or let Resize be the first transform in [augment]"
        )
        click.echo(f"{_counted(len(report.unequal), f'{split} pair')} {verb} in size; {way}:")
        _print_some(
            [
                ", ".join(f"{_short(look.path, root)} {_pixels(look.size)}" for look in pair)
                for pair in report.unequal
            ]
        )
    if report.misfits:
        verb = "does" if len(report.misfits) == 1 else "do"
        click.echo(f"{_counted(len(report.misfits), f'{split} pair')} {verb} not fit:")
        lines = []
        for pair, wrong in report.misfits:
            files = dict.fromkeys(_short(look.path, root) for look in pair)
            lines.append(f"{', '.join(files)}: {wrong}")
        _print_some(lines)


def _counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def _say(line: str) -> None:
    """Print a line that may name files, whatever bytes their names hold."""
    from i2i.imaging import printable

    click.echo(printable(line))


def _print_some(lines: Sequence[str], most: int = _NUM_NAMED) -> None:
    for line in lines[:most]:
        _say(f"  {line}")
    if len(lines) > most:
        click.echo(f"  and {len(lines) - most} more")


def _row(folder: "FolderReport", root: Path) -> list[str]:
    first = [_folder_name(folder, root), folder.role, folder.split, str(len(folder.looks))]
    last = [str(folder.num_grey), str(len(folder.unreadable))]
    if not folder.readable:
        return [*first, "-", "-", "-", "-", "-", *last]
    common, count = folder.sizes.most_common(1)[0]
    modes = ", ".join(f"{mode} {number}" for mode, number in folder.modes.most_common())
    sizes = [_pixels(size) for size in folder.size_range()]
    return [*first, *sizes, f"{_pixels(common)} ({count})", modes, *last]


def _folder_name(folder: "FolderReport", root: Path) -> str:
    """Return the first folder below the root in which all of these pictures lie."""
    tops = {look.path.relative_to(root).parts[0] for look in folder.looks}
    return tops.pop() if len(tops) == 1 else "."


def _short(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
