"""The options of commands that use a trained model: each stands once, as a decorator."""

from pathlib import Path

import click


def _read_tile(context: click.Context, parameter: click.Parameter, value: str) -> int | str:
    """Return the value of ``--tile``; raises click.BadParameter."""
    if value in ("auto", "off"):
        return value
    if not value.isdecimal() or int(value) == 0:
        raise click.BadParameter(f"{value!r} is neither auto, off nor a number of pixels")
    return int(value)


RECIPE = click.option("--recipe", metavar="NAME|FILE", help="A recipe that comes with a model.")

MODEL = click.option(
    "--model", type=click.Path(path_type=Path), help="A model file, instead of a recipe."
)

REQUEST = click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="A field of the request."
)

DEVICE = click.option(
    "--device",
    default="auto",
    help="auto, cpu, cuda or cuda:N; auto takes a GPU if there is one.",
)

TILE = click.option(
    "--tile",
    metavar="auto|off|PIXELS",
    default="auto",
    callback=_read_tile,
    help="The longest side that a family which allows tiles sees at once; auto: what memory takes.",
)

PRECISION = click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    help="Of the networks; bfloat16 is faster where the device has it.",
)
