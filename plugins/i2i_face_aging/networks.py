"""The networks of image-conditional ageing."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.nn import InstanceNorm
from i2i_face_aging.ages import OLDEST

NUM_FEATURES = 9  # of an age
_NUM_WAVES = 4
_NUM_CONDITIONS = 128


def age_features(ages: Tensor) -> Tensor:
    """Return ages (N,) in years as (N, 9) numbers in [-1, 1]: themselves, and four waves of them.

    ``2 a - 1, sin(2^k pi a), cos(2^k pi a)`` for ``k = 0 .. 3`` and ``a = age / 100``
    (arXiv:2006.10739, section 6.1, positional encoding): near ages stay near, and each is told from
    the next.
    """
    share = ages.float().clamp(0, OLDEST)[:, None] / OLDEST
    waves = math.pi * share * 2 ** torch.arange(_NUM_WAVES, device=ages.device)
    return torch.cat([2 * share - 1, waves.sin(), waves.cos()], 1)


class AgingGenerator(nn.Module):
    """A U-Net that says what to add to a face: (N, 3, H, W) and ages to (N, 3, H, W).

    As the re-ageing network of Zoss et al. (ACM Transactions on Graphics 41(6), 2022, section 3.1)
    it sees the age that a face has and the age that it shall have, and returns a difference. The
    ages are embedded, and scale and shift what each block normalises (arXiv:1707.06065, section
    2.2), instead of lying beside the picture as planes. H and W are multiples of 8.
    """

    multiple = 8

    def __init__(self, width: int, num_blocks: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(2 * NUM_FEATURES, _NUM_CONDITIONS),
            nn.SiLU(),
            nn.Linear(_NUM_CONDITIONS, _NUM_CONDITIONS),
            nn.SiLU(),
        )
        self.stem = nn.Conv2d(12, width, 3, padding=1)
        self.reduce = nn.ModuleList(
            nn.Conv2d(width * factor, 2 * width * factor, 4, stride=2, padding=1)
            for factor in (1, 2)
        )
        self.blocks = nn.ModuleList(_Block(4 * width) for _ in range(num_blocks))
        self.enlarge = nn.ModuleList(
            nn.Conv2d(
                (4 + 2) * width if factor == 2 else (2 + 1) * width, width * factor, 3, padding=1
            )
            for factor in (2, 1)
        )
        self.refine = nn.ModuleList(_Block(width * factor) for factor in (2, 1))
        self.beside = nn.Conv2d(width + 3, width // 2, 3, padding=1)
        self.last = nn.Conv2d(width // 2, 3, 3, padding=1)
        with torch.no_grad():
            for parameter in self.last.parameters():
                parameter.mul_(0.1)  # a face begins almost as it is

    def forward(self, faces: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return the difference; ``source`` and ``target`` are ages (N,) in years."""
        ages = self.embed(torch.cat([age_features(source), age_features(target)], 1))
        x = F.leaky_relu(self.stem(F.pixel_unshuffle(faces, 2)), 0.2)
        skipped = []
        for reduce in self.reduce:
            skipped.append(x)
            x = F.leaky_relu(reduce(x), 0.2)
        for block in self.blocks:
            x = block(x, ages)
        for enlarge, refine, beside in zip(
            self.enlarge, self.refine, reversed(skipped), strict=True
        ):
            x = torch.cat([F.interpolate(x, scale_factor=2.0), beside], 1)
            x = refine(F.leaky_relu(enlarge(x), 0.2), ages)
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
        x = F.leaky_relu(self.beside(torch.cat([x, faces], 1)), 0.2)
        change: Tensor = self.last(x)
        return change


class _Block(nn.Module):
    """A residual block whose normalisations are scaled and shifted by the ages."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = InstanceNorm()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.ages = nn.Linear(_NUM_CONDITIONS, 4 * width)

    def forward(self, x: Tensor, ages: Tensor) -> Tensor:
        scale, shift, next_scale, next_shift = self.ages(ages)[:, :, None, None].chunk(4, 1)
        y = F.leaky_relu((1 + scale) * self.norm(x) + shift, 0.2)
        y = F.leaky_relu((1 + next_scale) * self.norm(self.first(y)) + next_shift, 0.2)
        made: Tensor = self.second(y)
        return x + made


class AgeDiscriminator(nn.Module):
    """Judges patches of a face of a certain age: (N, 3, H, W), (N, 9) to logits (N, 1, H/16, W/16).

    Strided 4x4 convolutions without normalisation, which would subtract what is the same in all
    places; the age joins behind the first of them, as in arXiv:1702.01983.
    """

    multiple = 16

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 8 * width)
        self.first = nn.Conv2d(3, width, 4, stride=2, padding=1)
        self.others = nn.ModuleList(
            nn.Conv2d(seen, made, 4, stride=2, padding=1)
            for seen, made in zip((width + NUM_FEATURES, *widths[1:]), widths[1:], strict=False)
        )
        self.last = nn.Conv2d(widths[-1], 1, 3, padding=1)
        for layer in (self.first, *self.others):  # nothing else keeps signals from fading
            nn.init.kaiming_normal_(layer.weight, 0.2)

    def forward(self, faces: Tensor, ages: Tensor) -> tuple[tuple[Tensor, ...]]:
        """Return what each layer gives, logits last; ``ages`` as ``age_features`` gives them."""
        x = F.leaky_relu(self.first(faces), 0.2)
        given = [x]
        x = torch.cat([x, ages[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
        for layer in self.others:
            x = F.leaky_relu(layer(x), 0.2)
            given.append(x)
        return ((*given, self.last(x)),)
