"""Between pixels, 0..255 or 0..65535, and tensors, float32 in [-1, 1]."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from i2i.imaging.picture import Pixels

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_STRIP = 256  # rows that are wider numbers at once


def to_tensor(pixels: Pixels, num_channels: int = 3) -> Tensor:
    """Return (H, W, 3 or 1) pixels as (C, H, W) float32 in [-1, 1], RGB or grey (BT.601 luma)."""
    peak = 255 if pixels.dtype == np.uint8 else 65535
    tensor = torch.from_numpy(np.require(pixels, requirements=("C", "W"))).permute(2, 0, 1)
    scaled = tensor.float().div_(peak / 2).sub_(1).contiguous()
    if num_channels == scaled.shape[0]:
        return scaled
    if num_channels == 1:
        weights = torch.tensor(_LUMA).view(3, 1, 1)
        return (scaled * weights).sum(0, keepdim=True)
    if scaled.shape[0] == 1 and num_channels == 3:
        return scaled.expand(3, -1, -1).contiguous()
    raise ValueError(f"no way from {scaled.shape[0]} to {num_channels} channels")


def from_tensor(tensor: Tensor, dtype: Any = np.uint8) -> Pixels:
    """Return (C, H, W) float in [-1, 1] as (H, W, C) pixels of 8 or 16 bits: undoes ``to_tensor``.

    Values are rounded, and clamped to the range.
    """
    deep = np.dtype(dtype) == np.uint16
    peak = 65535 if deep else 255
    scaled = tensor.detach().float().cpu().add(1).mul_(peak / 2).round_().clamp_(0, peak)
    kind = torch.uint16 if deep else torch.uint8
    pixels: Pixels = scaled.to(kind).permute(1, 2, 0).contiguous().numpy()
    return pixels


def greyed(pixels: Pixels) -> Pixels:
    """Return (H, W, 3) pixels as (H, W, 1) of the same type: BT.601 luma, rounded."""
    grey: Pixels = np.empty((*pixels.shape[:2], 1), pixels.dtype)
    for top in range(0, len(pixels), _STRIP):
        rows = slice(top, top + _STRIP)
        grey[rows, :, 0] = np.rint(pixels[rows] @ np.array(_LUMA))
    return grey
