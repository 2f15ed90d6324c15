"""Losses that families share: they take raw logits and images, and compute in float32."""

from i2i.losses.gan import LeastSquares
from i2i.losses.pixel import l1

__all__ = ["LeastSquares", "l1"]
