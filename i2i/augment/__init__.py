"""Augmentation after loading: of training batches on their device, and of what discriminators see.

Names are resolved when they are first used; kornia is imported by what needs it alone.
"""

from typing import TYPE_CHECKING, Any

from i2i.lazy import resolve

if TYPE_CHECKING:
    from i2i.augment.degradation import Degradation, DegradationOptions
    from i2i.augment.device import DeviceAugment
    from i2i.augment.discriminator import DiscriminatorAugment, DiscriminatorAugmentOptions

_HOMES = {
    "Degradation": "degradation",
    "DegradationOptions": "degradation",
    "DeviceAugment": "device",
    "DiscriminatorAugment": "discriminator",
    "DiscriminatorAugmentOptions": "discriminator",
}

__all__ = [
    "Degradation",
    "DegradationOptions",
    "DeviceAugment",
    "DiscriminatorAugment",
    "DiscriminatorAugmentOptions",
]


def __getattr__(name: str) -> Any:
    return resolve(__name__, _HOMES, name)
