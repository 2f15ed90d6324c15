"""A small network that reads an age from a face."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_AGES = 101  # 0 to 100 years; who is older counts as 100
SIDE = 64  # pixels a side that the network sees, whatever it is given
_WIDTHS = (24, 48, 96, 144, 192)


class AgeNetwork(nn.Module):
    """Faces (N, 3, H, W) in [-1, 1] to logits (N, 101), one for each year from 0 to 100.

    Its age is the mean of the distribution (DEX, Rothe et al., ICCV workshops 2015, section 3.4).
    Residual blocks of 3x3 convolutions (arXiv:1512.03385, figure 2). Faces are reduced to 64x64 by
    averaging first, so that no generator pleases it by patterns too fine for anybody to see.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(_WIDTHS[0]),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(*(_Block(seen, made) for seen, made in pairwise(_WIDTHS)))
        self.dropout = nn.Dropout(0.3)
        self.years = nn.Linear(_WIDTHS[-1], NUM_AGES)

    def forward(self, faces: Tensor) -> Tensor:
        """Return the logits of each year."""
        seen = F.interpolate(faces, (SIDE, SIDE), mode="area")
        features = self.blocks(self.stem(seen)).mean((2, 3))
        logits: Tensor = self.years(self.dropout(features))
        return logits


def mean_age(logits: Tensor) -> Tensor:
    """Return the mean age (N,) in years of the distributions with these logits (N, 101)."""
    years = torch.arange(NUM_AGES, dtype=torch.float32, device=logits.device)
    return logits.float().softmax(1) @ years


class _Block(nn.Module):
    """(N, C, H, W) to (N, C', H / 2, W / 2)."""

    def __init__(self, seen: int, made: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(seen, made, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(made)
        self.second = nn.Conv2d(made, made, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(made)
        self.shortcut = nn.Conv2d(seen, made, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second_norm(self.second(F.relu(self.first_norm(self.first(x)))))
        return F.relu(y + self.shortcut(F.avg_pool2d(x, 2)))
