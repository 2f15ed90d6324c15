"""The generator of pix2pix (arXiv:1611.07004, section 3.2.1 and appendix 6.1.1)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.nn import BatchNorm, InstanceNorm, SelfAttention, downsampling, initialise, upsampling
from i2i.nn.resampling import Downsampling, Upsampling
from i2i.types import derive_seed

Drop = Callable[[int, Tensor], Tensor]
"""Drops values out of the output of a decoder layer, which is given with the layer's number."""

ATTENTION_AFTER = 3  # halvings: 1024 places of a 256-pixel picture


@dataclass(frozen=True)
class Architecture:
    """What a U-Net is built from; channels are 3 at both ends."""

    widths: tuple[int, ...]
    """Channels after each halving."""

    norm: Literal["batch", "instance"] = "batch"
    """Convolutions before a batch normalisation have no biases."""

    downsampling: Downsampling = "stride"
    upsampling: Upsampling = "transposed"
    self_attention: bool = False


class UNetGenerator(nn.Module):
    """An encoder that halves n times, and a decoder that sees the encoder's layer of its size.

    Maps (N, 3, H, W) in [-1, 1] to (N, 3, H, W) in [-1, 1]; H and W must be multiples of 2^n.
    Leaky ReLU of 0.2 in the encoder, ReLU in the decoder, no normalisation on the first and on the
    innermost layer, as in the authors' code: an innermost layer of one pixel would become zero.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        widths = architecture.widths
        last = len(widths) - 1
        bias = architecture.norm == "instance"
        self.down = nn.ModuleList(
            downsampling(architecture.downsampling, before, after, bias=bias)
            for before, after in zip((3, *widths), widths, strict=False)
        )
        outputs = (*reversed(widths[:-1]), 3)
        inputs = (widths[-1], *(2 * width for width in outputs[:-1]))
        self.up = nn.ModuleList(
            upsampling(architecture.upsampling, before, after, bias=bias or place == last)
            for place, (before, after) in enumerate(zip(inputs, outputs, strict=True))
        )
        self.down_norms = nn.ModuleList(_norm(architecture, width) for width in widths[1:-1])
        self.up_norms = nn.ModuleList(_norm(architecture, width) for width in outputs[:-1])
        self.apply(initialise)
        self.attention: nn.Module = nn.Identity()
        if architecture.self_attention:
            self.attention = SelfAttention(widths[ATTENTION_AFTER - 1])

    def forward(self, x: Tensor, drop: Drop | None = None, running: bool = False) -> Tensor:
        """Translate pictures; with ``running``, by the statistics that were kept in training."""
        encoded = []
        last = len(self.down) - 1
        for place, convolution in enumerate(self.down):
            x = convolution(F.leaky_relu(x, 0.2) if place else x)
            if 0 < place < last:
                x = _normalised(self.down_norms[place - 1], x, running)
            if place == ATTENTION_AFTER - 1:
                x = self.attention(x)
            encoded.append(x)
        x = encoded.pop()
        for place, convolution in enumerate(self.up):
            x = convolution(F.relu(torch.cat([encoded.pop(), x], dim=1) if place else x))
            if place < last:
                x = _normalised(self.up_norms[place], x, running)
                x = x if drop is None else drop(place, x)
        return torch.tanh(x)


class KeyedDropout:
    """Dropout whose noise follows from a seed and from the picture that is translated.

    ``images`` are (N, C, H, W), as they are given to the generator; ``layers`` are those that drop
    out, with probability ``rate``. A picture's noise is the same in any batch and on any device.
    """

    def __init__(self, seed: int, images: Tensor, layers: tuple[int, ...], rate: float) -> None:
        self.layers, self.rate = layers, rate
        self.seeds = [
            derive_seed(seed, hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest())
            for image in images.detach().float().cpu()
        ]

    def __call__(self, layer: int, x: Tensor) -> Tensor:
        """Zero values of (N, C, H, W), and scale the others up."""
        if layer not in self.layers:
            return x
        kept = []
        for seed in self.seeds:
            generator = torch.Generator().manual_seed(derive_seed(seed, layer))
            kept.append(torch.rand(x.shape[1:], generator=generator) >= self.rate)
        return x * torch.stack(kept).to(x.device) / (1 - self.rate)


def _norm(architecture: Architecture, width: int) -> nn.Module:
    return BatchNorm(width) if architecture.norm == "batch" else InstanceNorm()


def _normalised(norm: nn.Module, x: Tensor, running: bool) -> Tensor:
    normalised: Tensor = norm(x, running) if isinstance(norm, BatchNorm) else norm(x)
    return normalised
