"""``i2i train``: train a family by a recipe, or go on with a run."""

from pathlib import Path

import click

from i2i.errors import CheckpointError, UsageError


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

    A run folder holds recipe.toml, checkpoint.pt, log.jsonl, tensorboard/, previews/ and, in the
    end, model.safetensors. Ctrl-C and SIGTERM save and stop.
    """  # noqa: D301 - the escape is for click
    from i2i.plugins import load_plugins

    plugins = load_plugins()
    if resume is not None:
        if recipe_name or data or out or overrides:
            raise _misused("--resume goes alone: the run folder holds its recipe")
        recipe_file, out = _resumable(resume), resume
    else:
        if recipe_name is None or out is None:
            raise _misused("a new run needs --recipe and --out")
        recipe_file = None
    import torch

    from i2i.engine.device import choose_device
    from i2i.engine.observers import Console, JsonLog, Previews, TensorBoard
    from i2i.engine.trainer import Trainer
    from i2i.recipe import find_recipe, load_recipe

    if recipe_file is not None:
        recipe = load_recipe(recipe_file, plugins)
    else:
        root = [f"data.root={data.resolve()}"] if data is not None else []
        recipe = load_recipe(find_recipe(str(recipe_name), plugins), plugins, [*overrides, *root])
    if recipe.data.root is None:
        raise _misused("the recipe names no data folder: give one with --data")
    if threads is not None:
        torch.set_num_threads(threads)
    trainer = Trainer(
        recipe,
        out,
        plugins,
        observers=[JsonLog(), TensorBoard(), Previews(), Console()],
        warn=lambda text: click.echo(f"Warning: {text}", err=True),
        device=choose_device(device),
        num_workers=workers,
    )
    if recipe_file is None:
        _begin(out, recipe.to_toml())
    if trainer.train() == "interrupted":
        context.exit(130)


def _begin(folder: Path, recipe: str) -> None:
    """Make the run folder; one that holds anything is somebody's, and left alone."""
    from i2i.model_file import write_atomically

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            "it exists and is not empty",
            where=str(folder),
            expected="a new or empty run folder",
            remedy=f"choose another --out, or go on with it: i2i train --resume {folder}",
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "recipe.toml", recipe.encode())


def _resumable(folder: Path) -> Path:
    if not (folder / "recipe.toml").is_file():
        raise CheckpointError(
            "there is no recipe.toml",
            where=str(folder),
            expected="a run folder as 'i2i train' makes it",
            remedy="check the path, or start a run with --recipe and --out",
        )
    return folder / "recipe.toml"


def _misused(wrong: str) -> UsageError:
    return UsageError(
        wrong,
        where="i2i train",
        expected="--recipe NAME --data DIR -o RUN, or --resume RUN",
        remedy="see 'i2i train --help'",
    )
