"""The device that work runs on."""

import re

import torch

from i2i.errors import UsageError


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``: "cpu", "cuda", "cuda:1", "mps", or "auto".

    "auto" is a GPU if there is one, else the CPU. Raises UsageError for any other name, and for a
    device that this machine or this build of PyTorch does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # PyTorch knows more names; what runs on "meta", for one, computes nothing.
    if not re.fullmatch("cpu|cuda(:[0-9]+)?|mps", name):
        raise _absent(name)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise _absent(name) from error
    return device


def _absent(name: str) -> UsageError:
    return UsageError(
        f"there is no device {name!r}",
        where=f"--device {name}",
        expected="auto, cpu, cuda or cuda:N on a machine that has a GPU, or mps on a Mac",
        remedy="use --device cpu, or install a PyTorch build for this GPU",
    )
