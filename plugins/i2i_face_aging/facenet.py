"""The larger network whose vectors say whose face it is: FaceNet, an Inception-ResNet-v1."""

import textwrap
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from i2i.downloads import Watcher
from i2i.errors import ModelFileError
from i2i.nn.pretrained import pretrained
from i2i_face_aging.weights import FACENET, OFFERED

SIDE = 160  # pixels a side that the network takes
WIDTH = 512  # numbers in a vector
_EPSILON = 1e-3  # of normalisations
_Layer = tuple[int, int | tuple[int, int]]  # channels, and the kernel's height and width


class FaceNet(nn.Sequential):
    """Aligned faces (N, 3, 160, 160) in [-1, 1] to vectors (N, 512) of any length.

    Inception-ResNet-v1 (arXiv:1602.07261, section 3.2, figures 7 and 10 to 15) with the widths of
    facenet-pytorch, whose names it has, and a last block without an activation; FaceNet after
    arXiv:1503.03832. Only to be used in evaluation mode.
    """

    def __init__(self) -> None:
        layers: dict[str, nn.Module] = {
            "conv2d_1a": _Convolution(3, 32, 3, stride=2),
            "conv2d_2a": _Convolution(32, 32, 3),
            "conv2d_2b": _Convolution(32, 64, 3, is_padded=True),
            "maxpool_3a": nn.MaxPool2d(3, stride=2),
            "conv2d_3b": _Convolution(64, 80, 1),
            "conv2d_4a": _Convolution(80, 192, 3),
            "conv2d_4b": _Convolution(192, 256, 3, stride=2),
            "repeat_1": nn.Sequential(*(_block35() for _ in range(5))),
            "mixed_6a": _Branches(
                _branch(256, (384, 3), halves=True),
                _branch(256, (192, 1), (192, 3), (256, 3), halves=True),
                nn.MaxPool2d(3, stride=2),
            ),
            "repeat_2": nn.Sequential(*(_block17() for _ in range(10))),
            "mixed_7a": _Branches(
                _branch(896, (256, 1), (384, 3), halves=True),
                _branch(896, (256, 1), (256, 3), halves=True),
                _branch(896, (256, 1), (256, 3), (256, 3), halves=True),
                nn.MaxPool2d(3, stride=2),
            ),
            "repeat_3": nn.Sequential(*(_block8(0.2) for _ in range(5))),
            "block8": _block8(1.0, is_linear=True),
            "avgpool_1a": nn.AdaptiveAvgPool2d(1),
            "flat": nn.Flatten(),
            "last_linear": nn.Linear(1792, WIDTH, bias=False),
            "last_bn": nn.BatchNorm1d(WIDTH, eps=_EPSILON),
        }
        super().__init__(OrderedDict(layers))

    def forward(self, faces: Tensor) -> Tensor:
        """Return the vectors, not yet of unit length."""
        scaled = faces * (127.5 / 128)  # (0..255 - 127.5) / 128
        vectors: Tensor = super().forward(scaled)  # type: ignore[no-untyped-call] # torch's
        return vectors


class _Convolution(nn.Sequential):
    """A convolution, its normalisation and a ReLU."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        is_padded: bool = False,
    ) -> None:
        padding = "same" if is_padded else "valid"
        layers: dict[str, nn.Module] = {
            "conv": nn.Conv2d(channels, width, kernel, stride, padding, bias=False),
            "bn": nn.BatchNorm2d(width, eps=_EPSILON),
            "relu": nn.ReLU(),
        }
        super().__init__(OrderedDict(layers))


class _Branches(nn.Module):
    """What several branches make of the same, side by side in the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.num_branches = len(branches)
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C', H', W'): the channels of all branches."""
        branches = [self.get_submodule(f"branch{index}") for index in range(self.num_branches)]
        return torch.cat([branch(x) for branch in branches], dim=1)


class _Residual(_Branches):
    """Adds a little of what the branches make, ``x + s conv(branches(x))`` (section 3.3)."""

    def __init__(
        self, channels: int, joined: int, scale: float, *branches: nn.Module, is_linear: bool
    ) -> None:
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(joined, channels, 1)
        self.scale = scale
        self.is_linear = is_linear

    def forward(self, x: Tensor) -> Tensor:
        """Return what is of the shape of ``x``, positive unless it is linear."""
        y = self.conv2d(super().forward(x)) * self.scale + x
        return y if self.is_linear else functional.relu(y)


def _branch(channels: int, *layers: _Layer, halves: bool = False) -> nn.Module:
    """Return convolutions that keep the size, or of which the last halves it without padding."""
    made = []
    for index, (width, kernel) in enumerate(layers, 1):
        is_last = halves and index == len(layers)
        stride = 2 if is_last else 1
        made.append(_Convolution(channels, width, kernel, stride=stride, is_padded=not is_last))
        channels = width
    return made[0] if len(made) == 1 else nn.Sequential(*made)


def _block35() -> nn.Module:
    """Return Inception-ResNet-A, at 35x35 pixels in the paper (figure 10)."""
    branches = (
        _branch(256, (32, 1)),
        _branch(256, (32, 1), (32, 3)),
        _branch(256, (32, 1), (32, 3), (32, 3)),
    )
    return _Residual(256, 96, 0.17, *branches, is_linear=False)


def _block17() -> nn.Module:
    """Return Inception-ResNet-B, at 17x17 pixels in the paper (figure 11)."""
    branches = _branch(896, (128, 1)), _branch(896, (128, 1), (128, (1, 7)), (128, (7, 1)))
    return _Residual(896, 256, 0.1, *branches, is_linear=False)


def _block8(scale: float, *, is_linear: bool = False) -> nn.Module:
    """Return Inception-ResNet-C, at 8x8 pixels in the paper (figure 13)."""
    branches = _branch(1792, (192, 1)), _branch(1792, (192, 1), (192, (1, 3)), (192, (3, 1)))
    return _Residual(1792, 384, scale, *branches, is_linear=is_linear)


def read_facenet(watcher: Watcher | None = None) -> FaceNet:
    """Return the frozen network with facenet-pytorch's weights, fetched first where need be.

    Raises DownloadError where they can be had neither here nor from the network, and
    ModelFileError where the file holds another network.
    """
    path = pretrained(FACENET, OFFERED, watcher)
    state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):  # no draw from the generator of the training
        network = FaceNet()
    used = {
        name: tensor.float()
        for name, tensor in state.items()
        if not name.startswith("logits.") and not name.endswith(".num_batches_tracked")
    }
    try:
        network.load_state_dict(used, assign=True)
    except RuntimeError as error:
        raise ModelFileError(
            f"does not hold the weights of FaceNet ({textwrap.shorten(str(error), 300)})",
            where=str(path),
            expected="the published file",
            remedy="delete it and fetch it again",
        ) from error
    return network.eval().requires_grad_(False)
