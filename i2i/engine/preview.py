"""The few pictures that a run translates again and again, to see it learn."""

from collections.abc import Sequence

import torch
from torch import Tensor

from i2i.data import Layout
from i2i.engine.inference import translate_batch
from i2i.errors import RecipeError, suggest
from i2i.imaging import Picture, contact_sheet, from_tensor, read_picture, to_tensor
from i2i.recipe import Recipe
from i2i.translator import Translator


def preview_pairs(
    layout: Layout, recipe: Recipe, translator: Translator, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Translate the preview pictures of ``[validate]`` as the recipe's request says.

    Returns sources and results, (C, H, W) float32 in [-1, 1] on the CPU. Sources are reduced to
    the size of the training crops, so that a preview costs no more than a few steps.
    """
    role = recipe.validate_.role or layout.inputs.images[0]
    if role not in layout.inputs.images:
        raise RecipeError(
            f"there is no role {role!r}",
            where="validate.role",
            expected=f"one of {', '.join(layout.inputs.images)}",
            remedy=suggest(role, layout.inputs.images, "correct it"),
        )
    fit = translator.fit
    paths = layout.preview_pictures(role, recipe.validate_.pictures)
    sources = [to_tensor(read_picture(path).pixels, fit.channels_in) for path in paths]
    with torch.compiler.set_stance("force_eager"):  # other sizes than the crops' compile anew
        results = translate_batch(
            translator,
            sources,
            recipe.request,
            work_size="trained" if fit.trained_size else "native",
            restore_size=False,
            device=device,
        )
    return list(zip(sources, results, strict=True))


def preview_sheet(pairs: Sequence[tuple[Tensor, Tensor]]) -> Picture:
    """Return sources beside their translations as one picture."""
    return contact_sheet([(_picture(source), _picture(result)) for source, result in pairs])


def _picture(image: Tensor) -> Picture:
    return Picture(from_tensor(image))
