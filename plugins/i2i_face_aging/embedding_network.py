"""The network whose vectors say whose face it is: MobileFace V3, mostly depthwise convolutions."""

from itertools import pairwise

from torch import Tensor, nn

SIDE = 112  # pixels a side that the network takes
WIDTH = 256  # numbers in a vector
_WIDTHS = (32, 32, 32, 64, 128)  # channels of the stem and of four stages, each half the size


class EmbeddingNetwork(nn.Module):
    """Aligned faces (N, 3, 112, 112) in [-1, 1] to vectors (N, 256) of any length.

    As MobileFace_Identification_V3 has it: depthwise convolutions after a pointwise one, with PReLU
    behind each, and a linear layer over all 4x4 places. Its last normalisation is folded into that
    layer: it is not for training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, _WIDTHS[0], 3, stride=2, padding=1, bias=False), nn.PReLU(_WIDTHS[0])
        )
        self.stages = nn.Sequential(*(_Stage(seen, made) for seen, made in pairwise(_WIDTHS)))
        places = SIDE // 2 ** len(_WIDTHS) + 1  # an odd side is halved upwards
        self.vector = nn.Linear(_WIDTHS[-1] * places**2, WIDTH)

    def forward(self, faces: Tensor) -> Tensor:
        """Return the vectors, not yet of unit length."""
        x = self.stem(faces * (127.5 / 128))  # (0..255 - 127.5) / 128
        vectors: Tensor = self.vector(self.stages(x).flatten(1))
        return vectors


class _Stage(nn.Module):
    """(N, C, H, W) to (N, C', H / 2, W / 2), rounded up."""

    def __init__(self, seen: int, made: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(seen, made, 1, bias=False), *_depthwise(made, 2))
        self.stay = nn.Sequential(*_depthwise(made, 1), *_depthwise(made, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.enter(x)
        more: Tensor = self.stay(y)
        return y + more


def _depthwise(width: int, stride: int) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False)
    return convolution, nn.PReLU(width)
