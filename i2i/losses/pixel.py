"""Distances between pictures, pixel by pixel."""

from torch import Tensor
from torch.nn import functional


def l1(image: Tensor, target: Tensor) -> Tensor:
    """Return ``E|x - y|`` as a float32 scalar; both (N, C, H, W) in [-1, 1]."""
    return functional.l1_loss(image.float(), target.float())


def l2(image: Tensor, target: Tensor) -> Tensor:
    """Return ``E(x - y)^2`` as a float32 scalar; both (N, C, H, W) in [-1, 1]."""
    return functional.mse_loss(image.float(), target.float())
