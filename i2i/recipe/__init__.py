"""Recipes: TOML files, validated into a frozen ``Recipe``.

A recipe names a family and everything that a run needs. Its ``[model]`` and ``[request]`` are the
family's own ``Options`` and ``Request``, its ``[data.options]`` the layout's, so the whole file is
checked at once and one JSON schema describes it. Listing recipes imports no torch.
"""

from i2i.recipe.load import (
    Listed,
    find_recipe,
    list_recipes,
    load_recipe,
    parse_recipe,
    recipe_type,
    validate,
)
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
    "validate",
]
