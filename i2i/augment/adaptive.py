"""The operations of StyleGAN2-ADA's pipeline as matrices (arXiv:2006.06676, appendix B, figure 12).

Each happens with probability p, by a parameter that is neutral where it does not. They multiply to
one affine map and one colour map a picture. The operations, their order and their distributions are
the paper's; what differs:

- one bilinear sample, where the paper doubles the size with a wavelet filter and halves it again:
  a tenth of the time on a CPU. Real and generated pictures are smoothed alike.
- rotations by 90 degrees are half turns where height and width differ, because a quarter turn would
  show what lies beyond the edges.
- edge values are repeated by the reflection.

The paper's image-space filters and corruptions are left out, as in its own default.
"""

import math

import torch
from torch import Tensor

from i2i.augment.chance import Chance

_GREY = 1 / math.sqrt(3)  # each component of the unit vector along which the three are equal


def draw_pixels(chance: Chance, p: Tensor, size: tuple[int, int]) -> Tensor:
    """Draw flips, quarter turns and shifts by whole pixels: (N, 3, 3), result to picture."""
    height, width = size
    flip = chance.happens(p) * chance.integer(2)
    turns = chance.integer(4) if height == width else chance.integer(2) * 2
    turns = chance.happens(p) * turns
    shifts = chance.happens(p)
    x = shifts * (chance.uniform(-0.125, 0.125) * width).round()
    y = shifts * (chance.uniform(-0.125, 0.125) * height).round()
    one = torch.ones_like(flip)
    return enlargement(1 - 2 * flip, one) @ rotation(turns * (math.pi / 2)) @ shift(x, y)


def draw_geometry(chance: Chance, p: Tensor, size: tuple[int, int]) -> Tensor:
    """Draw scales, rotations and shifts by parts of a pixel: (N, 3, 3), result to picture."""
    height, width = size
    p_rotation = 1 - (1 - p).sqrt()  # so that one of the two rotations happens with probability p
    isotropic = torch.exp2(chance.happens(p) * 0.2 * chance.normal())
    before = chance.happens(p_rotation) * chance.uniform(-math.pi, math.pi)
    anisotropic = torch.exp2(chance.happens(p) * 0.2 * chance.normal())
    after = chance.happens(p_rotation) * chance.uniform(-math.pi, math.pi)
    shifts = chance.happens(p) * 0.125
    return (
        enlargement(isotropic, isotropic)
        @ rotation(before)
        @ enlargement(anisotropic, 1 / anisotropic)
        @ rotation(after)
        @ shift(shifts * chance.normal() * width, shifts * chance.normal() * height)
    )


def draw_colour(chance: Chance, p: Tensor) -> Tensor:
    """Draw a map of colours in [-1, 1]: (N, 3, 4), a matrix and an offset."""
    brightness = chance.happens(p) * 0.2 * chance.normal()
    contrast = torch.exp2(chance.happens(p) * 0.5 * chance.normal())
    luma_flip = chance.happens(p) * chance.integer(2)
    hue = chance.happens(p) * chance.uniform(-math.pi, math.pi)
    saturation = torch.exp2(chance.happens(p) * chance.normal())
    eye = torch.eye(3, device=p.device)
    grey = torch.full((3, 3), 1 / 3, device=p.device)
    across = eye - grey
    # Rodrigues' formula about the grey axis
    cross = _GREY * torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    cosine, sine = hue.cos()[:, None, None], hue.sin()[:, None, None]
    turn = eye + (cosine - 1) * across + sine * cross.to(p.device)
    flip = eye - 2 * luma_flip[:, None, None] * grey
    saturate = eye + (saturation - 1)[:, None, None] * across
    matrix = saturate @ turn @ flip * contrast[:, None, None]
    offset = matrix.sum(dim=2, keepdim=True) * brightness[:, None, None]
    return torch.cat([matrix, offset], dim=2)


def recolour(images: Tensor, maps: Tensor) -> Tensor:
    """Apply (N, 3, 4) maps of colours to every RGB group of (N, 3k, H, W)."""
    groups = images.reshape(len(images), -1, 3, images.shape[2] * images.shape[3])
    maps = maps.to(images.dtype)[:, None]
    return torch.matmul(maps[..., :3], groups).add(maps[..., 3:]).reshape(images.shape)


def enlargement(x: Tensor, y: Tensor) -> Tensor:
    """Return the maps of pictures enlarged ``x`` and ``y`` times, mirrored if -1: (N, 3, 3)."""
    return torch.diag_embed(torch.stack([1 / x, 1 / y, torch.ones_like(x)], dim=1))


def rotation(angle: Tensor) -> Tensor:
    """Return the maps that turn by ``angle`` in radians: (N, 3, 3)."""
    cosine, sine = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    rows = [cosine, -sine, zero, sine, cosine, zero, zero, zero, one]
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


def shift(x: Tensor, y: Tensor) -> Tensor:
    """Return the maps that look ``x`` and ``y`` pixels further: (N, 3, 3)."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = [one, zero, x, zero, one, y, zero, zero, one]
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)
