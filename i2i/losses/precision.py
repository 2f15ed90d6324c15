"""The precision that losses compute in, whatever the networks ran in."""

import torch
from torch import Tensor


def full(values: Tensor) -> Tensor:
    """Return ``values`` in float32; float64 stays, so that gradients can be checked in it."""
    return values if values.dtype == torch.float64 else values.float()


def without_autocast(values: Tensor) -> torch.autocast:
    """Return a context in which no operation on the device of ``values`` runs in 16 bits."""
    return torch.autocast(values.device.type, enabled=False)
