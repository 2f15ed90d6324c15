"""Transparency: what is hidden must not be seen, neither by a network nor by a resize."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from i2i.imaging.encode import eight_bits
from i2i.imaging.picture import Picture, Pixels


def rgb8(picture: Picture) -> NDArray[np.uint8]:
    """Return a picture as (H, W, 3) RGB of 8 bits: alpha laid on white, grey repeated."""
    pixels = eight_bits(picture.pixels)
    if picture.alpha is not None:
        alpha = eight_bits(picture.alpha).astype(np.uint32)
        seen = pixels * alpha + 255 * (255 - alpha)
        pixels = ((seen + 127) // 255).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if picture.is_grey else np.asarray(pixels, np.uint8)


def on_white(picture: Picture) -> Picture:
    """Return the picture laid on white, in its own depth and without alpha."""
    if picture.alpha is None:
        return picture
    peak = np.iinfo(picture.pixels.dtype).max
    alpha = picture.alpha.astype(np.uint64)
    seen = picture.pixels * alpha + peak * (peak - alpha)
    laid = (seen + peak // 2) // peak
    pixels: Pixels = laid.astype(np.uint8) if peak == 255 else laid.astype(np.uint16)
    return replace(picture, pixels=pixels, alpha=None)


def fill_hidden(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Return pixels whose hidden ones (alpha 0) continue the visible ones smoothly.

    Visible pixels stay bit for bit; where none is visible, the picture becomes black. Pull-push:
    means of 2x2 weighted by alpha, down to one pixel, then filled upwards (Gortler et al., The
    Lumigraph, 1996, section 3.4).
    """
    hidden = alpha[..., 0] == 0
    if not hidden.any():
        return pixels
    peak = 255 if pixels.dtype == np.uint8 else 65535
    weight = torch.from_numpy(alpha.astype(np.float32) / peak).permute(2, 0, 1)[None]
    colour = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    filled = _filled(colour * weight, weight)[0].permute(1, 2, 0).numpy()
    result = pixels.copy()
    result[hidden] = np.rint(np.clip(filled[hidden], 0, peak)).astype(pixels.dtype)
    return result


def _filled(colour: Tensor, weight: Tensor) -> Tensor:
    """Return (1, C, H, W) colours, given times weight, with those of weight 0 continued."""
    seen = colour / weight.clamp_min(1e-12)
    if max(weight.shape[2:]) == 1 or bool((weight > 0).all()):
        return seen
    smaller = _filled(*(F.avg_pool2d(each, 2, ceil_mode=True) for each in (colour, weight)))
    behind = F.interpolate(smaller, size=weight.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(weight > 0, seen, behind)
