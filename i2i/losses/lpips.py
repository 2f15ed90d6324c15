"""Perceptual distances for reports: LPIPS, and one that needs no download."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from i2i.downloads import Remote, Watcher
from i2i.errors import unknown
from i2i.losses.perceptual import check_pair
from i2i.nn.backbones import Backbone, BackboneName, shipped
from i2i.nn.pretrained import CORE

LpipsName = Literal["alexnet", "vgg16", "squeezenet1_1"]

_LAYERS: dict[LpipsName, tuple[str, ...]] = {
    "alexnet": ("relu1", "relu2", "relu3", "relu4", "relu5"),
    "vgg16": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
    "squeezenet1_1": ("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9"),
}
_TINY = 1e-10  # the length below which a position's features count as none


class Lpips:
    """Learned perceptual distance, version 0.1 (arXiv:1801.03924, equation 1).

    ``d(x, y) = sum_l  mean_hw  w_l . (u_l(x) - u_l(y))^2``: features of layer ``l``, at each
    position divided by their length over the channels, weighed by the authors' linear heads (the
    squares of the paper's weights), which ship with i2i. The authors report with ``alexnet``. The
    backbone is fetched where need be; ``i2i.nn.pretrained.is_at_hand`` says whether it was. Raises
    UsageError for a backbone without heads, and DownloadError where it can be had neither here nor
    from the network.

    Deviation: lengths are the root of the sum of squares plus a tiny square, where the authors add
    the tiny number to the root, so that gradients are finite where all features are zero.
    """

    def __init__(
        self,
        backbone: LpipsName = "alexnet",
        offers: Mapping[str, Remote] = CORE,
        watcher: Watcher | None = None,
    ) -> None:
        if backbone not in get_args(LpipsName):
            raise unknown("LPIPS backbone named", backbone, get_args(LpipsName), where="LPIPS")
        self.name = f"LPIPS 0.1 ({backbone})"
        self._layers = _LAYERS[backbone]
        self._backbone = Backbone(backbone, offers)
        self._backbone.load(watcher)
        heads = shipped("lpips")
        self._heads = [heads[f"{backbone}.{index}"] for index in range(len(self._layers))]

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return each pair's distance, (N,) float32, from 0 up; RGB (N, 3, H, W) in [-1, 1]."""
        return _distance(self._backbone, self._layers, self._heads, images, targets)


class FeatureDistance:
    """A perceptual distance that needs no download: **not** LPIPS, and not comparable with it.

    The formula of LPIPS without its learned weights, over SqueezeNet 1.0's layers before each
    pooling, and its last: ``d(x, y) = sum_l  mean_hw  |u_l(x) - u_l(y)|^2``. From 0 to 2 a layer:
    features after a rectifier are not negative, so no angle between them is obtuse.
    """

    name = "feature distance (SqueezeNet 1.0, unit weights)"
    layers: tuple[str, ...] = ("relu1", "fire4", "fire8", "fire9")

    def __init__(self) -> None:
        backbone: BackboneName = "squeezenet"
        self._backbone = Backbone(backbone)

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return each pair's distance, (N,) float32, from 0 to 8; RGB (N, 3, H, W) in [-1, 1]."""
        return _distance(self._backbone, self.layers, None, images, targets)


def _distance(
    backbone: Backbone,
    layers: Sequence[str],
    heads: Sequence[Tensor] | None,
    images: Tensor,
    targets: Tensor,
) -> Tensor:
    check_pair(images, targets)
    pairs = zip(backbone.features(images, layers), backbone.features(targets, layers), strict=True)
    distances = []
    for index, (x, y) in enumerate(pairs):
        squares = (_unit(x) - _unit(y)).square()
        if heads is not None:
            squares = squares * heads[index].to(squares).view(1, -1, 1, 1)
        distances.append(squares.sum(1).mean((1, 2)))
    return torch.stack(distances).sum(0)


def _unit(features: Tensor) -> Tensor:
    """Divide (N, C, H, W) by its length over the channels."""
    return features * (features.square().sum(1, keepdim=True) + _TINY**2).rsqrt()
