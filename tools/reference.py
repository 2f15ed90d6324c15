"""Write docs/reference.md from the code: commands, recipe keys, families' options, hooks, errors.

``python tools/reference.py`` writes it; a test compares it with what is committed.
"""

import inspect
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from i2i import hookspecs
from i2i.cli import COMMANDS, main
from i2i.plugins import Plugins, load_plugins
from i2i.recipe import Recipe

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"


def page() -> str:
    """Return the whole page."""
    plugins = load_plugins()
    parts = [
        "# Reference",
        "Written from the code by `python tools/reference.py`; a test keeps it true.",
        *commands(),
        *recipe_keys(plugins),
        *hooks(),
    ]
    return "\n\n".join(parts) + "\n"


def commands() -> Iterator[str]:
    """Describe every command by its own help."""
    yield "## Commands"
    context = click.Context(main, info_name="i2i")
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        yield from _command(command, click.Context(command, info_name=name, parent=context))


def recipe_keys(plugins: Plugins) -> Iterator[str]:
    """List the keys of a recipe, and the options of the families and layouts that come with i2i."""
    yield "## Recipe keys"
    yield _table(_keys(Recipe, ""))
    for name in plugins.families:
        family = plugins.family(name)
        yield f"### `[model]` of {name}"
        yield _table(_keys(family.Options, ""))
        yield f"### `[request]` of {name}: `i2i translate --set`"
        yield _table(_keys(family.Request, ""))
    for name in plugins.layouts:
        yield f"### `[data.options]` of the layout {name}"
        yield _table(_keys(plugins.layout(name).Options, ""))


def hooks() -> Iterator[str]:
    """List the hooks with their arguments and their sentence."""
    yield "## Hooks"
    rows = []
    for name, function in vars(hookspecs).items():
        if name.startswith("i2i_"):
            arguments = ", ".join(inspect.signature(function).parameters)
            rows.append((f"`{name}({arguments})`", " ".join(inspect.getdoc(function).split())))
    yield _table(rows, ("hook", "what it is for"))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    with context.scope():
        usage = command.get_usage(context).removeprefix("Usage: ")
        yield f"### `{usage}`"
        yield _prose(command.help or "")
        options = [
            record
            for each in command.params
            if (record := each.get_help_record(context)) is not None
        ]
        if options:
            rows = [(f"`{names}`", " ".join(text.split())) for names, text in options]
            yield _table(rows, ("option", "meaning"))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _command(child, click.Context(child, info_name=name, parent=context))


def _prose(text: str) -> str:
    """Turn click's help into Markdown: a block after a backspace keeps its lines."""
    paragraphs = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            paragraphs.append(f"```sh\n{paragraph.removeprefix(chr(8)).strip()}\n```")
        else:
            paragraphs.append(" ".join(paragraph.split()))
    return "\n\n".join(paragraphs)


def _keys(model: type[BaseModel], prefix: str) -> list[tuple[str, str]]:
    rows = []
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        default = _default(field)
        rows.append((f"`{key}`", " ".join(filter(None, [field.description, default]))))
        rows += [
            row for table, step in _tables(field.annotation) for row in _keys(table, key + step)
        ]
    return rows


def _tables(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the tables that a field holds, each with what comes between the keys."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, "."
        return
    step = {tuple: "[].", Mapping: ".NAME."}.get(typing.get_origin(annotation), ".")
    for argument in typing.get_args(annotation):
        for table, _ in _tables(argument):
            yield table, step


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=False)
    if field.is_required():
        return "Required."
    if (
        field.default_factory is not None
        or value is None
        or isinstance(value, BaseModel | dict)
        or value in ("", ())
    ):
        return ""
    return f"Default: `{str(value).lower() if isinstance(value, bool) else value}`."


def _table(rows: list[tuple[str, str]], heading: tuple[str, str] = ("key", "meaning")) -> str:
    lines = [heading, ("---", "---"), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {first} | {second} |" for first, second in escaped)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
