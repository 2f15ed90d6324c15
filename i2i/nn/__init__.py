"""What the networks of two families or more share.

Importing it imports no torch, so that a plugin can name auxiliary networks without.
"""

from typing import TYPE_CHECKING, Any

from i2i.lazy import resolve
from i2i.nn.pretrained import pretrained  # at once: the module of this name would hide it

if TYPE_CHECKING:
    from i2i.nn.attention import SelfAttention
    from i2i.nn.discriminators import DiscriminatorOptions, PatchDiscriminator, smallest_side
    from i2i.nn.history import HistoricalAverage
    from i2i.nn.initialisation import initialise
    from i2i.nn.norms import BatchNorm, InstanceNorm
    from i2i.nn.pool import ImagePool
    from i2i.nn.resampling import BlurPool, downsampling, upsampling
    from i2i.nn.statistics import MinibatchStandardDeviation

_HOMES = {
    "BatchNorm": "norms",
    "BlurPool": "resampling",
    "DiscriminatorOptions": "discriminators",
    "HistoricalAverage": "history",
    "ImagePool": "pool",
    "InstanceNorm": "norms",
    "MinibatchStandardDeviation": "statistics",
    "PatchDiscriminator": "discriminators",
    "SelfAttention": "attention",
    "downsampling": "resampling",
    "initialise": "initialisation",
    "smallest_side": "discriminators",
    "upsampling": "resampling",
}

__all__ = [
    "BatchNorm",
    "BlurPool",
    "DiscriminatorOptions",
    "HistoricalAverage",
    "ImagePool",
    "InstanceNorm",
    "MinibatchStandardDeviation",
    "PatchDiscriminator",
    "SelfAttention",
    "downsampling",
    "initialise",
    "pretrained",
    "smallest_side",
    "upsampling",
]


def __getattr__(name: str) -> Any:
    return resolve(__name__, _HOMES, name)
