"""What a folder job shows while it runs, and how it is asked to stop."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import TYPE_CHECKING, TextIO

import click

from i2i.errors import UsageError
from i2i.hookspecs import hookimpl

if TYPE_CHECKING:
    from rich.progress import Progress

    from i2i.engine.records import Result

SHEET_ROWS = 24
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Console:
    """Shows progress and failures, writes the report, and remembers what the sheet shows."""

    def __init__(self, progress: "Progress", total: int, report: TextIO | None) -> None:
        self._progress, self._report = progress, report
        self.report_failed = self._begun = False
        self._bar = progress.add_task("translating", total=total)
        self._rows: dict[tuple[str, PurePosixPath], dict[str, Result]] = {}

    @property
    def rows(self) -> "list[Mapping[str, Result]]":
        """The first pictures of which something was done: the results of each by variant."""
        return [*self._rows.values()]

    @hookimpl
    def i2i_image_translated(self, result: "Result") -> None:
        """Take note of one picture's result."""
        self._progress.advance(self._bar)
        if result.error is not None:
            self._print(result.error)
        else:
            # A file may be given twice, for places in two folders
            picture = result.input, PurePosixPath(result.name).parent
            if picture in self._rows or len(self._rows) < SHEET_ROWS:
                self._rows.setdefault(picture, {})[result.variant] = result
        if self._report is not None:
            self._write(self._report, result)

    def warn(self, text: str) -> None:
        """Print a warning above the bar."""
        self._print(f"Warning: {text}")

    def _write(self, report: TextIO, result: "Result") -> None:
        try:
            if not self._begun:
                with suppress(OSError):  # a pipe or a device keeps nothing
                    report.truncate(0)
                self._begun = True
            report.write(f"{result.to_json()}\n")
            report.flush()
        except OSError as error:  # a full disk must not end the job
            self._report, self.report_failed = None, True
            self.warn(f"the report cannot be written ({error.strerror}) and ends here")
            with suppress(OSError):
                report.close()

    def _print(self, text: str) -> None:
        self._progress.console.print(
            text, markup=False, emoji=False, highlight=False, soft_wrap=True
        )


@contextmanager
def watching(total: int, report: Path | None) -> Iterator[Console]:
    """Show a bar on a terminal, and write each result to ``report``; raises UsageError."""
    from rich.console import Console as Screen
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from i2i.imaging import printable

    screen = Screen(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        file = None
        if report is not None:
            try:
                # Emptied once the job has begun: another one may be writing into it till then
                file = stack.enter_context(report.open("a", encoding="utf-8"))
            except OSError as error:
                raise UsageError(
                    f"the report cannot be written ({error.strerror})",
                    where=printable(report),
                    expected="a file in a folder that exists",
                    remedy="choose another with --report",
                ) from error
        hidden = not screen.is_terminal
        progress = stack.enter_context(Progress(*columns, console=screen, disable=hidden))
        yield Console(progress, total, file)


class Interrupt:
    """A request to stop; the second one no longer waits."""

    requested = False

    def ask(self, signum: int, frame: FrameType | None) -> None:
        """Take note of a signal."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        message = "stopping after the pictures under way; once more to stop at once"
        click.echo(message, err=True)


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Let Ctrl-C and SIGTERM ask to stop, so that they never strike half-way through a file."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():  # only that one hears signals
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt.ask) for number in _SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
