"""The generators: SRResNet (arXiv:1609.04802), RRDB (arXiv:1809.00219) and compact ones.

All map (N, 3, H, W) in [0, 1] to (N, 3, scale * H, scale * W) around [0, 1], as the published
weights expect. None looks at a whole picture at once once it is trained, so tiles are sound.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.nn import BatchNorm

Scale = Literal[1, 2, 3, 4, 8]
Norm = Literal["batch", "none"]
Closing = Literal["norm", "prelu"]
Body = Literal["plain", "residual"]
Activation = Literal["prelu", "relu", "leaky_relu"]

SCALES: tuple[int, ...] = get_args(Scale)
_RESIDUAL = 0.2  # what ESRGAN scales residuals by, section 3.1
_SMALL = 0.1  # what residual branches begin with, so that depth does not explode


def doublings(scale: int) -> tuple[int, ...]:
    """Return the factors of the enlarging layers of a scale: 2 as often as it goes, or 3."""
    return (3,) if scale == 3 else (2,) * int(math.log2(scale))


class SRResNet(nn.Module):
    """The generator of SRGAN, section 2.1.1 and figure 4: 9x9 ends, one weight a PReLU.

    ``norm`` "none" leaves the batch normalisations out. ``closing`` "prelu" ends the blocks, before
    what they began with is added, with a PReLU instead of a normalisation, and with ``bounded`` the
    result passes through tanh, as some programs have it; figure 4 has neither.
    """

    def __init__(
        self,
        scale: int,
        width: int,
        num_blocks: int,
        norm: Norm = "batch",
        closing: Closing = "norm",
        bounded: bool = False,
    ) -> None:
        super().__init__()
        self.bounded = bounded
        self.head = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(*(_NormedBlock(width, norm) for _ in range(num_blocks)))
        self.last = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.PReLU() if closing == "prelu" else _norm(width, norm),
        )
        self.up = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(width, factor**2 * width, 3, padding=1),
                    nn.PixelShuffle(factor),
                    nn.PReLU(),
                )
                for factor in doublings(scale)
            )
        )
        self.tail = nn.Conv2d(width, 3, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge pictures."""
        head = self.head(x)
        x = self.tail(self.up(head + self.last(self.body(head))))
        return (torch.tanh(x) + 1) / 2 if self.bounded else x


class MSRResNet(nn.Module):
    """SRResNet without normalisation, as ESRGAN's authors compare it (BasicSR, ``MSRResNet``).

    3x3 convolutions throughout, ReLU in the blocks and leaky ReLU of 0.1 outside, one further
    convolution at the end; the picture is enlarged bilinearly, and the network adds to it.
    """

    def __init__(self, scale: int, width: int, num_blocks: int) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(_Block(width) for _ in range(num_blocks)))
        self.up = nn.ModuleList(
            nn.Conv2d(width, factor**2 * width, 3, padding=1) for factor in doublings(scale)
        )
        self.last = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Conv2d(width, 3, 3, padding=1)
        _begin_small(self)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge pictures."""
        base = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        x = self.body(_leaky(self.head(x)))
        for convolution, factor in zip(self.up, doublings(self.scale), strict=True):
            x = _leaky(F.pixel_shuffle(convolution(x), factor))
        enlarged: Tensor = base + self.tail(_leaky(self.last(x)))
        return enlarged


class RRDBNet(nn.Module):
    """The generator of ESRGAN, section 3.1: dense blocks, residuals in residuals, no norms.

    It enlarges by repeating pixels and convolving. With ``unshuffle`` the picture is first
    rearranged into that many times smaller a side, with more channels, and enlarged as much more
    (Real-ESRGAN, arXiv:2107.10833, section 3.4): H and W must be multiples of it.
    """

    def __init__(
        self, scale: int, width: int, num_blocks: int, growth: int = 32, unshuffle: int = 1
    ) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.factors = doublings(scale * unshuffle)
        self.head = nn.Conv2d(3 * unshuffle**2, width, 3, padding=1)
        self.body = nn.Sequential(*(_DenseBlocks(width, growth) for _ in range(num_blocks)))
        self.last = nn.Conv2d(width, width, 3, padding=1)
        self.up = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in self.factors)
        self.fine = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Conv2d(width, 3, 3, padding=1)
        _begin_small(self)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge pictures."""
        head = self.head(F.pixel_unshuffle(x, self.unshuffle) if self.unshuffle > 1 else x)
        x = head + self.last(self.body(head))
        for convolution, factor in zip(self.up, self.factors, strict=True):
            x = _leaky(convolution(F.interpolate(x, scale_factor=factor, mode="nearest")), 0.2)
        enlarged: Tensor = self.tail(_leaky(self.fine(x), 0.2))
        return enlarged


class Compact(nn.Module):
    """3x3 convolutions at the picture's own size and one pixel shuffle: all work is done small.

    The network adds to the picture with its pixels repeated. ``body`` "plain" is ``num_blocks``
    convolutions, each with its activation (SRVGGNetCompact of Real-ESRGAN's authors); "residual"
    is as many pairs of convolutions around which the picture's features pass, without norms
    (arXiv:1707.02921, section 3.1), and a last one that adds to the first.
    """

    def __init__(
        self, scale: int, width: int, num_blocks: int, body: Body, activation: Activation = "prelu"
    ) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.last: nn.Module | None = None
        if body == "residual":
            blocks: list[nn.Module] = [_Block(width, activation) for _ in range(num_blocks)]
            self.last = nn.Conv2d(width, width, 3, padding=1)
        else:
            blocks = [_activation(activation, width)]
            for _ in range(num_blocks):
                blocks += [nn.Conv2d(width, width, 3, padding=1), _activation(activation, width)]
        self.body = nn.Sequential(*blocks)
        self.tail = nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        _begin_small(self)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge pictures."""
        base = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        head = self.head(x)
        x = self.body(head)
        if self.last is not None:
            x = head + self.last(x)
        return base + F.pixel_shuffle(self.tail(x), self.scale)


class _RunningNorm(BatchNorm):
    """Batch normalisation that translates with the statistics kept in training, as is usual."""

    def forward(self, x: Tensor, running: bool = False) -> Tensor:
        return super().forward(x, running=running or not self.training)


class _NormedBlock(nn.Module):
    """x + norm(conv(prelu(norm(conv(x)))))."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            _norm(width, norm),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            _norm(width, norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        inside: Tensor = self.inside(x)
        return x + inside


class _Block(nn.Module):
    """x + conv(activation(conv(x)))."""

    def __init__(self, width: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.activation = _activation(activation, width)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inside: Tensor = self.second(self.activation(self.first(x)))
        return x + inside


class _DenseBlocks(nn.Module):
    """An RRDB: three dense blocks of five convolutions, residuals scaled by 0.2 at both levels."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                nn.Conv2d(width + place * growth, width if place == 4 else growth, 3, padding=1)
                for place in range(5)
            )
            for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        outer = x
        for convolutions in self.blocks:
            assert isinstance(convolutions, nn.ModuleList)
            seen = [x]
            for convolution in convolutions[:-1]:
                seen.append(_leaky(convolution(torch.cat(seen, dim=1)), 0.2))
            x = x + _RESIDUAL * convolutions[-1](torch.cat(seen, dim=1))
        return outer + _RESIDUAL * x


def _leaky(x: Tensor, slope: float = 0.1) -> Tensor:
    return F.leaky_relu(x, slope)


def _norm(width: int, norm: Norm) -> nn.Module:
    return _RunningNorm(width) if norm == "batch" else nn.Identity()


def _activation(kind: Activation, width: int) -> nn.Module:
    if kind == "prelu":
        return nn.PReLU(width)
    return nn.ReLU() if kind == "relu" else nn.LeakyReLU(0.1)


@torch.no_grad()
def _begin_small(network: nn.Module) -> None:
    """Draw weights as He et al. (arXiv:1502.01852), those that add to something a tenth of it.

    Biases are zero. ESRGAN's authors begin with a tenth everywhere (section 3.1).
    """
    adding = {module.second for module in network.modules() if isinstance(module, _Block)} | {
        getattr(network, "last", None),
        getattr(network, "tail", None),
    }
    dense = {
        convolution
        for module in network.modules()
        if isinstance(module, _DenseBlocks)
        for convolution in module.modules()
    }
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module in adding | dense:
                module.weight *= _SMALL
            if module.bias is not None:
                nn.init.zeros_(module.bias)
