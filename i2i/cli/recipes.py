"""``i2i recipes``: what there is, what one holds, and what one may hold."""

import json
from collections.abc import Iterator
from typing import Any

import click

from i2i.cli.tables import print_table
from i2i.plugins import load_plugins
from i2i.recipe import find_recipe, list_recipes


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List recipes, show one, or print their schema. Without a sub-command, list."""
    if context.invoked_subcommand is None:
        _list()


@command.command("list")
def list_() -> None:
    """List recipes, and which of them come with a trained model."""
    _list()


@command.command()
@click.argument("name", metavar="NAME|FILE")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Set a recipe key.")
def show(name: str, overrides: tuple[str, ...]) -> None:
    """Print a recipe as TOML, validated, with every key."""
    from i2i.data import HostAugment
    from i2i.recipe import load_recipe

    plugins = load_plugins()
    recipe = load_recipe(find_recipe(name, plugins), plugins, overrides)
    inputs = plugins.family(recipe.family).inputs
    plugins.layout(recipe.data.layout).check(recipe.data.options, inputs)
    HostAugment(recipe.augment.host)  # refuses what albumentations would
    click.echo(recipe.to_toml(), nl=False)
    if unset := list(_unset(recipe.model_dump(mode="json", by_alias=True))):
        click.echo(f"\n# not set: {', '.join(unset)}")


@command.command()
@click.option("--family", help="With this family's options; else they may be anything.")
def schema(family: str | None) -> None:
    """Print the JSON schema of recipes."""
    from i2i.recipe import Recipe, recipe_type

    kind = Recipe
    if family is not None:
        plugins = load_plugins()
        plugins.family(family)  # a name that was mistyped here is no fault of a recipe
        kind = recipe_type({"family": family}, "recipe", plugins)
    click.echo(json.dumps(kind.model_json_schema(), indent=2))


def _list() -> None:
    listed = list_recipes(load_plugins())
    print_table(
        ("recipe", "family", "model", "summary", "licence"),
        [
            (
                each.name,
                each.family,
                each.model,
                each.summary,
                each.licence,
            )
            for each in listed
            if not each.fault
        ],
    )
    for each in listed:
        if each.fault:
            click.echo(f"{each.name} ({each.path}): {each.fault}", err=True)


def _unset(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the key paths of a recipe that hold None, which TOML cannot spell."""
    for key, value in table.items():
        if value is None:
            yield f"{prefix}{key}"
        elif isinstance(value, dict):
            yield from _unset(value, f"{prefix}{key}.")
