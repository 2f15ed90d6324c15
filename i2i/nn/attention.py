"""Attention between the places of a picture."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Self-attention over places (arXiv:1805.08318, section 3): (N, C, H, W) to the same.

    ``gamma * attention(x) + x``, with gamma zero at first; H and W at least 2. Queries and keys
    have C/8 channels, values C/2, rounded down and at least one. Keys and values are pooled by 2,
    as in BigGAN (arXiv:1809.11096) and the authors' code, not in the paper: a quarter of the
    memory. The convolutions have no biases, since the softmax cancels those of the keys and its
    weights add up to one. Written as matrix products, because the fused kernels cannot be
    differentiated twice, as gradient penalties need.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, values = max(channels // 8, 1), max(channels // 2, 1)
        self.query = nn.Conv2d(channels, inner, 1, bias=False)
        self.key = nn.Conv2d(channels, inner, 1, bias=False)
        self.value = nn.Conv2d(channels, values, 1, bias=False)
        self.output = nn.Conv2d(values, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Add to each place what it attends to."""
        query = self.query(x).flatten(2)
        key = F.max_pool2d(self.key(x), 2).flatten(2)
        value = F.max_pool2d(self.value(x), 2).flatten(2)
        weights = (query.transpose(1, 2) @ key).softmax(dim=-1)  # (N, places, pooled places)
        seen = (value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        changed: Tensor = self.gamma * self.output(seen)
        return changed + x
