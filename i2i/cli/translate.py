"""``i2i translate``: pictures and folders through a trained model."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from i2i.errors import ImageError, ModelFileError, RecipeError, UsageError, suggest
from i2i.hookspecs import hookimpl

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.progress import Progress

    from i2i.engine.inference import Precision, WorkSize
    from i2i.engine.job import Result, Settings, Summary
    from i2i.model_file import Model
    from i2i.plugins import Plugins
    from i2i.recipe import Translate, Weights

_SHEET = "contact-sheet.png"
_SHEET_PAIRS = 24
_INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _read_work_size(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> int | str | None:
    if value is None or value in ("native", "trained"):
        return value
    if not value.isdecimal() or int(value) == 0:
        raise click.BadParameter(f"{value!r} is neither native, trained nor a number of pixels")
    return int(value)


@dataclass(frozen=True)
class _Arguments:
    """The command line, as given."""

    inputs: tuple[Path, ...]
    out: Path
    recipe: str | None
    model: Path | None
    overrides: tuple[str, ...]
    device: str
    batch_size: int | None
    workers: int | None
    work_size: int | str | None
    restore_size: bool | None
    max_pixels: int | None
    precision: str
    format_: str | None
    keep_extension: bool
    sheet: bool
    report: Path | None


_PATH = click.Path(path_type=Path)
_COUNT = click.IntRange(min=1)


@click.command("translate")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=_PATH)
@click.option("-o", "--out", required=True, type=_PATH, help="The folder for the translations.")
@click.option("--recipe", metavar="NAME|FILE", help="A recipe that comes with a model.")
@click.option("--model", type=_PATH, help="A model file, instead of a recipe.")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="A field of the request."
)
@click.option(
    "--device",
    default="auto",
    help="auto, cpu, cuda or cuda:N; auto takes a GPU if there is one.",
)
@click.option("--batch-size", type=_COUNT, help="Pictures computed at once: 1 on a CPU, else 8.")
@click.option("--workers", type=_COUNT, help="Threads that decode, and as many that encode.")
@click.option(
    "--work-size",
    metavar="native|trained|PIXELS",
    callback=_read_work_size,
    help="Reduce the short side to this first; the recipe's.",
)
@click.option(
    "--restore-size/--no-restore-size",
    default=None,
    help="Bring results back to the input's size; the recipe's.",
)
@click.option("--max-pixels", type=_COUNT, help="Refuse larger pictures: 100,000,000.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    help="Of the networks; bfloat16 is faster where the device has it.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jpeg", "png", "tiff", "webp"]),
    help="The format of the outputs; else that of each input, or PNG.",
)
@click.option("--keep-extension", is_flag=True, help="Write a.bmp as a.bmp.png, not a.png.")
@click.option("--sheet", is_flag=True, help="Also write inputs beside outputs to one picture.")
@click.option("--report", type=_PATH, help="Write one line of JSON a picture to this file.")
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Translate pictures, and folders of pictures, with a trained model.

    Sub-folders are kept. A picture that fails is named and the others go on; the exit status is 0
    when all are done, 1 when some failed, 2 when the command was wrong, 130 when interrupted.
    """
    context.exit(_translate(context, _Arguments(**options)))


def _translate(context: click.Context, arguments: _Arguments) -> int:
    """Run the job and return the exit status; raises I2IError for a command that cannot run."""
    # Heavy imports wait until a command needs them: 'i2i --help' answers at once.
    from i2i.engine.discovery import make_plan
    from i2i.engine.events import Events
    from i2i.engine.job import run_job
    from i2i.plugins import Plugins, load_plugins

    plugins = context.find_object(Plugins) or load_plugins()
    chosen = _resolve(arguments, plugins)
    settings = _settings(arguments, chosen.defaults, chosen.request)
    reserved = {arguments.out / _SHEET: "the contact sheet"} if arguments.sheet else {}
    if arguments.report is not None:
        reserved[arguments.report] = "the report"
    plan = make_plan(
        arguments.inputs,
        arguments.out,
        format_=arguments.format_,
        keep_extension=arguments.keep_extension,
        reserved=reserved,
        kept=chosen.files,
    )
    with _watching(len(plan.tasks), arguments.report) as console, _interruptible() as interrupt:
        events = Events(plugins, [console], console.warn)
        try:
            summary = run_job(plan, chosen.model, settings, events, lambda: interrupt.requested)
        finally:
            events.close()
    failed = summary.num_failed > 0
    if arguments.sheet and console.first_done:
        failed |= not _write_sheet(arguments.out, console.first_done, settings)
    click.echo(_describe(summary, arguments.out))
    if summary.interrupted:
        return _INTERRUPTED
    return 1 if failed else 0


@dataclass(frozen=True)
class _Chosen:
    """What ``--recipe``, ``--model`` and ``--set`` name."""

    model: "Model"
    defaults: "Translate"
    request: "BaseModel"
    files: Mapping[Path, str]  # that it was read from, each with its name in messages


def _resolve(arguments: _Arguments, plugins: "Plugins") -> _Chosen:
    """Load the model, the settings it comes with, and the request that ``--set`` asks for."""
    from i2i.model_file import load_model
    from i2i.recipe import Translate, find_recipe, load_recipe, validate

    if (arguments.recipe is None) == (arguments.model is None):
        raise UsageError(
            "both are given" if arguments.recipe else "neither is given",
            where="--recipe and --model",
            expected="one of them",
            remedy="name a recipe, or the file of a model ('i2i recipes' lists recipes)",
        )
    files: dict[Path, str] = {}
    if arguments.model is not None:
        files[arguments.model] = "the model file"
        model = load_model(arguments.model, plugins)
        where = f"{arguments.model}: translate"
        defaults = validate(Translate, model.header.translate, where)
        base: Mapping[str, Any] = model.header.request
    else:
        path = find_recipe(str(arguments.recipe), plugins)
        recipe = load_recipe(path, plugins)
        weights = _weights(path, recipe.weights, plugins)
        files |= {path: "the recipe", weights: "the model file"}
        model = load_model(weights, plugins)
        defaults = recipe.translate
        base = recipe.request.model_dump(mode="json")
    schema = type(model.translator).Request
    return _Chosen(model, defaults, _request(schema, base, arguments.overrides), files)


def _weights(path: Path, weights: "Weights | None", plugins: "Plugins") -> Path:
    """Return the model file of the recipe at ``path``; raises ModelFileError without one."""
    from i2i.recipe import list_recipes

    file = path.parent / weights.file if weights else None
    if file is not None and file.is_file():
        return file
    known = [recipe.name for recipe in list_recipes(plugins) if recipe.has_weights]
    train = f"train one with 'i2i train --recipe {path.stem}' and give it as --model"
    raise ModelFileError(
        f"the recipe's model file {file} is missing" if file else "the recipe comes with no model",
        where=str(path),
        expected=f"a recipe with a model, such as {', '.join(known)}" if known else "a model file",
        remedy=suggest(path.stem, known, train),
    )


def _request(
    schema: "type[BaseModel]", base: Mapping[str, Any], overrides: Sequence[str]
) -> "BaseModel":
    """Return the family's request: ``base`` with the "key=value" texts of ``--set``."""
    from i2i.recipe import apply_override, validate

    raw = dict(base)
    if overrides and not schema.model_fields:
        raise UsageError(
            "the family has nothing to ask for",
            where=f"--set {overrides[0]}",
            expected="no --set",
            remedy="leave it out",
        )
    for override in overrides:
        apply_override(raw, override, schema)
    try:
        return validate(schema, raw, "request")
    except RecipeError as error:
        if not overrides:
            raise
        raise UsageError(
            error.wrong,
            where=f"--set {' --set '.join(overrides)}",
            expected=error.expected,
            remedy=error.remedy,
        ) from error


def _settings(arguments: _Arguments, defaults: "Translate", request: "BaseModel") -> "Settings":
    from i2i.engine.device import choose_device
    from i2i.engine.job import Settings
    from i2i.imaging import MAX_PIXELS

    device = choose_device(arguments.device)
    restore_size = arguments.restore_size
    return Settings(
        request=request,
        work_size=cast("WorkSize", arguments.work_size or defaults.work_size),
        restore_size=defaults.restore_size if restore_size is None else restore_size,
        restore=defaults.restore,
        precision=cast("Precision", arguments.precision),
        device=device,
        batch_size=arguments.batch_size or (1 if device.type == "cpu" else 8),
        num_workers=arguments.workers or min(4, os.cpu_count() or 1),
        max_pixels=arguments.max_pixels or MAX_PIXELS,
    )


class _Console:
    """Shows progress and failures, writes the report, and remembers pairs for the sheet."""

    def __init__(self, progress: "Progress", total: int, report: TextIO | None) -> None:
        self._progress, self._report = progress, report
        self._bar = progress.add_task("translating", total=total)
        self.first_done: list[Result] = []

    @hookimpl
    def i2i_image_translated(self, result: "Result") -> None:
        self._progress.advance(self._bar)
        if result.error is not None:
            self._print(result.error)
        elif len(self.first_done) < _SHEET_PAIRS:
            self.first_done.append(result)
        if self._report is not None:
            self._report.write(f"{result.to_json()}\n")
            self._report.flush()

    def warn(self, text: str) -> None:
        """Print a warning above the bar."""
        self._print(f"Warning: {text}")

    def _print(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _watching(total: int, report: Path | None) -> Iterator[_Console]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from i2i.imaging import printable

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        file = None
        if report is not None:
            try:
                file = stack.enter_context(report.open("w", encoding="utf-8"))
            except OSError as error:
                raise UsageError(
                    f"the report cannot be written ({error.strerror})",
                    where=printable(report),
                    expected="a file in a folder that exists",
                    remedy="choose another with --report",
                ) from error
        hidden = not console.is_terminal
        progress = stack.enter_context(Progress(*columns, console=console, disable=hidden))
        yield _Console(progress, total, file)


class _Interrupt:
    """A request to stop; the second one no longer waits."""

    requested = False

    def ask(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def _interruptible() -> Iterator[_Interrupt]:
    """Let Ctrl-C and SIGTERM ask to stop, so that they never strike half-way through a file."""
    interrupt = _Interrupt()
    if threading.current_thread() is not threading.main_thread():  # only that one hears signals
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt.ask) for number in _SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_sheet(out: Path, results: "Sequence[Result]", settings: "Settings") -> bool:
    """Write the contact sheet and say where, or why not; returns whether it was written."""
    from i2i.engine.job import make_sheet, save
    from i2i.imaging import encode, printable

    path = out / _SHEET
    try:
        save(path, encode(make_sheet(results, settings.max_pixels), "png", str(path)))
    except ImageError as error:
        click.echo(f"Error: {printable(str(error))}", err=True)
        return False
    click.echo(f"contact sheet: {printable(path)}")
    return True


def _describe(summary: "Summary", out: Path) -> str:
    from i2i.imaging import printable

    counts = (
        f"{summary.num_done} done, {summary.num_failed} failed, {summary.num_skipped} skipped "
        f"in {summary.seconds:.1f} s"
    )
    start = "interrupted: " if summary.interrupted else ""
    return f"{start}{counts}; the translations are in {printable(out)}"
