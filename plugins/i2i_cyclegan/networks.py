"""The two networks of CycleGAN (arXiv:1703.10593, appendix 7.2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InstanceNorm(nn.Module):
    """Instance normalisation without parameters (arXiv:1607.08022): (N, C, H, W) to the same.

    The reference's ``InstanceNorm2d(affine=False)``, computed as group normalisation with one
    channel a group: the same numbers, and about 1.5 times as fast in bfloat16 on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of each picture."""
        return F.group_norm(x, x.shape[1])


def initialise(module: nn.Module) -> None:
    """Draw the weights of a convolution from N(0, 0.02), its bias zero (section 4.1 of pix2pix)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ResidualBlock(nn.Module):
    """Two reflect-padded 3x3 convolutions around a skip: (N, C, H, W) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect")
        self.second = nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect")
        self.norm = InstanceNorm()

    def forward(self, x: Tensor) -> Tensor:
        """Add what the two convolutions make of ``x``."""
        hidden = F.relu(self.norm(self.first(x)), inplace=True)
        changed: Tensor = self.norm(self.second(hidden))
        return x + changed


class ResNetGenerator(nn.Module):
    """The published generator: c7s1-w, d2w, d4w, R4w x num_blocks, u2w, uw, c7s1-3, tanh.

    Maps (N, in, H, W) in [-1, 1] to (N, out, H, W) in [-1, 1]; H and W must be multiples of four.
    Biases stay, as in the authors' code, although instance normalisation cancels them: reference
    checkpoints hold them.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int, num_blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, width, 7, padding=3, padding_mode="reflect")
        self.down = nn.ModuleList(
            [
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
                nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            ]
        )
        self.blocks = nn.Sequential(*(ResidualBlock(4 * width) for _ in range(num_blocks)))
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, padding=1, output_padding=1),
                nn.ConvTranspose2d(2 * width, width, 3, 2, padding=1, output_padding=1),
            ]
        )
        self.head = nn.Conv2d(width, out_channels, 7, padding=3, padding_mode="reflect")
        self.norm = InstanceNorm()
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Translate pictures."""
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        for convolution in self.down:
            x = F.relu(self.norm(convolution(x)), inplace=True)
        x = self.blocks(x)
        for convolution in self.up:
            x = F.relu(self.norm(convolution(x)), inplace=True)
        return torch.tanh(self.head(x))


class PatchDiscriminator(nn.Module):
    """The 70x70 PatchGAN: C64-C128-C256-C512, leaky ReLU 0.2, one logit a patch.

    Maps (N, C, H, W) in [-1, 1] to raw logits (N, 1, H/8 - 2, W/8 - 2); H and W at least 24.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 4, stride=2, padding=1)
        self.middle = nn.ModuleList(
            [
                nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
                nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1),
                nn.Conv2d(4 * width, 8 * width, 4, stride=1, padding=1),
            ]
        )
        self.last = nn.Conv2d(8 * width, 1, 4, stride=1, padding=1)
        self.norm = InstanceNorm()
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the patches."""
        x = F.leaky_relu(self.first(x), 0.2, inplace=True)
        for convolution in self.middle:
            x = F.leaky_relu(self.norm(convolution(x)), 0.2, inplace=True)
        logits: Tensor = self.last(x)
        return logits
