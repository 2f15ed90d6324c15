"""Made pictures, and what the practical degradation makes of them."""

import numpy as np
import torch
from torch import Tensor

from i2i import Batch, Progress
from i2i.augment import Degradation, DegradationOptions

NOTHING = {"blur": 0, "enlarge": 0, "reduce": 0, "noise": 0, "jpeg": 0}
PLAIN = {"order": 1, "first": NOTHING, "final_sinc": 0}
"""Everything off: what is left is the resize to the final size."""


def now(step: int = 5, **changed) -> Progress:
    return Progress(**{"seed": 3, "stage": "train", "step": step, "images": 0, **changed})


def levels(number: int = 4, height: int = 48, width: int = 64, seed: int = 0) -> Tensor:
    """Pictures of 0..255 with slopes, edges and texture."""
    draw = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width]
    pictures = []
    for _ in range(number):
        tilt = draw.uniform(-1, 1, (3, 2))
        planes = [128 + 60 * np.sin((a * x + b * y) / 9) + draw.uniform(-40, 40) for a, b in tilt]
        picture = np.stack(planes) + draw.normal(0, 6, (3, height, width))
        picture[:, height // 3 :, width // 2 :] += draw.uniform(-70, 70, (3, 1, 1))
        pictures.append(picture)
    return torch.from_numpy(np.stack(pictures).round().clip(0, 255)).float()


def batch_of(high: Tensor, first: int = 0) -> Batch:
    return Batch({"high": high}, torch.arange(first, first + len(high)))


def degraded(high: Tensor, scale: int, step: int = 5, **options) -> Tensor:
    made = Degradation(DegradationOptions(**options), scale)
    return made(high, batch_of(high), now(step))
