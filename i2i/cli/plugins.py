"""``i2i plugins``: what is installed, what was skipped and why, and a switch for each."""

from pathlib import Path

import click

from i2i.cli.tables import print_table
from i2i.plugins import Plugins, installed, load_plugins, set_disabled
from i2i.switches import config_file, disabled


@click.group(invoke_without_command=True)
@click.option("--names", is_flag=True, help="Print the names of the plugins in use, one a line.")
@click.pass_context
def command(context: click.Context, names: bool) -> None:
    """List plugins, or switch one off and on.

    A plugin that does not work is skipped and named with the reason; everything else goes on.
    I2I_DISABLE=NAME,NAME in the environment switches plugins off for one run. Without a
    sub-command, list.
    """
    if context.invoked_subcommand is None:
        _list(names=names)


@command.command("list")
@click.option("--names", is_flag=True, help="Print the names of the plugins in use, one a line.")
def list_(names: bool) -> None:
    """List families, layouts, metrics, importers and skipped plugins."""
    _list(names=names)


@command.command()
@click.argument("name")
def disable(name: str) -> None:
    """Switch the plugin NAME off, without importing it."""
    _say_rescued(set_disabled(name, off=True))
    click.echo(f"{name} is switched off in {config_file()}")


@command.command()
@click.argument("name")
def enable(name: str) -> None:
    """Switch the plugin NAME on again."""
    _say_rescued(set_disabled(name, off=False))
    click.echo(f"{name} is switched on")
    if name in disabled():
        click.echo(f"but {disabled()[name]} still switches it off", err=True)


def _say_rescued(path: Path | None) -> None:
    if path is not None:
        click.echo(f"the damaged configuration lies in {path}", err=True)


def _list(*, names: bool) -> None:
    plugins = load_plugins()
    if names:
        click.echo("\n".join(each.plugin for each in plugins.loaded))
        return
    _print_offers(plugins)
    if plugins.skipped:
        click.echo("Skipped:")
    for each in plugins.skipped:
        origin = f"{each.distribution} {each.version}".rstrip()
        click.echo(f"  {each.plugin} ({origin}): {each.reason}")
    for name in sorted(disabled().keys() - set(installed())):
        click.echo(f"{disabled()[name]} disables {name!r}, which is not installed", err=True)


def _print_offers(plugins: Plugins) -> None:
    offers = {
        "family": plugins.families,
        "layout": plugins.layouts,
        "metric": plugins.metrics,
        "importer": plugins.importers,
    }
    rows = [
        (kind, offer.name, offer.plugin, offer.distribution, offer.version, offer.source)
        for kind, offered in offers.items()
        for offer in offered.values()
    ]
    told = {plugin for _, _, plugin, *_ in rows}
    rows += [
        ("other", "-", each.plugin, each.distribution, each.version, each.source)
        for each in plugins.loaded
        if each.plugin not in told
    ]
    print_table(("offers", "name", "plugin", "distribution", "version", "source"), rows)
