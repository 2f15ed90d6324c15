"""The command line: one module a command, imported only when that command is asked for."""

import importlib
import sys
from io import TextIOWrapper
from typing import Any

import click

from i2i.errors import I2IError, suggest

COMMANDS = {
    "translate": "Translate pictures with a trained model.",
    "train": "Train a model by a recipe, or go on with a run.",
    "evaluate": "Measure how near a model's results come to their targets.",
    "recipes": "List recipes, show one, or print their schema.",
    "models": "List, fetch, show and import trained models.",
    "inspect": "Say what is in a picture or a model file, and what made it.",
    "plugins": "List plugins, or switch one off and on.",
    "data": "Check a data folder before anyone trains on it.",
}
"""Each command with its line of help; ``i2i.cli.NAME`` holds it as ``command``."""

INTERRUPTED = 130


class Commands(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"i2i.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            advice = suggest(name, COMMANDS, f"choose one of {', '.join(COMMANDS)}")
            ctx.fail(f"there is no command {name!r}; {advice}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of ours is one message, an interruption is status 130."""
        from i2i.switches import damage

        for stream in (sys.stdout, sys.stderr):  # a name may hold what a terminal does not know
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        if wrong := damage():
            click.echo(f"Warning: {wrong}", err=True)
        try:
            return super().invoke(ctx)
        except I2IError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_status)
        except KeyboardInterrupt:
            if ctx.params.get("debug"):
                raise
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="i2i-gan", prog_name="i2i")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Translate pictures between domains, and train the networks that do it."""
