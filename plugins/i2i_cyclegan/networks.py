"""The generator of CycleGAN (arXiv:1703.10593, appendix 7.2)."""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.nn import InstanceNorm, SelfAttention, downsampling, initialise, upsampling
from i2i.nn.resampling import Downsampling, Upsampling


@dataclass(frozen=True)
class Architecture:
    """What a generator is built from; channels are 3 at both ends."""

    stem: int
    """Channels after the first convolution."""

    down: tuple[int, int]
    """Channels after each halving; the blocks keep the second number outside."""

    inside: tuple[int, ...]
    """Channels between the two convolutions of each residual block."""

    up: tuple[int, int]
    """Channels after each doubling."""

    separable: bool = False
    """Whether the blocks' convolutions are a depthwise and a pointwise one."""

    norm_affine: bool = False
    """Whether normalisations have weights."""

    padding: Literal["reflect", "zero"] = "reflect"
    """What lies beyond a picture's edge."""

    downsampling: Downsampling = "stride"
    upsampling: Upsampling = "transposed"
    self_attention: bool = False
    """Whether places see each other behind the blocks."""

    @classmethod
    def published(cls, width: int, num_blocks: int) -> Self:
        """Return the architecture of the paper: widths double and halve with the size."""
        return cls(width, (2 * width, 4 * width), (4 * width,) * num_blocks, (2 * width, width))

    @property
    def widths(self) -> tuple[int, ...]:
        """All channels but the stem's, in the order of the layers."""
        return (*self.down, *self.inside, *self.up)

    def convolution(
        self, channels_in: int, channels_out: int, size: int, groups: int = 1
    ) -> nn.Conv2d:
        """Return a convolution that keeps the size."""
        mode: Literal["reflect", "zeros"] = "reflect" if self.padding == "reflect" else "zeros"
        return nn.Conv2d(
            channels_in, channels_out, size, padding=size // 2, padding_mode=mode, groups=groups
        )

    def norm(self, width: int) -> InstanceNorm:
        """Return a normalisation of ``width`` channels."""
        return InstanceNorm(width if self.norm_affine else None)


class SeparableConvolution(nn.Module):
    """A 3x3 convolution of each channel, a normalisation, and a 1x1 over the channels.

    As in the generators of GAN Compression (arXiv:2003.08936): (N, in, H, W) to (N, out, H, W). The
    normalisation in between never has weights.
    """

    def __init__(self, architecture: Architecture, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.depthwise = architecture.convolution(channels_in, channels_in, 3, channels_in)
        self.norm = InstanceNorm()
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        convolved: Tensor = self.pointwise(self.norm(self.depthwise(x)))
        return convolved


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip: (N, C, H, W) to the same."""

    def __init__(self, architecture: Architecture, inside: int) -> None:
        super().__init__()
        outside = architecture.down[-1]
        self.first = _block_convolution(architecture, outside, inside)
        self.second = _block_convolution(architecture, inside, outside)
        self.first_norm = architecture.norm(inside)
        self.second_norm = architecture.norm(outside)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the two convolutions make of ``x``."""
        hidden = F.relu(self.first_norm(self.first(x)), inplace=True)
        changed: Tensor = self.second_norm(self.second(hidden))
        return x + changed


class ResNetGenerator(nn.Module):
    """The published generator: c7s1-w, d2w, d4w, R4w x num_blocks, u2w, uw, c7s1-3, tanh.

    Maps (N, 3, H, W) in [-1, 1] to (N, 3, H, W) in [-1, 1]; H and W must be multiples of four.
    Biases stay, as in the authors' code, although instance normalisation cancels them: reference
    checkpoints hold them.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        stem, down, up = architecture.stem, architecture.down, architecture.up
        self.stem = architecture.convolution(3, stem, 7)
        self.down = nn.ModuleList(
            downsampling(architecture.downsampling, before, after, 3)
            for before, after in zip((stem, *down), down, strict=False)
        )
        self.blocks = nn.Sequential(
            *(ResidualBlock(architecture, inside) for inside in architecture.inside)
        )
        self.up = nn.ModuleList(
            upsampling(architecture.upsampling, before, after, 3)
            for before, after in zip((down[-1], *up), up, strict=False)
        )
        self.head = architecture.convolution(up[-1], 3, 7)
        self.norms = nn.ModuleList(architecture.norm(width) for width in (stem, *down, *up))
        self.apply(initialise)
        self.attention = SelfAttention(down[-1]) if architecture.self_attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Translate pictures."""
        halvings = len(self.down)
        before, after = self.norms[: halvings + 1], self.norms[halvings + 1 :]
        for convolution, norm in zip((self.stem, *self.down), before, strict=True):
            x = F.relu(norm(convolution(x)), inplace=True)
        x = self.attention(self.blocks(x))
        for convolution, norm in zip(self.up, after, strict=True):
            x = F.relu(norm(convolution(x)), inplace=True)
        return torch.tanh(self.head(x))


def _block_convolution(
    architecture: Architecture, channels_in: int, channels_out: int
) -> nn.Module:
    if architecture.separable:
        return SeparableConvolution(architecture, channels_in, channels_out)
    return architecture.convolution(channels_in, channels_out, 3)
