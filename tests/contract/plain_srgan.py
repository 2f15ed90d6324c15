"""The discriminators of super-resolution once more, as those of ``plain``."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.contract.plain import Plain, Scales


class PlainVGG(Plain):
    """Figure 4 of arXiv:1609.04802; normalised over all pictures that are judged together."""

    def __call__(self, x: Tensor) -> Scales:
        weights, outputs = iter(self.weights.values()), []
        for place in range(8):
            x = F.conv2d(x, next(weights), next(weights), stride=1 + place % 2, padding=1)
            if place:
                x = x - x.mean((0, 2, 3), keepdim=True)
                x = x / (x.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
                x = x * next(weights)[:, None, None] + next(weights)[:, None, None]
            x = torch.where(x > 0, x, 0.2 * x)
            outputs.append(x)
        x = x.flatten(1) @ next(weights).T + next(weights)
        x = torch.where(x > 0, x, 0.2 * x)
        return [[*outputs, x, x @ next(weights).T + next(weights)]]


class PlainUNet(Plain):
    """Figure 6 of arXiv:2107.10833, with what is there before each halving added back."""

    def __call__(self, x: Tensor) -> Scales:
        outputs = [self._next("first", x)]
        for place in range(3):
            outputs.append(self._next(f"down.{place}", outputs[-1], stride=2))
        for place in range(3):
            outputs.append(self._next(f"up.{place}", doubled(outputs[-1])) + outputs[2 - place])
        for place in range(2):
            outputs.append(self._next(f"more.{place}", outputs[-1]))
        bias = self.weights["network.last.bias"]
        return [[*outputs, F.conv2d(outputs[-1], self._weight("network.last"), bias, padding=1)]]

    def _next(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        name = f"network.{name}"
        bias = self.weights.get(f"{name}.bias")
        x = F.conv2d(x, self._weight(name), bias, stride, 1)
        return torch.where(x > 0, x, 0.2 * x)


def doubled(x: Tensor) -> Tensor:
    """Bilinear: 3/4 of the nearest and 1/4 of the next pixel, borders repeated."""
    for axis in (2, 3):
        places = torch.arange(x.shape[axis])
        sides = [
            0.75 * x + 0.25 * x.index_select(axis, (places + by).clamp(0, len(places) - 1))
            for by in (-1, 1)
        ]
        x = torch.stack(sides, axis + 1).flatten(axis, axis + 1)
    return x
