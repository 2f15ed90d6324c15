"""``i2i evaluate``: measure a trained model on pictures whose translations are known."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from i2i.cli import options
from i2i.errors import DataError, I2IError, RecipeError, UsageError, unknown

if TYPE_CHECKING:
    from i2i.cli.chosen import Chosen
    from i2i.engine.evaluation import Evaluation
    from i2i.engine.inference import Precision
    from i2i.engine.pairs import Folder
    from i2i.engine.records import Settings
    from i2i.metrics import Metric, Score
    from i2i.plugins import Plugins

ENLARGING = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "features")
"""The metrics of models that enlarge, unless told; the others' are ``SAME_SIZE``."""

SAME_SIZE = ("psnr_rgb", "ssim_rgb", "l1", "features")

_PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class _Arguments:
    """The command line, as given."""

    recipe: str | None
    model: Path | None
    data: Path
    split: Literal["test", "train"]
    layout: str | None
    metrics: str | None
    overrides: tuple[str, ...]
    device: str
    tile: int | Literal["auto", "off"]
    precision: str
    ensemble: bool
    report: Path | None


@click.command("evaluate")
@options.RECIPE
@options.MODEL
@click.option("--data", required=True, type=_PATH, help="The data folder.")
@click.option(
    "--split",
    type=click.Choice(["test", "train"]),
    default="test",
    help="Which of its pictures; test.",
)
@click.option(
    "--layout",
    metavar="NAME",
    help="How the folder becomes pairs, by that layout's defaults; else as the recipe says.",
)
@click.option(
    "--metrics",
    metavar="NAME,NAME",
    help=f"What to measure; {', '.join(ENLARGING)} of models that enlarge, of others "
    f"{', '.join(SAME_SIZE)}.",
)
@options.REQUEST
@options.DEVICE
@options.TILE
@options.PRECISION
@click.option("--ensemble", is_flag=True, help="Measure the mean of eight results a picture.")
@click.option("--report", type=_PATH, help="Write scores and each picture's values to this file.")
@click.pass_context
def command(context: click.Context, /, **given: Any) -> None:
    """Measure how near a model's results come to their targets.

    The model translates one picture of each pair, and the metrics compare the result with the
    other. A second row says what doing without a model reaches. Every number is printed with its
    protocol: values measured in another way cannot be compared with it. A picture that fails is
    named and left out of both rows; the exit status is 0 when all were measured, 1 when some were
    not, 2 when the command was wrong.
    """
    context.exit(_evaluate(context, _Arguments(**given)))


def _evaluate(context: click.Context, arguments: _Arguments) -> int:
    from i2i.cli.chosen import choose
    from i2i.engine.pairs import compared_roles
    from i2i.plugins import Plugins, load_plugins

    plugins = context.find_object(Plugins) or load_plugins()
    _check_names(arguments, plugins)
    _check_folder(arguments.data)
    chosen = choose(arguments.recipe, arguments.model, arguments.overrides, plugins)
    translator = chosen.model.translator
    compared_roles(translator)
    defaults = ENLARGING if translator.fit.scale > 1 else SAME_SIZE
    names = _names(arguments.metrics) if arguments.metrics is not None else defaults
    metrics = [plugins.metric(name) for name in names]
    settings = _settings(arguments, chosen)
    folder = _folder(arguments, chosen, plugins)
    _check_report(arguments.report, chosen, folder)
    _prepare(metrics)
    evaluation = _measured(arguments, chosen, metrics, settings, folder)
    return _tell(arguments, chosen, metrics, settings, folder, evaluation)


def _measured(
    arguments: _Arguments,
    chosen: "Chosen",
    metrics: "Sequence[Metric]",
    settings: "Settings",
    folder: "Folder",
) -> "Evaluation":
    from rich.console import Console
    from rich.progress import Progress

    from i2i.engine.evaluation import evaluate

    pairs = folder.found.pairs
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("measuring", total=len(pairs))
        return evaluate(
            chosen.model,
            pairs,
            metrics,
            settings,
            f"{arguments.data.resolve().name} ({arguments.split})",
            lambda done: progress.update(bar, completed=done),
        )


def _tell(
    arguments: _Arguments,
    chosen: "Chosen",
    metrics: "Sequence[Metric]",
    settings: "Settings",
    folder: "Folder",
    evaluation: "Evaluation",
) -> int:
    """Print errors, table and protocol, write the report, and return the exit status."""
    from i2i.engine.evaluation import report
    from i2i.imaging import printable

    for each in evaluation.pictures:
        if each.error is not None:
            click.echo(each.error, err=True)
    measured, count = evaluation.num_measured, len(evaluation.pictures)
    if measured:
        _print_table(_title(arguments), chosen, metrics, evaluation)
    where = f"{printable(arguments.data)} ({arguments.split}, layout {folder.layout})"
    number = f"all {count}" if measured == count else f"only {measured} of {count}"
    click.echo(f"over {number} pictures of {where}{_origin(folder)}")
    if folder.found.num_alone:
        click.echo(f"{folder.found.num_alone} pictures without a partner are left out")
    click.echo(f"model {_title(arguments)}, sha256 {chosen.model.sha256[:12]}{_how(settings)}")
    if arguments.report is not None:
        about = _about(arguments, folder)
        content = report(_title(arguments), chosen.model, settings, about, evaluation)
        _write(arguments.report, json.dumps(content, indent=1, allow_nan=False) + "\n")
        click.echo(f"the report is in {printable(arguments.report)}")
    return 0 if measured == count else 1


def _print_table(
    title: str, chosen: "Chosen", metrics: "Sequence[Metric]", evaluation: "Evaluation"
) -> None:
    """Print a row for the model and one for doing without, and how each column was measured."""
    from i2i.cli.tables import print_table
    from i2i.engine.evaluation import baseline_name

    def row(name: str, scores: "Sequence[Score]") -> list[str]:
        pairs = zip(metrics, scores, strict=True)
        return [name, *(f"{score.value:.{metric.digits}f}" for metric, score in pairs)]

    headers = [f"{each.name} ({each.unit})" if each.unit else each.name for each in metrics]
    scale = chosen.model.translator.fit.scale
    rows = [row(title, evaluation.model), row(baseline_name(scale), evaluation.baseline)]
    print_table(["", *headers], rows)
    for score in evaluation.model:
        click.echo(f"{score.name}: {score.protocol}; {score.better} is better")


def _check_names(arguments: _Arguments, plugins: "Plugins") -> None:
    """Raise UsageError for a metric or a layout that no plugin offers."""
    given = [] if arguments.metrics is None else _names(arguments.metrics)
    if arguments.metrics is not None and not given:
        raise UsageError(
            "it names no metric",
            where=f"--metrics {arguments.metrics!r}",
            expected=f"some of {', '.join(sorted(plugins.metrics))}, with commas between them",
            remedy="name one, or leave it out",
        )
    for name in given:
        if name not in plugins.metrics:
            known = sorted(plugins.metrics)
            otherwise = plugins.advice
            raise unknown("metric named", name, known, where="--metrics", otherwise=otherwise)
    if arguments.layout is not None and arguments.layout not in plugins.layouts:
        known = sorted(plugins.layouts)
        raise unknown(
            "layout named", arguments.layout, known, where="--layout", otherwise=plugins.advice
        )


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(
            "there is no such folder",
            where=f"--data {folder}",
            expected="a data folder",
            remedy="check the path",
        )


def _folder(arguments: _Arguments, chosen: "Chosen", plugins: "Plugins") -> "Folder":
    """Find the pairs, by the layout that is asked for or that the model was trained by."""
    from i2i.engine.pairs import layout_of, open_folder
    from i2i.recipe import find_recipe, load_recipe

    translator = chosen.model.translator
    found = arguments.data, arguments.split, translator, plugins
    if arguments.layout is not None:
        try:
            return open_folder(*found, (arguments.layout, None))
        except RecipeError as error:  # no recipe said so
            where = f"--layout {arguments.layout}"
            raise UsageError(
                error.wrong, where=where, expected=error.expected, remedy=error.remedy
            ) from error
    if arguments.recipe is not None:
        data = load_recipe(find_recipe(arguments.recipe, plugins), plugins).data
        return open_folder(*found, (data.layout, data.options))
    return open_folder(*found, layout_of(chosen.model.header, plugins))


def _settings(arguments: _Arguments, chosen: "Chosen") -> "Settings":
    """Return how results are made: as 'i2i translate' makes them, in the sizes of the targets."""
    from i2i.engine.device import choose_device
    from i2i.engine.records import Settings
    from i2i.engine.variants import only_request

    return Settings(
        request=only_request(type(chosen.model.translator), chosen.request),
        work_size=chosen.defaults.work_size,
        restore=chosen.defaults.restore,
        ensemble=arguments.ensemble,
        precision=cast("Precision", arguments.precision),
        device=choose_device(arguments.device),
        tile=arguments.tile,
    )


def _prepare(metrics: "Sequence[Metric]") -> None:
    from i2i.cli.fetching import showing_downloads

    with showing_downloads() as watcher:
        for metric in metrics:
            metric.prepare(watcher)


def _check_report(report: Path | None, chosen: "Chosen", folder: "Folder") -> None:
    """Raise UsageError for a report in the place of what is read, before the work is done."""
    if report is None:
        return
    read = dict(chosen.files)
    for pair in folder.found.pairs:
        read |= {pair.source.path: "a picture", pair.target.path: "a picture"}
    place = report.resolve()
    taken = next((name for path, name in read.items() if path.resolve() == place), None)
    if taken is None and report.is_dir():
        taken = "a folder"
    if taken is not None:
        raise UsageError(
            f"the report would overwrite {taken}",
            where=f"--report {report}",
            expected="a name that is free",
            remedy="choose another",
        )


def _write(path: Path, text: str) -> None:
    from i2i.files import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise I2IError(
            f"cannot be written ({error.strerror or error})",
            where=f"--report {path}",
            expected="a file that may be written, in a folder with space",
            remedy="choose another",
        ) from error


def _title(arguments: _Arguments) -> str:
    from i2i.imaging import printable

    return printable(arguments.model.name if arguments.model else Path(str(arguments.recipe)).stem)


def _origin(folder: "Folder") -> str:
    """Return which folders the pairs come from: low resolution may be made or given."""
    from i2i.imaging import printable

    def of(paths: Iterable[Path]) -> str:
        common = Path(os.path.commonpath([path.resolve().parent for path in paths]))
        root = folder.root.resolve()
        return printable(common.relative_to(root) if common.is_relative_to(root) else common)

    pairs = folder.found.pairs
    sources, targets = of(p.source.path for p in pairs), of(p.target.path for p in pairs)
    if all(pair.source.path == pair.target.path for pair in pairs):
        return f", sources and targets from the files in {targets}"
    return f", sources from {sources}, targets from {targets}"


def _how(settings: "Settings") -> str:
    """Return what differs from the plainest translation."""
    request = settings.request.model_dump(mode="json", exclude_defaults=True)
    said = [f"{key}={value}" for key, value in request.items()]
    said += [f"work size {settings.work_size}"] * (settings.work_size != "native")
    said += [settings.precision] * (settings.precision != "float32")
    said += ["ensemble"] * settings.ensemble
    return "".join(f", {each}" for each in said)


def _about(arguments: _Arguments, folder: "Folder") -> dict[str, Any]:
    """Return what the report says of the data."""
    from i2i.imaging import printable

    return {
        "folder": printable(arguments.data.resolve()),
        "split": arguments.split,
        "layout": folder.layout,
        "options": folder.options.model_dump(mode="json"),
        "num_pairs": len(folder.found.pairs),
        "num_alone": folder.found.num_alone,
    }
