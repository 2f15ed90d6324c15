"""``i2i data``: look at training pictures before anyone trains on them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from i2i.data.check import DataReport, FolderReport

_NUM_NAMED = 20  # files named by a heading before "and more"


@click.group()
def command() -> None:
    """Look at training pictures."""


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--layout", help="How folders become samples.  [default: unpaired]")
@click.option("--recipe", help="Take the layout, its options and the roles from this recipe.")
@click.pass_context
def check(ctx: click.Context, folder: Path, layout: str | None, recipe: str | None) -> None:
    """Decode every picture of a data folder and report counts, sizes, modes and bad files.

    Exit status 1 when a picture cannot be read or a training folder is missing or empty.
    """
    from i2i.data.check import check_folders

    kind, options, inputs = _layout(layout, recipe)
    with _progress() as progress:
        task = progress.add_task("decoding", total=None)
        report = check_folders(
            kind,
            _existing(folder),
            options,
            inputs,
            on_picture=lambda done, total: progress.update(task, completed=done, total=total),
        )
    _print(report, folder)
    if not report.is_fit:
        ctx.exit(1)


def _layout(layout: str | None, recipe: str | None) -> tuple[Any, Any, Any]:
    """Return the layout's class, its options and the inputs of the family."""
    from i2i.errors import UsageError
    from i2i.plugins import load_plugins
    from i2i.recipe import find_recipe, load_recipe
    from i2i.types import Inputs

    plugins = load_plugins()
    if recipe is None:
        kind = plugins.layout(layout or "unpaired")
        return kind, kind.Options(), Inputs(images=("a", "b"), paired=False)
    if layout is not None:
        raise UsageError(
            "--layout and --recipe exclude each other",
            where="i2i data check",
            expected="one of the two",
            remedy="leave --layout out, the recipe names its own",
        )
    loaded = load_recipe(find_recipe(recipe, plugins), plugins)
    kind, family = plugins.layout(loaded.data.layout), plugins.family(loaded.family)
    return kind, loaded.data.options, family.inputs


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
    for folder in report.folders:
        _print_faults(folder, root)
    if report.shared:
        count = len(report.shared)
        pictures = "1 picture is" if count == 1 else f"{count} pictures are"
        click.echo(f"{pictures} in both train and test:")
        _print_some([f"{_short(a, root)} = {_short(b, root)}" for a, b in report.shared])
    click.echo("Ready to train." if report.is_fit else "Not ready to train: see above.")


def _print_faults(folder: "FolderReport", root: Path) -> None:
    if folder.missing is not None:
        if folder.split == "train":
            _say(str(folder.missing))
        else:
            click.echo(f"No test pictures of role {folder.role!r}: previews show train pictures.")
    if folder.unreadable:
        click.echo(f"{len(folder.unreadable)} unreadable, {folder.split} role {folder.role!r}:")
        _print_some([f"{_short(look.path, root)}: {look.fault}" for look in folder.unreadable])


def _say(line: str) -> None:
    """Print a line that may name files, whatever bytes their names hold."""
    from i2i.imaging import printable

    click.echo(printable(line))


def _print_some(lines: list[str]) -> None:
    for line in lines[:_NUM_NAMED]:
        _say(f"  {line}")
    if len(lines) > _NUM_NAMED:
        click.echo(f"  and {len(lines) - _NUM_NAMED} more")


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
