"""Attention between the places of a picture."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MOST_WEIGHTS = 2**20  # a picture at once, in translation


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
        seen = torch.cat([_attended(part, key, value) for part in _parts(query, key)], dim=2)
        seen = seen.reshape(*seen.shape[:2], *x.shape[2:])
        changed: Tensor = self.gamma * self.output(seen)
        return changed + x


def _parts(query: Tensor, key: Tensor) -> tuple[Tensor, ...]:
    """Return the places in parts: without gradients, memory shall not grow with their square."""
    if torch.is_grad_enabled():
        return (query,)
    return torch.split(query, max(_MOST_WEIGHTS // key.shape[2], 1), dim=2)


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = (query.transpose(1, 2) @ key).softmax(dim=-1)  # (N, places, pooled places)
    return value @ weights.transpose(1, 2)
