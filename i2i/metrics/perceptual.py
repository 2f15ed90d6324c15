"""How alike two pictures are to a trained network: distances in its features."""

import numpy as np
import torch
from torch import Tensor

from i2i.downloads import Watcher
from i2i.errors import PluginError
from i2i.imaging import to_tensor
from i2i.losses.lpips import FeatureDistance, Lpips
from i2i.metrics.metric import Bytes, Metric
from i2i.nn.backbones import Backbone, BackboneName

_SHOWN = "RGB, 8 bits, whole pictures; the mean over pictures"


class Features(Metric):
    """A distance in the features of a network that ships with i2i; it needs no download.

    **Not** LPIPS, and not comparable with it: ``i2i.losses.lpips.FeatureDistance``.
    """

    name = "features"
    better = "lower"
    bytes_a_pixel = 1000  # 850 were measured: every layer of both pictures is kept
    _backbone: BackboneName = "squeezenet"
    _deepest = FeatureDistance.layers[-1]

    def __init__(self) -> None:
        self._distance: FeatureDistance | Lpips | None = None

    def protocol(self, scale: int) -> str:
        """Name the network, and what it is shown."""
        return f"{FeatureDistance.name}; {_SHOWN}"

    def smallest(self, scale: int) -> int:
        """Return what the network's deepest layer needs."""
        return Backbone(self._backbone).smallest_side(self._deepest)

    def prepare(self, watcher: Watcher | None = None) -> None:
        """Read the network; raises DownloadError where it has to be fetched and cannot be."""
        self._distance = FeatureDistance()

    @torch.no_grad()
    def measure(self, result: Bytes, target: Bytes, scale: int) -> float:
        """Return the distance, from 0 up; on the CPU, so that it is the same everywhere."""
        if self._distance is None:
            raise PluginError(
                "measure was called before prepare",
                where=f"metric {self.name!r}",
                expected="one call of prepare first",
                remedy="correct the caller",
            )
        return float(self._distance(_batch(result), _batch(target))[0])


class LpipsAlexNet(Features):
    """LPIPS 0.1 as its authors report it: AlexNet, whose weights are fetched once (244 MB)."""

    name = "lpips"
    _backbone = "alexnet"
    _deepest = "relu5"

    def protocol(self, scale: int) -> str:
        """Name the version, the network, and what it is shown."""
        return f"LPIPS 0.1 (alexnet); {_SHOWN}"

    def prepare(self, watcher: Watcher | None = None) -> None:
        """Read the network, fetched first where need be; raises DownloadError."""
        self._distance = Lpips("alexnet", watcher=watcher)


def _batch(pixels: Bytes) -> Tensor:
    return to_tensor(np.ascontiguousarray(pixels))[None]
