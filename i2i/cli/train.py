"""``i2i train``: train a family by a recipe, or go on with a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from i2i.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from i2i.plugins import Plugins
    from i2i.recipe import Recipe


@click.command("train")
@click.option("--recipe", "recipe_name", metavar="NAME|FILE", help="The recipe to train by.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="The data folder; the recipe's data.root unless given.",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="The run folder to make; new or empty."
)
@click.option(
    "--resume", type=click.Path(path_type=Path), help="Go on with this run folder, alone."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a recipe key.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--workers", default=0, show_default=True, type=click.IntRange(0), help="Loader processes."
)
@click.option(
    "--threads", type=click.IntRange(1), help="Processor threads; a resume needs the same number."
)
@click.pass_context
def command(
    context: click.Context,
    recipe_name: str | None,
    data: Path | None,
    out: Path | None,
    resume: Path | None,
    overrides: tuple[str, ...],
    device: str,
    workers: int,
    threads: int | None,
) -> None:
    """Train a model of your own, or go on with a run that was stopped or killed.

    \b
    i2i train --recipe horse2zebra --data horse2zebra/ -o runs/zebras
    i2i train --resume runs/zebras

    A run folder holds recipe.toml, checkpoint.pt, log.jsonl, tensorboard/, previews/ and,
    from the first preview on, model.safetensors. Ctrl-C and SIGTERM save and stop.
    """  # noqa: D301 - the escape is for click
    from i2i.data.loading import preload_workers
    from i2i.engine.device import choose_device
    from i2i.engine.observers import Console, JsonLog, Previews, TensorBoard
    from i2i.engine.trainer import Trainer
    from i2i.plugins import load_plugins

    plugins = load_plugins()
    preload_workers()
    if threads is not None:
        _use(threads)
    if resume is not None:
        if recipe_name or data or out or overrides:
            raise _misused("--resume goes alone: the run folder holds its recipe")
        recipe, folder = _resumed(resume, plugins), resume
    elif recipe_name is None or out is None:
        raise _misused("a new run needs --recipe and --out")
    else:
        recipe, folder = _chosen(recipe_name, data, overrides, plugins), out
        _check_new(folder)
    trainer = Trainer(
        recipe,
        folder,
        plugins,
        observers=[JsonLog(), TensorBoard(), Previews(), Console()],
        warn=lambda text: click.echo(f"Warning: {text}", err=True),
        device=choose_device(device),
        num_workers=workers,
    )
    if resume is None:
        _make(folder, recipe)
    if trainer.train() == "interrupted":
        context.exit(130)


def _use(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _chosen(name: str, data: Path | None, overrides: Sequence[str], plugins: "Plugins") -> "Recipe":
    """Load a recipe for a new run; its data folder, made absolute, goes with it."""
    from i2i.recipe import find_recipe, load_recipe

    path = find_recipe(name, plugins)
    recipe = load_recipe(path, plugins, overrides)
    if data is None and recipe.data.root is None:
        raise _misused("the recipe names no data folder: give one with --data")
    # a path inside a recipe is relative to the recipe, one on the command line to the caller
    given = any(each.partition("=")[0].strip() == "data.root" for each in overrides)
    base = Path() if given else path.parent
    root = data if data is not None else base / str(recipe.data.root)
    return recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"root": str(root.resolve())})}
    )


def _resumed(folder: Path, plugins: "Plugins") -> "Recipe":
    from i2i.recipe import load_recipe

    if not (folder / "recipe.toml").is_file():
        raise CheckpointError(
            "there is no recipe.toml",
            where=str(folder),
            expected="a run folder as 'i2i train' makes it",
            remedy="check the path, or start a run with --recipe and --out",
        )
    return load_recipe(folder / "recipe.toml", plugins)


def _check_new(folder: Path) -> None:
    """Refuse a run folder that holds anything: it is somebody's."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            "it exists and is not empty",
            where=str(folder),
            expected="a new or empty run folder",
            remedy=f"choose another --out, or go on with it: i2i train --resume {folder}",
        )


def _make(folder: Path, recipe: "Recipe") -> None:
    from i2i.files import write_atomically

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "recipe.toml", recipe.to_toml().encode())
    except OSError as error:
        raise UsageError(
            f"the run folder cannot be made ({error.strerror})",
            where=str(folder),
            expected="a place that can be written to",
            remedy="choose another --out",
        ) from error


def _misused(wrong: str) -> UsageError:
    return UsageError(
        wrong,
        where="i2i train",
        expected="--recipe NAME --data DIR -o RUN, or --resume RUN",
        remedy="see 'i2i train --help'",
    )
