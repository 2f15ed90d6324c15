"""Which model a command uses, and what is asked of it: ``--recipe``, ``--model`` and ``--set``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from i2i.errors import RecipeError, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from i2i.model_file import Model
    from i2i.plugins import Plugins
    from i2i.recipe import Translate


@dataclass(frozen=True)
class Chosen:
    """What ``--recipe``, ``--model`` and ``--set`` name."""

    model: "Model"
    defaults: "Translate"
    request: "BaseModel"
    files: dict[Path, str]  # that it was read from, each with its name in messages
    recipe: str | None  # its name
    variants: "Mapping[str, BaseModel]"  # that the request stands for


def choose(
    recipe_name: str | None, model_file: Path | None, overrides: Sequence[str], plugins: "Plugins"
) -> Chosen:
    """Load the model, the settings it comes with, and the request that ``--set`` asks for.

    Raises UsageError unless one of recipe and model is given, or where an override is wrong, and
    what reading the recipe and the model raises.
    """
    from i2i.cli.fetching import showing_downloads
    from i2i.engine.variants import variants_of
    from i2i.model_file import load_model
    from i2i.recipe import Translate, find_recipe, load_recipe, validate
    from i2i.store import given, model_path

    if (recipe_name is None) == (model_file is None):
        raise UsageError(
            "both are given" if recipe_name else "neither is given",
            where="--recipe and --model",
            expected="one of them",
            remedy="name a recipe, or the file of a model ('i2i recipes' lists recipes)",
        )
    files: dict[Path, str] = {}
    name = None
    if model_file is not None:
        weights, notes = given(model_file, plugins)
        for note in notes:
            click.echo(f"note: {note}", err=True)
        files |= {model_file: "the model file", weights: "the model file"}
        model = load_model(weights, plugins)
        where = f"{model_file}: translate"
        defaults = validate(Translate, model.header.translate, where)
        base: Mapping[str, Any] = model.header.request
    else:
        path = find_recipe(str(recipe_name), plugins)
        name = path.stem
        recipe = load_recipe(path, plugins)
        with showing_downloads() as watcher:
            weights = model_path(path, recipe, plugins, watcher)
        files |= {path: "the recipe", weights: "the model file"}
        model = load_model(weights, plugins)
        defaults = recipe.translate
        base = recipe.request.model_dump(mode="json")
    family = type(model.translator)
    request = _request(family.Request, base, overrides)
    variants = variants_of(family, request)
    for each in variants.values():
        model.translator.check_request(each)
    return Chosen(model, defaults, request, files, name, variants)


def _request(
    schema: "type[BaseModel]", base: Mapping[str, Any], overrides: Sequence[str]
) -> "BaseModel":
    """Return the family's request: ``base`` with the "key=value" texts of ``--set``."""
    from i2i.recipe import apply_override, validate

    raw = dict(base)
    if overrides and not schema.model_fields:
        raise UsageError(
            "the family has nothing to ask for",
            where=f"--set {overrides[0]}",
            expected="no --set",
            remedy="leave it out",
        )
    for override in overrides:
        apply_override(raw, override, schema)
    try:
        return validate(schema, raw, "request")
    except RecipeError as error:
        if not overrides:
            raise
        raise UsageError(
            error.wrong,
            where=f"--set {' --set '.join(overrides)}",
            expected=error.expected,
            remedy=error.remedy,
        ) from error
