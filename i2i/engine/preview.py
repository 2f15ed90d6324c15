"""The few pictures that a run translates again and again, to see it learn."""

from collections.abc import Sequence

import torch
from torch import Tensor

from i2i.data import Layout
from i2i.engine.inference import reduce, resolve_work_size, translate_batch
from i2i.engine.variants import variants_of
from i2i.errors import RecipeError, suggest
from i2i.imaging import Picture, contact_sheet, from_tensor, read_picture, rgb8, to_tensor
from i2i.recipe import Recipe
from i2i.translator import Translator
from i2i.types import Fit


def preview_sources(layout: Layout, recipe: Recipe, fit: Fit) -> list[Tensor]:
    """Read the preview pictures of ``[validate]``: (C, H, W) float32 in [-1, 1].

    They are reduced to the recipe's work size, as a folder's would be. Raises RecipeError for an
    unknown role, ImageError for a picture that cannot be read and DataError for one that cannot be
    cut from its file.
    """
    role = recipe.validate_.role or layout.inputs.images[0]
    if role not in layout.inputs.images:
        raise RecipeError(
            f"there is no role {role!r}",
            where="validate.role",
            expected=f"one of {', '.join(layout.inputs.images)}",
            remedy=suggest(role, layout.inputs.images, "correct it"),
        )
    if not recipe.validate_.pictures:
        return []
    work_size = recipe.translate.work_size
    short_side = None if work_size == "trained" else resolve_work_size(work_size, fit)
    parts = layout.preview_pictures(role, recipe.validate_.pictures)
    pictures = [part.cut(rgb8(read_picture(part.path))) for part in parts]
    return [reduce(to_tensor(pixels, fit.channels_in), short_side) for pixels in pictures]


def preview_pairs(
    sources: Sequence[Tensor], recipe: Recipe, translator: Translator, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Return the sources beside their translations, as the recipe's request asks for them.

    A source comes once for each variant of the request.
    """
    if recipe.translate.work_size == "trained":
        sources = [reduce(source, translator.fit.trained_size) for source in sources]
    with torch.compiler.set_stance("force_eager"):  # other sizes than the crops' compile anew
        results = [
            translate_batch(translator, sources, request, device=device)
            for request in variants_of(type(translator), recipe.request).values()
        ]
    return [
        (source, each) for source, *made in zip(sources, *results, strict=True) for each in made
    ]


def preview_sheet(pairs: Sequence[tuple[Tensor, Tensor]]) -> Picture:
    """Return sources beside their translations as one picture."""
    return contact_sheet([(_picture(source), _picture(result)) for source, result in pairs])


def _picture(image: Tensor) -> Picture:
    return Picture(from_tensor(image))
