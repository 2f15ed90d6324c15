"""Made batches: what a family trains on when only its rules are looked at."""

from collections.abc import Mapping

import torch

from i2i.types import Batch, Fit, Inputs, derive_seed


def make_batch(
    inputs: Inputs,
    *,
    batch_size: int = 3,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    classes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Batch:
    """Return a batch of random pictures for ``inputs``: float32 in [-1, 1], on the CPU.

    ``shapes`` are (C, H, W) by role, (3, 32, 32) where a role is not named; labels are int64 below
    ``classes`` by name, 2 where a label is not named. Equal arguments give equal batches, and the
    global generator stays as it is.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "batch"))
    shapes, classes = shapes or {}, classes or {}
    images = {
        role: torch.rand(batch_size, *shapes.get(role, (3, 32, 32)), generator=generator) * 2 - 1
        for role in inputs.images
    }
    labels = {
        name: torch.randint(classes.get(name, 2), (batch_size,), generator=generator)
        for name in inputs.labels
    }
    keys = [derive_seed(seed, "sample", index) for index in range(batch_size)]
    return Batch(images, torch.tensor(keys), labels)


def shapes_for(inputs: Inputs, fit: Fit, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Return a (C, H, W) for each role: the first is of ``size``, the others ``fit.scale`` times.

    That is, where a family enlarges, its first role is what it enlarges.
    """
    shapes = {}
    for place, role in enumerate(inputs.images):
        scale = fit.scale if place else 1
        shapes[role] = (fit.channels_in, *(scale * side for side in size))
    return shapes
