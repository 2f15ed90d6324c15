"""What a download shows: a line of what is fetched, and a bar where somebody looks."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from i2i.downloads import Watcher


@contextmanager
def showing_downloads() -> Iterator[Watcher]:
    """Show downloads on standard error while the block runs."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    hidden = not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        bar = progress.add_task("downloading", visible=False)

        def advance(have: int, total: int | None) -> None:
            progress.update(bar, completed=have, total=total, visible=True)

        yield Watcher(say=lambda text: click.echo(text, err=True), advance=advance)
