"""Between pixels, 0..255, and tensors, float32 in [-1, 1]."""

import numpy as np
import torch
from torch import Tensor

from i2i.imaging.picture import Pixels

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def to_tensor(pixels: Pixels, num_channels: int = 3) -> Tensor:
    """Return (H, W, 3 or 1) pixels as (C, H, W) float32 in [-1, 1], RGB or grey (BT.601 luma)."""
    tensor = torch.from_numpy(np.require(pixels, requirements=("C", "W"))).permute(2, 0, 1)
    scaled = tensor.float().div_(127.5).sub_(1).contiguous()
    if num_channels == scaled.shape[0]:
        return scaled
    if num_channels == 1:
        weights = torch.tensor(_LUMA).view(3, 1, 1)
        return (scaled * weights).sum(0, keepdim=True)
    if scaled.shape[0] == 1 and num_channels == 3:
        return scaled.expand(3, -1, -1).contiguous()
    raise ValueError(f"no way from {scaled.shape[0]} to {num_channels} channels")


def from_tensor(tensor: Tensor) -> Pixels:
    """Return (C, H, W) float in [-1, 1] as (H, W, C) pixels, rounded: undoes ``to_tensor``."""
    scaled = tensor.detach().float().cpu().add(1).mul_(127.5).round_().clamp_(0, 255)
    pixels: Pixels = scaled.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return pixels
