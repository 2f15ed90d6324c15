"""Find recipes and read their TOML; nothing here needs pydantic, so listing is quick."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i2i.downloads import Remote
from i2i.errors import RecipeError, UsageError, nearest, unknown
from i2i.plugins import Plugins


@dataclass(frozen=True)
class Listed:
    """One line of ``i2i recipes``: read, but not yet validated."""

    name: str
    path: Path
    family: str
    summary: str
    file: Path | None = None  # the model file that comes with it
    remote: Remote | None = None  # the model to fetch
    licence: str = ""
    fault: str = ""  # why the file cannot be read, if it cannot

    @property
    def has_weights(self) -> bool:
        """Whether a model comes with the recipe, if only by a download."""
        return self.file is not None or self.remote is not None

    @property
    def model(self) -> str:
        """Where the model is: "shipped", "here", "fetchable", or "-" without one.

        One whose hash nobody stated is "unverified" as well.
        """
        if self.remote is None:
            return "-" if self.file is None else "shipped"
        where = "here" if self.remote.path.is_file() else "fetchable"
        return where if self.remote.sha256 else f"{where}, unverified"


def list_recipes(plugins: Plugins) -> list[Listed]:
    """Return the recipes that plugins offer, by name; a damaged one is listed with its fault."""
    return [_list(name, path) for name, path in sorted(_paths(plugins).items())]


def find_recipe(name: str, plugins: Plugins) -> Path:
    """Return the file of a recipe given by name or by path; raises UsageError."""
    if name.endswith(".toml") or "/" in name or "\\" in name:
        path = Path(name)
        if path.is_file():
            return path
        beside = {other.stem: str(other) for other in sorted(path.parent.glob("*.toml"))}
        near = nearest(path.stem, beside)  # not of whole paths: what is alike in all says nothing
        raise UsageError(
            "there is no such file",
            where=name,
            expected="a recipe in TOML",
            remedy="check the path" if near is None else f"did you mean {beside[near]!r}?",
        )
    known = _paths(plugins)
    if name not in known:
        look = "run 'i2i recipes' to see them, or give the path of a .toml file"
        raise unknown("recipe named", name, sorted(known), where="recipes", otherwise=look)
    return known[name]


def read_text(path: Path) -> str:
    """Return the text of a recipe file; raises RecipeError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"cannot be read ({error})",
            where=str(path),
            expected="a recipe in TOML",
            remedy="check the path and the file",
        ) from error


def read_toml(text: str, where: str) -> dict[str, Any]:
    """Return the tables of a recipe's text; raises RecipeError."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(
            f"not valid TOML: {error}",
            where=where,
            expected="a recipe as 'i2i recipes schema' describes it",
            remedy="correct that line",
        ) from error


def remote_of(name: str, weights: Mapping[str, Any]) -> Remote | None:
    """Return what a recipe's ``[weights]`` names to be fetched; None where it ships a file.

    The table need not be valid: what is not of its kind is left out.
    """

    def kept(key: str, kind: type) -> Any:
        value = weights.get(key)
        return value if isinstance(value, kind) else None

    url = kept("url", str)
    if url is None:
        return None
    licence = kept("licence", str) or ""
    return Remote(name, url, kept("sha256", str), kept("bytes", int), licence)


def _paths(plugins: Plugins) -> dict[str, Path]:
    folders = plugins.recipe_folders
    return {path.stem: path for folder in folders for path in folder.glob("*.toml")}


def _list(name: str, path: Path) -> Listed:
    try:
        raw = read_toml(read_text(path), str(path))
    except RecipeError as error:
        return Listed(name, path, "?", "", fault=error.wrong)
    weights = raw.get("weights")
    weights = weights if isinstance(weights, Mapping) else {}
    file = weights.get("file")
    there = isinstance(file, str) and (path.parent / file).is_file()
    return Listed(
        name,
        path,
        family=str(raw.get("family", "?")),
        summary=str(raw.get("summary", "")),
        file=path.parent / str(file) if there else None,
        remote=remote_of(name, weights),
        licence=str(raw.get("licence", "")),
    )
