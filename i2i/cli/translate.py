"""``i2i translate``: pictures and folders through a trained model."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from i2i.cli import options
from i2i.cli.progress import SHEET_ROWS
from i2i.errors import ImageError, UsageError

if TYPE_CHECKING:
    from i2i.cli.chosen import Chosen
    from i2i.engine.discovery import Plan
    from i2i.engine.inference import Precision, WorkSize
    from i2i.engine.records import Result, Settings, Summary
    from i2i.engine.resample import Size
    from i2i.plugins import Plugins
    from i2i.signing import Signing

_SHEET = "contact-sheet.png"
_INTERRUPTED = 130


def _read_work_size(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> int | str | None:
    if value is None or value in ("native", "trained"):
        return value
    if not value.isdecimal() or int(value) == 0:
        raise click.BadParameter(f"{value!r} is neither native, trained nor a number of pixels")
    return int(value)


def _read_box(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> "Size | None":
    if value is None:
        return None
    width, _, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise click.BadParameter(f"{value!r} is no size such as 1920x1080")
    return int(height), int(width)


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
    ensemble: bool
    to: "Size | None"
    max_side: int | None
    background: Literal["keep", "white"] | None
    max_pixels: int | None
    tile: int | Literal["auto", "off"]
    precision: str
    format_: str | None
    keep_extension: bool
    keep_profile: bool
    strip_gps: bool
    provenance: bool
    c2pa_certificate: Path | None
    c2pa_key: Path | None
    frames: Literal["first", "error"]
    sheet: bool
    report: Path | None
    overwrite: bool
    fail_fast: bool
    dry_run: bool


_PATH = click.Path(path_type=Path)
_COUNT = click.IntRange(min=1)


@click.command("translate")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=_PATH)
@click.option("-o", "--out", required=True, type=_PATH, help="The folder for the translations.")
@options.RECIPE
@options.MODEL
@options.REQUEST
@options.DEVICE
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
@click.option(
    "--to",
    metavar="WxH",
    callback=_read_box,
    help="Reduce results that are larger (Lanczos) to fit in this many pixels across and down, "
    "their shape kept; smaller ones stay.",
)
@click.option("--max-side", type=_COUNT, help="The same, for the longer side: --to NxN.")
@click.option(
    "--ensemble",
    is_flag=True,
    help="Translate each picture in eight positions, turned and mirrored, and keep the mean: "
    "closer to the truth, and eight times the work.",
)
@click.option(
    "--background",
    type=click.Choice(["keep", "white"]),
    help="Of transparent pictures: keep them so, or lay them on white; the recipe's.",
)
@click.option("--max-pixels", type=_COUNT, help="Refuse larger pictures: 100,000,000.")
@options.TILE
@options.PRECISION
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jpeg", "png", "tiff", "webp", "avif"]),
    help="The format of the outputs; else that of each input, or PNG.",
)
@click.option("--keep-extension", is_flag=True, help="Write a.bmp as a.bmp.png, not a.png.")
@click.option(
    "--keep-profile",
    is_flag=True,
    help="Convert results back to each input's colour profile; else they are sRGB.",
)
@click.option("--strip-gps", is_flag=True, help="Leave out where pictures were taken.")
@click.option(
    "--provenance/--no-provenance",
    default=True,
    help="Say in each output that a model made it, and which; on.",
)
@click.option(
    "--c2pa-certificate",
    type=_PATH,
    help="Sign each output for C2PA with this certificate chain (PEM), and --c2pa-key.",
)
@click.option("--c2pa-key", type=_PATH, help="The certificate's private key (PEM).")
@click.option(
    "--frames",
    type=click.Choice(["first", "error"]),
    default="first",
    help="Of animations and pages, translate the first or refuse them.",
)
@click.option(
    "--sheet",
    is_flag=True,
    help=f"Also write {_SHEET}: the first {SHEET_ROWS} inputs beside their outputs, all variants "
    "in a row.",
)
@click.option("--report", type=_PATH, help="Write one line of JSON an output to this file.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Translate again what is done, and replace files that no job wrote.",
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first picture that fails.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_context
def command(context: click.Context, /, **given: Any) -> None:
    """Translate pictures, and folders of pictures, with a trained model.

    Sub-folders are kept. A request for several variants writes NAME.<variant>.ext for each. A job
    that was stopped goes on where it was: started again, it does what is missing or has changed. A
    picture that fails is named and the others go on; the exit status is 0 when all are done, 1 when
    some failed, 2 when the command was wrong, 130 when interrupted.
    """
    context.exit(_translate(context, _Arguments(**given)))


def _translate(context: click.Context, arguments: _Arguments) -> int:
    """Run the job and return the exit status; raises I2IError for a command that cannot run."""
    # Heavy imports wait until a command needs them: 'i2i --help' answers at once.
    from i2i.cli.chosen import choose
    from i2i.engine.discovery import make_plan
    from i2i.plugins import Plugins, load_plugins

    plugins = context.find_object(Plugins) or load_plugins()
    chosen = choose(arguments.recipe, arguments.model, arguments.overrides, plugins)
    settings = _settings(arguments, chosen)
    reserved = {arguments.out / _SHEET: "the contact sheet"} if arguments.sheet else {}
    if arguments.report is not None:
        reserved[arguments.report] = "the report"
    plan = make_plan(
        arguments.inputs,
        arguments.out,
        format_=arguments.format_,
        keep_extension=arguments.keep_extension,
        variants=tuple(chosen.variants),
        reserved=reserved,
        kept=chosen.files | _read_only(arguments),
    )
    if arguments.sheet:
        plan = replace(plan, extras=(arguments.out / _SHEET,))
    if arguments.dry_run:
        return _forecast(plan, chosen, settings)
    return _run(plan, chosen, settings, plugins, arguments)


def _run(
    plan: "Plan",
    chosen: "Chosen",
    settings: "Settings",
    plugins: "Plugins",
    arguments: _Arguments,
) -> int:
    from i2i.cli.progress import interruptible, watching
    from i2i.engine.events import Events
    from i2i.engine.job import run_job
    from i2i.imaging import printable

    for folder in plan.left_out:
        name = printable(folder)
        click.echo(f"{name}: left out, as it holds the outputs of another job", err=True)
    total = len(plan.tasks) + len(plan.unreadable)
    with watching(total, arguments.report) as console, interruptible() as interrupt:
        events = Events(plugins, [console], console.warn)
        try:
            summary = run_job(plan, chosen.model, settings, events, lambda: interrupt.requested)
        finally:
            events.close()
    failed = summary.num_failed > 0 or console.report_failed
    if arguments.sheet and console.rows:
        failed |= not _write_sheet(plan, console.rows, settings)
    for line in _describe(summary, arguments.out):
        click.echo(line)
    if interrupt.requested and summary.num_left:
        return _INTERRUPTED
    return 1 if failed else 0


def _forecast(plan: "Plan", chosen: "Chosen", settings: "Settings") -> int:
    """Say what the job would do; the status is 0 where nothing stands in its way."""
    from i2i.engine.dryrun import forecast
    from i2i.imaging import printable

    counts: Counter[str] = Counter()
    num_pixels = 0
    for each in forecast(plan, chosen.model, settings):
        counts[each.status] += 1
        num_pixels += each.num_pixels
        if each.error is not None:
            click.echo(printable(each.error), err=True)
        else:
            click.echo(printable(f"{each.status}: {each.input} -> {each.output}"))
    click.echo(
        f"{counts['translate']} to translate ({num_pixels / 1e6:,.1f} megapixels), "
        f"{counts['kept']} done before, {counts['in the way']} whose place holds a file that no "
        f"job wrote, {counts['fail']} that would fail, {plan.num_skipped} skipped"
    )
    return 1 if counts["in the way"] or counts["fail"] else 0


def _settings(arguments: _Arguments, chosen: "Chosen") -> "Settings":
    from i2i.engine.device import choose_device
    from i2i.engine.records import Settings
    from i2i.imaging import MAX_PIXELS

    defaults = chosen.defaults
    device = choose_device(arguments.device)
    restore_size = arguments.restore_size
    return Settings(
        request=chosen.request,
        work_size=cast("WorkSize", arguments.work_size or defaults.work_size),
        restore_size=defaults.restore_size if restore_size is None else restore_size,
        restore=defaults.restore,
        ensemble=arguments.ensemble,
        box=_box(arguments.to, arguments.max_side),
        background=arguments.background or defaults.background,
        precision=cast("Precision", arguments.precision),
        keep_profile=arguments.keep_profile,
        strip_gps=arguments.strip_gps,
        provenance=arguments.provenance,
        recipe=chosen.recipe,
        signing=_signing(arguments.c2pa_certificate, arguments.c2pa_key),
        device=device,
        batch_size=arguments.batch_size or (1 if device.type == "cpu" else 8),
        tile=arguments.tile,
        num_workers=arguments.workers or min(4, os.cpu_count() or 1),
        max_pixels=arguments.max_pixels or MAX_PIXELS,
        frames=arguments.frames,
        overwrite=arguments.overwrite,
        fail_fast=arguments.fail_fast,
    )


def _box(to: "Size | None", max_side: int | None) -> "Size | None":
    if to is not None and max_side is not None:
        raise UsageError(
            "both are given",
            where="--to and --max-side",
            expected="one of them",
            remedy="leave one out",
        )
    return to if max_side is None else (max_side, max_side)


def _read_only(arguments: _Arguments) -> dict[Path, str]:
    """Return further files that nothing may overwrite, each with its name in messages."""
    from i2i.engine import manifest

    named = {
        arguments.c2pa_certificate: "the certificate",
        arguments.c2pa_key: "the key",
        arguments.out / manifest.NAME: "the job's manifest",
        arguments.out / manifest.LOCK: "the job's lock",
    }
    return {path: name for path, name in named.items() if path is not None}


def _signing(certificate: Path | None, key: Path | None) -> "Signing | None":
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UsageError(
            "one is given without the other",
            where="--c2pa-certificate and --c2pa-key",
            expected="both, or neither",
            remedy="name the certificate's file and its private key's",
        )
    from i2i.signing import load_signing

    return load_signing(certificate, key)


def _write_sheet(
    plan: "Plan", rows: "Sequence[Mapping[str, Result]]", settings: "Settings"
) -> bool:
    """Write the contact sheet and say where, or why not; returns whether it was written."""
    from i2i.engine.outputs import make_sheet, save
    from i2i.imaging import encode, printable

    path = plan.out / _SHEET
    try:
        sheet = make_sheet(rows, plan.variants, settings.max_pixels)
        save(path, encode(sheet, "png", str(path)))
    except ImageError as error:
        click.echo(f"Error: {printable(str(error))}", err=True)
        return False
    num_pictures = len(plan.tasks) // len(plan.variants)
    first = f" (the first {SHEET_ROWS} pictures)" if len(rows) == SHEET_ROWS < num_pictures else ""
    click.echo(f"contact sheet: {printable(path)}{first}")
    return True


def _describe(summary: "Summary", out: Path) -> list[str]:
    """Return the last lines: what was said of pictures, and how many became what."""
    from i2i.imaging import printable

    notes = [
        f"{count} picture{'s' if count > 1 else ''}: {note}"
        for note, count in sorted(summary.notes.items())
    ]
    kept = f"{summary.num_kept} done before, " if summary.num_kept else ""
    left = f", {summary.num_left} left" if summary.num_left else ""
    counts = (
        f"{summary.num_done} done, {kept}{summary.num_failed} failed, "
        f"{summary.num_skipped} skipped{left} in {summary.seconds:.1f} s"
    )
    start = "stopped: " if summary.num_left else ""
    return [*notes, f"{start}{counts}; the translations are in {printable(out)}"]
