"""What can be wrong with a run, tried on a copy before the run folder is made."""

from collections.abc import Mapping

from i2i.augment import DeviceAugment
from i2i.data import HostAugment, Layout, example_shapes
from i2i.engine.preview import preview_sources
from i2i.engine.stage import make_players
from i2i.errors import RecipeError, suggest
from i2i.model_file import build, grow
from i2i.recipe import Recipe
from i2i.translator import Translator
from i2i.types import derive_seed


def data_seed(recipe: Recipe, stage: str) -> int:
    """Return the seed of a stage's data: no stage repeats another's order."""
    return derive_seed(recipe.run.seed, "data", stage)


def rehearse(
    recipe: Recipe,
    family: type[Translator],
    layout: Layout,
    augment: HostAugment,
    device_augment: DeviceAugment,
) -> None:
    """Build and grow every stage, match its players, and read the preview's pictures.

    Raises the error that training would meet later, in its first stage or its last.
    """
    translator = build(family, recipe.model, recipe.run.seed)
    _check_stages(recipe, translator)
    preview_sources(layout, recipe, translator.fit)
    for name in translator.stages:
        shapes = stage_shapes(recipe, name, layout, augment, device_augment)
        grow(translator, name, shapes, recipe.run.seed)
        make_players(name, recipe.stages[name], translator.players(name))


def stage_shapes(
    recipe: Recipe,
    stage: str,
    layout: Layout,
    augment: HostAugment,
    device_augment: DeviceAugment,
) -> Mapping[str, tuple[int, ...]]:
    """Return (C, H, W) of each role as a stage will see it."""
    loaded = example_shapes(layout, augment, seed=data_seed(recipe, stage))
    return device_augment.shapes(loaded)


def _check_stages(recipe: Recipe, translator: Translator) -> None:
    for name in translator.stages:
        if name not in recipe.stages:
            raise RecipeError(
                "the stage is missing",
                where=f"stages.{name}",
                expected=f"a table for each of {', '.join(translator.stages)}",
                remedy=f"add [stages.{name}]",
            )
    for name in recipe.stages:
        if name not in translator.stages:
            raise RecipeError(
                f"there is no stage {name!r}",
                where=f"stages.{name}",
                expected=f"one of {', '.join(translator.stages)}",
                remedy=suggest(name, translator.stages, "remove it"),
            )
