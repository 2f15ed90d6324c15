"""Find, read, override and validate recipes; every fault becomes one message."""

import json
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, create_model

from i2i.errors import PluginError, RecipeError, UsageError, suggest
from i2i.plugins import Plugins
from i2i.recipe.faults import explain, fields_of, is_nullable, model_in
from i2i.recipe.override import apply_override, key_of
from i2i.recipe.schema import Data, Recipe

Model = typing.TypeVar("Model", bound=BaseModel)

_DECIDING = ("family", "data.layout")
"""The keys that decide which other keys there are."""


@dataclass(frozen=True)
class Listed:
    """One line of ``i2i recipes``: read, but not yet validated."""

    name: str
    path: Path
    family: str
    summary: str
    has_weights: bool
    licence: str = ""
    fault: str = ""  # why the file cannot be read, if it cannot


def list_recipes(plugins: Plugins) -> list[Listed]:
    """Return the recipes that plugins offer, by name; a damaged one is listed with its fault."""
    return [_list(name, path) for name, path in sorted(_paths(plugins).items())]


def find_recipe(name: str, plugins: Plugins) -> Path:
    """Return the file of a recipe given by name or by path; raises UsageError."""
    if name.endswith(".toml") or "/" in name or "\\" in name:
        path = Path(name)
        if path.is_file():
            return path
        beside = [str(other) for other in sorted(path.parent.glob("*.toml"))]
        raise UsageError(
            "there is no such file",
            where=name,
            expected="a recipe in TOML",
            remedy=suggest(str(path), beside, "check the path"),
        )
    known = _paths(plugins)
    if name not in known:
        raise UsageError(
            f"there is no recipe named {name!r}",
            where="recipes",
            expected=f"one of {', '.join(sorted(known)) or 'none installed'}, or a .toml file",
            remedy=suggest(name, known, "run 'i2i recipes' to see them"),
        )
    return known[name]


def load_recipe(path: Path, plugins: Plugins, overrides: Iterable[str] = ()) -> Recipe:
    """Read and validate a recipe file; ``overrides`` are "key.path=value" texts.

    Raises RecipeError for what the file holds and UsageError for an override.
    """
    return parse_recipe(_read(path), str(path), plugins, overrides)


def parse_recipe(text: str, where: str, plugins: Plugins, overrides: Iterable[str] = ()) -> Recipe:
    """Validate the TOML ``text`` of a recipe; ``where`` names it in messages."""
    raw = _parse(text, where)
    overrides = list(overrides)
    deciding = [each for each in overrides if key_of(each) in _DECIDING]
    for override in deciding:
        apply_override(raw, override, Recipe)
    try:
        schema = recipe_type(raw, where, plugins)
    except RecipeError as error:
        if not deciding:
            raise
        raise UsageError(
            error.wrong,
            where=f"--set {deciding[-1]}",
            expected=error.expected,
            remedy=error.remedy,
        ) from error
    for override in overrides:
        apply_override(raw, override, schema)
    return validate(schema, raw, " --set ".join([where, *overrides]))


def recipe_type(raw: Mapping[str, Any], where: str, plugins: Plugins) -> type[Recipe]:
    """Return ``Recipe`` with the options of the family and the layout that ``raw`` names."""
    name = raw.get("family")
    if not isinstance(name, str) or name not in plugins.families:
        raise RecipeError(
            "the key is missing" if name is None else f"there is no family named {name!r}",
            where=f"{where}: family",
            expected=f"one of {', '.join(sorted(plugins.families)) or 'none installed'}",
            remedy=plugins.advice(str(name), plugins.families),
        )
    data = raw.get("data")
    layout = data.get("layout") if isinstance(data, Mapping) else None
    if layout is None:
        layout = Data.model_fields["layout"].default
    if not isinstance(layout, str) or layout not in plugins.layouts:
        raise RecipeError(
            f"there is no layout named {layout!r}",
            where=f"{where}: data.layout",
            expected=f"one of {', '.join(sorted(plugins.layouts)) or 'none installed'}",
            remedy=plugins.advice(str(layout), plugins.layouts),
        )
    family = plugins.family(name)
    options = plugins.layout(layout).Options
    for owner, table in ((name, family.Options), (name, family.Request), (layout, options)):
        _check_unset(table, owner)
    resolved = create_model("Data", __base__=Data, options=_table(options, Data, "options"))
    return create_model(
        "Recipe",
        __base__=Recipe,
        model=_table(family.Options, Recipe, "model"),
        request=_table(family.Request, Recipe, "request"),
        data=_table(resolved, Recipe, "data"),
    )


def validate(schema: type[Model], raw: Mapping[str, Any], where: str) -> Model:
    """Validate ``raw`` strictly: text is no number. Raises RecipeError for the first fault."""
    try:
        return schema.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        raise explain(error, schema, raw, where) from error


def _paths(plugins: Plugins) -> dict[str, Path]:
    folders = plugins.recipe_folders
    return {path.stem: path for folder in folders for path in folder.glob("*.toml")}


def _list(name: str, path: Path) -> Listed:
    try:
        raw = _parse(_read(path), str(path))
    except RecipeError as error:
        return Listed(name, path, "?", "", has_weights=False, fault=error.wrong)
    weights = raw.get("weights")
    file = weights.get("file") if isinstance(weights, Mapping) else None
    return Listed(
        name,
        path,
        family=str(raw.get("family", "?")),
        summary=str(raw.get("summary", "")),
        has_weights=isinstance(file, str) and (path.parent / file).is_file(),
        licence=str(raw.get("licence", "")),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"cannot be read ({error})",
            where=str(path),
            expected="a recipe in TOML",
            remedy="check the path and the file",
        ) from error


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(
            f"not valid TOML: {error}",
            where=where,
            expected="a recipe as 'i2i recipes schema' describes it",
            remedy="correct that line",
        ) from error


def _table(model: type[BaseModel], owner: type[BaseModel], key: str) -> Any:
    """Return a field definition for ``model``: optional where all of its own fields are."""
    description = owner.model_fields[key].description
    if any(field.is_required() for field in model.model_fields.values()):
        return model, Field(description=description)
    return model, Field(default_factory=model, description=description)


def _check_unset(table: type[BaseModel], owner: str) -> None:
    """Refuse a key that may be none and is not by default: TOML could not write that down."""
    for key, annotation in fields_of(table).items():
        inner = model_in(annotation)
        if inner is not None:
            _check_unset(inner, owner)
        field = next(each for name, each in table.model_fields.items() if key in (name, each.alias))
        if is_nullable(annotation) and (field.default is not None or field.default_factory):
            raise PluginError(
                f"{table.__name__}.{key} may be None, but is not by default",
                where=f"the options of {owner!r}",
                expected="None as the default, because TOML has no null",
                remedy="give another value the meaning of None",
            )
