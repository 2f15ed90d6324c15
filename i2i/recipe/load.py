"""Read, override and validate recipes; every fault becomes one message."""

import copy
import json
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, create_model

from i2i.errors import PluginError, RecipeError, UsageError, unknown
from i2i.plugins import Plugins
from i2i.recipe.faults import explain, fields_of, is_nullable, model_in
from i2i.recipe.find import read_text, read_toml
from i2i.recipe.override import apply_override, key_of
from i2i.recipe.schema import Data, Recipe

Model = typing.TypeVar("Model", bound=BaseModel)

_DECIDING = ("family", "data.layout")
"""The keys that decide which other keys there are."""


def load_recipe(path: Path, plugins: Plugins, overrides: Iterable[str] = ()) -> Recipe:
    """Read and validate a recipe file; ``overrides`` are "key.path=value" texts.

    Raises RecipeError for what the file holds and UsageError for an override.
    """
    return parse_recipe(read_text(path), str(path), plugins, overrides)


def parse_recipe(text: str, where: str, plugins: Plugins, overrides: Iterable[str] = ()) -> Recipe:
    """Validate the TOML ``text`` of a recipe; ``where`` names it in messages."""
    raw = read_toml(text, where)
    overrides = list(overrides)
    deciding = [each for each in overrides if key_of(each) in _DECIDING]
    for override in deciding:
        apply_override(raw, override, Recipe)
    try:
        schema = recipe_type(raw, where, plugins)
    except RecipeError as error:
        if not deciding:
            raise
        raise _as_usage(error, f"--set {deciding[-1]}") from error
    before = copy.deepcopy(raw)
    for override in overrides:
        apply_override(raw, override, schema)
    try:
        return validate(schema, raw, " --set ".join([where, *overrides]))
    except RecipeError as error:
        if not overrides or not _is_valid(schema, before):
            raise
        raise _as_usage(error, error.where) from error


def recipe_type(raw: Mapping[str, Any], where: str, plugins: Plugins) -> type[Recipe]:
    """Return ``Recipe`` with the options of the family and the layout that ``raw`` names."""
    name = raw.get("family")
    if name is None:
        raise RecipeError(
            "the key is missing",
            where=f"{where}: family",
            expected=f"one of {', '.join(sorted(plugins.families))}",
            remedy=plugins.advice,
        )
    if not isinstance(name, str) or name not in plugins.families:
        raise unknown(
            "family named",
            name,
            sorted(plugins.families),
            where=f"{where}: family",
            error=RecipeError,
            otherwise=plugins.advice,
        )
    data = raw.get("data")
    layout = data.get("layout") if isinstance(data, Mapping) else None
    if layout is None:
        layout = Data.model_fields["layout"].default
    if not isinstance(layout, str) or layout not in plugins.layouts:
        raise unknown(
            "layout named",
            layout,
            sorted(plugins.layouts),
            where=f"{where}: data.layout",
            error=RecipeError,
            otherwise=plugins.advice,
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


def _is_valid(schema: type[BaseModel], raw: Mapping[str, Any]) -> bool:
    try:
        validate(schema, raw, "")
    except RecipeError:
        return False
    return True


def _as_usage(error: RecipeError, where: str) -> UsageError:
    """Return the same message for a recipe that was sound before ``--set`` changed it."""
    return UsageError(error.wrong, where=where, expected=error.expected, remedy=error.remedy)


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
