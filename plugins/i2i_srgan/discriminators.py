"""Discriminators of super-resolution: one verdict a picture, and one a pixel."""

import itertools
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from i2i.errors import RecipeError


class VGGDiscriminator(nn.Module):
    """SRGAN's discriminator: (N, 3, side, side) in [-1, 1] to raw logits (N, 1).

    Architecture: arXiv:1609.04802, section 2.1.1 and figure 4: eight 3x3 convolutions, 64 to 512
    channels wide, every second one with stride 2, batch normalisation behind all but the first,
    leaky ReLU 0.2, dense layers of 16 ``width`` and of 1. Convolutions have biases: 23,565,505
    parameters at side 96. The sigmoid is left to the losses, which take logits. The dense layers
    know one size of picture: raises RecipeError if ``side`` is not a multiple of ``multiple``.
    """

    multiple: ClassVar[int] = 16  # four halvings

    def __init__(self, side: int, width: int = 64) -> None:
        super().__init__()
        if side < self.multiple or side % self.multiple:
            raise RecipeError(
                f"a side of {side} pixels cannot be halved four times",
                where="the VGG discriminator",
                expected=f"crops whose side is a multiple of {self.multiple} pixels",
                remedy=f"use {max(round(side / self.multiple), 1) * self.multiple}",
            )
        layers: list[nn.Module] = []
        widths = [width * factor for factor in (1, 1, 2, 2, 4, 4, 8, 8)]
        for place, (before, after) in enumerate(itertools.pairwise([3, *widths])):
            layers.append(nn.Conv2d(before, after, 3, stride=1 + place % 2, padding=1))
            if place:  # no running statistics: nothing would read them
                layers.append(nn.BatchNorm2d(after, track_running_stats=False))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.features = nn.Sequential(*layers)
        self.verdict = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1] * (side // self.multiple) ** 2, 16 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(16 * width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return one raw logit a picture: (N, 1)."""
        return self.layers(x)[-1]

    def layers(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the output of each layer, behind its activation; the logits come last."""
        outputs = []
        for module in (*self.features, *self.verdict):
            x = module(x)
            if isinstance(module, nn.LeakyReLU):
                outputs.append(x)
        return *outputs, x


class UNetDiscriminator(nn.Module):
    """Real-ESRGAN's discriminator: (N, 3, H, W) in [-1, 1] to raw logits (N, 1, H, W).

    Architecture: arXiv:2107.10833, section 3.3 and figure 6: a U-Net of three halvings by 4x4
    convolutions with stride 2, three bilinear doublings each before a 3x3 convolution, and three
    more 3x3 convolutions; leaky ReLU 0.2, and spectral normalisation (arXiv:1802.05957), one
    power iteration a forward, on all but the first and the last convolution, which alone have
    biases: 4,376,897 parameters. ``skip`` adds what was there before each halving back after its
    doubling. H and W are multiples of ``multiple``.
    """

    multiple: ClassVar[int] = 8  # three halvings

    def __init__(self, width: int = 64, skip: bool = True) -> None:
        super().__init__()
        self.skip = skip
        widths = [width * factor for factor in (1, 2, 4, 8)]
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(
            _normalised(before, after, 4, stride=2) for before, after in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            _normalised(before, after, 3) for before, after in itertools.pairwise(widths[::-1])
        )
        self.more = nn.ModuleList(_normalised(width, width, 3) for _ in range(2))
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one raw logit a pixel: (N, 1, H, W)."""
        return self.layers(x)[-1]

    def layers(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the output of each layer, behind what is added; the logits come last."""
        outputs = [F.leaky_relu(self.first(x), 0.2)]
        for convolution in self.down:
            outputs.append(F.leaky_relu(convolution(outputs[-1]), 0.2))
        before = outputs[-2::-1]
        for convolution, same_size in zip(self.up, before, strict=True):
            x = F.interpolate(outputs[-1], scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(convolution(x), 0.2)
            outputs.append(x + same_size if self.skip else x)
        for convolution in self.more:
            outputs.append(F.leaky_relu(convolution(outputs[-1]), 0.2))
        return *outputs, self.last(outputs[-1])


def _normalised(channels_in: int, channels_out: int, size: int, stride: int = 1) -> nn.Module:
    return spectral_norm(
        nn.Conv2d(channels_in, channels_out, size, stride=stride, padding=1, bias=False)
    )
