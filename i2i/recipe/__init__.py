"""Recipes: TOML files, validated into a frozen ``Recipe``.

A recipe names a family and everything that a run needs. Its ``[model]`` and ``[request]`` are the
family's own ``Options`` and ``Request``, its ``[data.options]`` the layout's, so the whole file is
checked at once and one JSON schema describes it. Names are resolved when they are first used:
listing recipes imports neither torch nor pydantic.
"""

from typing import TYPE_CHECKING, Any

from i2i.lazy import resolve

if TYPE_CHECKING:
    from i2i.recipe.find import Listed, find_recipe, list_recipes, remote_of
    from i2i.recipe.load import load_recipe, parse_recipe, recipe_type, validate
    from i2i.recipe.override import apply_override
    from i2i.recipe.schema import (
        Augment,
        Data,
        Frozen,
        HostTransform,
        Images,
        Player,
        Recipe,
        Run,
        Stage,
        Translate,
        Validate,
        Weights,
    )

_HOMES = {
    "Augment": "schema",
    "Data": "schema",
    "Frozen": "schema",
    "HostTransform": "schema",
    "Images": "schema",
    "Listed": "find",
    "Player": "schema",
    "Recipe": "schema",
    "Run": "schema",
    "Stage": "schema",
    "Translate": "schema",
    "Validate": "schema",
    "Weights": "schema",
    "apply_override": "override",
    "find_recipe": "find",
    "list_recipes": "find",
    "load_recipe": "load",
    "parse_recipe": "load",
    "recipe_type": "load",
    "remote_of": "find",
    "validate": "load",
}

__all__ = [
    "Augment",
    "Data",
    "Frozen",
    "HostTransform",
    "Images",
    "Listed",
    "Player",
    "Recipe",
    "Run",
    "Stage",
    "Translate",
    "Validate",
    "Weights",
    "apply_override",
    "find_recipe",
    "list_recipes",
    "load_recipe",
    "parse_recipe",
    "recipe_type",
    "remote_of",
    "validate",
]


def __getattr__(name: str) -> Any:
    return resolve(__name__, _HOMES, name)
