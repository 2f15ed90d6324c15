"""The device that work runs on."""

import torch

from i2i.errors import UsageError


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``: "cpu", "cuda", "cuda:1", or "auto" for the best there is.

    Raises UsageError for one that this machine or this build of PyTorch does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"there is no device {name!r}",
            where=f"--device {name}",
            expected="auto, cpu, or cuda on a machine that has a GPU",
            remedy="use --device cpu, or install a PyTorch build for this GPU",
        ) from error
    return device
