"""Ways to halve and to double feature maps."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Downsampling = Literal["stride", "blur"]
Upsampling = Literal["transposed", "resize"]


class BlurPool(nn.Module):
    """Halves after a binomial filter (arXiv:1904.11486): (N, C, H, W) to (N, C, H/2, W/2), up.

    The filter is [1, 2, 1] both ways, on edges that repeat by reflection; a side of one pixel
    repeats that pixel.
    """

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filter", torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Blur, and keep every second row and column, the first included."""
        channels, height, width = x.shape[1:]
        x = F.pad(x, (0, 0, 1, 1), mode="reflect" if height > 1 else "replicate")
        x = F.pad(x, (1, 1, 0, 0), mode="reflect" if width > 1 else "replicate")
        return F.conv2d(x, self.filter.expand(channels, -1, -1, -1), stride=2, groups=channels)


def downsampling(
    kind: Downsampling,
    channels_in: int,
    channels_out: int,
    kernel: Literal[3, 4] = 4,
    bias: bool = True,
) -> nn.Module:
    """Return a convolution that halves: a side of H becomes H/2, down (4x4) or up (3x3).

    "stride" strides by 2. "blur" convolves every pixel and halves by ``BlurPool``, to the same
    sizes, with the same parameters, at four times the cost. Section 3.2 of arXiv:1904.11486 has the
    activation before the blur; here it follows, so that one kind can take the other's place.
    """
    if kind == "stride":
        return nn.Conv2d(channels_in, channels_out, kernel, stride=2, padding=1, bias=bias)
    convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=1, bias=bias)
    return nn.Sequential(convolution, BlurPool())


def upsampling(
    kind: Upsampling,
    channels_in: int,
    channels_out: int,
    kernel: Literal[3, 4] = 4,
    bias: bool = True,
) -> nn.Module:
    """Return a convolution that doubles: a side of H becomes exactly 2 H.

    "transposed" is a transposed convolution of 3x3 or 4x4; places between its taps are filled by
    fewer of them than others, which shows as a checkerboard. "resize" repeats each pixel and
    convolves 3x3, whatever ``kernel``, and has none (Odena et al. 2016,
    distill.pub/2016/deconv-checkerboard).
    """
    if kind == "transposed":
        return nn.ConvTranspose2d(
            channels_in, channels_out, kernel, 2, padding=1, output_padding=4 - kernel, bias=bias
        )
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=bias)
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), convolution)
