"""The operations of differentiable augmentation (arXiv:2006.10738, section 4.1).

Strengths are the paper's published ones, for pictures in [-1, 1]; each is always applied. Several
RGB pictures side by side in channels get the same draw.
"""

import torch
from torch import Tensor

from i2i.augment.chance import Chance


def colour(images: Tensor, chance: Chance) -> Tensor:
    """Move brightness by -0.5 to 0.5, saturation by 0 to 2, contrast by 0.5 to 1.5."""
    brightness, saturation, contrast = (
        each.to(images.dtype)[:, None, None, None, None]
        for each in (chance.uniform(-0.5, 0.5), chance.uniform(0, 2), chance.uniform(0.5, 1.5))
    )
    groups = images.reshape(len(images), -1, 3, *images.shape[2:]) + brightness
    grey = groups.mean(dim=2, keepdim=True)
    groups = grey + (groups - grey) * saturation
    mean = groups.mean(dim=(2, 3, 4), keepdim=True)
    return torch.add(mean, (groups - mean) * contrast).reshape(images.shape)


def translation(images: Tensor, chance: Chance) -> Tensor:
    """Shift by whole pixels, up to an eighth of each side; zeros come in."""
    rows, inside_rows = _shifted(chance, images.shape[2])
    columns, inside_columns = _shifted(chance, images.shape[3])
    samples = torch.arange(len(images), device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]]
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return moved.permute(0, 3, 1, 2) * inside


def cutout(images: Tensor, chance: Chance) -> Tensor:
    """Blank half of each side's length, about a place anywhere in the picture."""
    rows = _cut(chance, images.shape[2])
    columns = _cut(chance, images.shape[3])
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


def _shifted(chance: Chance, length: int) -> tuple[Tensor, Tensor]:
    """Return which line of a side each line shows, and whether there is one: (N, length)."""
    most = int(length / 8 + 0.5)  # halves go up, as the authors have it
    by = chance.integer(2 * most + 1) - most
    places = torch.arange(length, device=by.device) + by[:, None].long()
    return places.clamp(0, length - 1), (places >= 0) & (places < length)


def _cut(chance: Chance, length: int) -> Tensor:
    """Return which lines of a side are in the cut: (N, length)."""
    size = (length + 1) // 2
    # every line is as likely to be the centre; an even size has one centre more, between lines
    first = chance.integer(length + 1 - size % 2) - size // 2
    places = torch.arange(length, device=first.device)
    return (places >= first[:, None]) & (places < first[:, None] + size)
