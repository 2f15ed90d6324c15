"""``i2i models``: trained models: what there is, fetch one, look into one, import a foreign one."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from i2i.cli.tables import print_table
from i2i.errors import I2IError, UsageError
from i2i.plugins import load_plugins
from i2i.recipe import find_recipe, list_recipes

if TYPE_CHECKING:
    from i2i.downloads import Remote
    from i2i.model_file import Header
    from i2i.plugins import Plugins
    from i2i.recipe import Listed

_PATH = click.Path(path_type=Path)


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List, fetch and show trained models, or import one of another program.

    Fetched models lie in the user's cache, or in the folder that I2I_CACHE names; I2I_OFFLINE=1
    forbids the network. Without a sub-command, list.
    """
    if context.invoked_subcommand is None:
        _list()


@command.command("list")
def list_() -> None:
    """List the recipes that come with a model, then auxiliary networks, and where each is.

    shipped with i2i, here in the cache, or fetchable; unverified where nobody stated what the file
    must be: the first download decides, and later ones are compared with it.
    """
    _list()


@command.command()
@click.argument("name", metavar="NAME|FILE|all")
def fetch(name: str) -> None:
    """Download the model of a recipe, or of all, and make it ready; prints where it lies.

    NAME may also be an auxiliary network, such as vgg19; 'all' leaves these out.
    """
    plugins = load_plugins()
    if name in plugins.weights:
        click.echo(_network(name, plugins))
        return
    if name != "all":
        click.echo(_ready(find_recipe(name, plugins), plugins))
        return
    failed = 0
    for each in list_recipes(plugins):
        if each.remote is None:
            continue
        try:
            click.echo(_ready(each.path, plugins))
        except I2IError as error:
            failed += 1
            click.echo(f"Error: {error}", err=True)
    if failed:
        click.get_current_context().exit(1)


@command.command()
@click.argument("name", metavar="NAME|FILE")
def show(name: str) -> None:
    """Print what a model file says of itself, or where the model of a recipe comes from."""
    if Path(name).is_file() and not name.endswith(".toml"):
        _show_file(Path(name))
        return
    plugins = load_plugins()
    path = find_recipe(name, plugins)
    listed = next((each for each in list_recipes(plugins) if each.path == path), None)
    for line in _describe(path, listed, plugins):
        click.echo(line)


@command.command("import")
@click.argument("source", metavar="FILE", type=_PATH)
@click.option("-o", "--out", required=True, type=_PATH, help="The model file to write.")
@click.option("--as", "importer", metavar="NAME", help="The importer to use; else all are tried.")
@click.option("--part", metavar="NAME", help="The network to take from a file that holds several.")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="An option of the family."
)
@click.option("--licence", metavar="TEXT", default="unknown", help="The terms of the weights.")
def import_(
    source: Path,
    out: Path,
    importer: str | None,
    part: str | None,
    overrides: tuple[str, ...],
    licence: str,
) -> None:
    """Turn a checkpoint of another program into a model file for 'i2i translate --model'.

    What it is follows from the names and shapes of its tensors. The file is read without running
    anything that it holds, and the model keeps its precision.
    """
    from i2i.importing import Asked, import_model

    if out.exists():
        raise UsageError(
            "is there already",
            where=str(out),
            expected="a name that is free",
            remedy="choose another with -o, or delete it",
        )
    if not out.parent.is_dir():
        raise UsageError(
            "there is no such folder",
            where=str(out.parent),
            expected="a folder that exists",
            remedy="make it, or choose another with -o",
        )
    asked = Asked(importer=importer, part=part, overrides=overrides, licence=licence)
    made = import_model(source, out, load_plugins(), asked)
    for note in made.notes:
        click.echo(f"note: {note}", err=True)
    options = ", ".join(f"{key}={value}" for key, value in made.header.options.items())
    click.echo(f"{out}: {made.header.family} with {made.num_parameters:,} parameters")
    click.echo(f"options: {options}")
    click.echo(f"licence: {licence}")


def _list() -> None:
    plugins = load_plugins()
    listed = [each for each in list_recipes(plugins) if each.has_weights]
    print_table(
        ("recipe", "family", "model", "size", "licence"),
        [(each.name, each.family, each.model, _size(each), _licence(each)) for each in listed],
    )
    networks = sorted(plugins.weights.values(), key=lambda remote: remote.name)
    if networks:
        click.echo()
        print_table(
            ("network", "file", "size", "licence"),
            [(each.name, _state(each), each.size, each.licence) for each in networks],
        )


def _state(remote: "Remote") -> str:
    return "here" if remote.path.is_file() else "fetchable"


def _size(listed: "Listed") -> str:
    from i2i.downloads import megabytes

    if listed.file is not None:
        return megabytes(listed.file.stat().st_size)
    return (listed.remote.size if listed.remote else "") or "?"


def _licence(listed: "Listed") -> str:
    return (listed.remote.licence if listed.remote else "") or listed.licence


def _ready(path: Path, plugins: "Plugins") -> Path:
    """Return the model file of a recipe, fetched and imported where need be."""
    from i2i.cli.fetching import showing_downloads
    from i2i.recipe import load_recipe
    from i2i.store import model_path

    recipe = load_recipe(path, plugins)
    with showing_downloads() as watcher:
        return model_path(path, recipe, plugins, watcher)


def _network(name: str, plugins: "Plugins") -> Path:
    """Return the file of an auxiliary network, fetched where need be."""
    from i2i.cli.fetching import showing_downloads
    from i2i.nn.pretrained import pretrained

    with showing_downloads() as watcher:
        return pretrained(name, plugins.weights, watcher)


def _describe(path: Path, listed: "Listed | None", plugins: "Plugins") -> Iterator[str]:
    """Yield where a recipe's model comes from, and what its file says where it is here."""
    from i2i.recipe import load_recipe, remote_of

    recipe = load_recipe(path, plugins)
    weights = recipe.weights
    yield f"recipe: {path}"
    if weights is None:
        yield "model: none; train one with 'i2i train'"
        return
    remote = remote_of(path.stem, weights.model_dump())
    if remote is None:
        from i2i.model_file import read_header

        file = path.parent / str(weights.file)
        yield f"model: {file}"
        if file.is_file():
            header = read_header(file)
            yield f"licence: {header.licence}"
            yield f"trained on: {header.training.get('data', 'unknown')}"
            yield f"more: i2i models show {file}"
        return
    if listed is not None:
        yield f"model: {listed.model}"
    yield f"url: {remote.url}"
    yield f"sha256: {remote.sha256 or 'unverified: nobody stated it'}"
    yield f"bytes: {remote.num_bytes or 'unknown'}"
    yield f"licence: {remote.licence or 'unknown'}"
    yield f"importer: {weights.importer or '-'}"
    yield f"cached as: {remote.path}"


def _show_file(path: Path) -> None:
    from i2i.downloads import megabytes, sha256_of
    from i2i.model_file import read_header

    header = read_header(path)
    click.echo(f"file: {path}")
    click.echo(f"size: {megabytes(path.stat().st_size)}")
    click.echo(f"sha256: {sha256_of(path)}")
    for line in _lines(header):
        click.echo(line)


def _lines(header: "Header") -> Iterator[str]:
    """Yield what a header says, a line a field; the recipe's text comes last."""
    said = header.model_dump(mode="json", exclude={"recipe"})
    for key, value in said.items():
        if isinstance(value, Mapping | list | tuple) and value:
            yield f"{key}:"
            entries = value.items() if isinstance(value, Mapping) else enumerate(value, 1)
            yield from (f"  {name}: {_plain(each)}" for name, each in entries)
        else:
            yield f"{key}: {_plain(value)}"
    if header.recipe:
        yield "recipe:"
        yield from (f"  {line}" for line in header.recipe.splitlines())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
