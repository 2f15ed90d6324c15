"""Faces with ages, and photographs with faces in them, for the tests of face ageing."""

import hashlib
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from i2i import Batch
from i2i.imaging import to_tensor

SHARED = Path(os.environ.get("I2I_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))


def faces_of(ages: Sequence[float], side: int = 64, seed: int = 0) -> Batch:
    """Return made faces, noise, of these ages."""
    generator = torch.Generator().manual_seed(seed)
    faces = torch.rand(len(ages), 3, side, side, generator=generator) * 2 - 1
    keys = torch.arange(len(ages)) + 1000 * seed
    return Batch({"face": faces}, keys, {"age": torch.tensor(ages, dtype=torch.float64)})


def lively(network: nn.Module, by: float = 0.1, seed: int = 1) -> nn.Module:
    """Give every weight the size of a trained network's: at first some hardly say anything."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)
    return network


@cache
def real_faces(count: int, side: int) -> Tensor:
    """Return held-out faces of UTKFace, (N, 3, side, side)."""
    paths = [*(SHARED / "utkface").rglob("*.jpg")]
    if not paths:
        pytest.skip("utkface is not here: set I2I_SHARED_DATA")
    paths.sort(key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())
    faces = []
    for path in paths[:count]:
        with Image.open(path) as opened:
            small = opened.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        faces.append(to_tensor(np.asarray(small)))
    return torch.stack(faces)


def photograph(left: int, top: int, side: int) -> Tensor:
    """Return a grey photograph, (3, 300, 400), with a face of this side in it."""
    (face,) = real_faces(1, side)
    made = torch.zeros(3, 300, 400)
    made[:, top : top + side, left : left + side] = face
    return made
