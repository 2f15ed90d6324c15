"""Smooth noise in folders, the layout of high resolution over them, and its batches."""

from pathlib import Path

import numpy as np
from PIL import Image

from i2i.data import HighResolution, HostAugment, make_loader
from i2i.recipe.schema import HostTransform
from i2i.types import Batch, Inputs

INPUTS = Inputs(("low", "high"), paired=True)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Return smooth noise: neighbours are alike, yet no two places are."""
    generator = np.random.default_rng(seed)
    fine = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
    coarse = Image.fromarray(fine[::4, ::4]).resize(shape[::-1], Image.Resampling.BICUBIC)
    return (np.asarray(coarse) * 0.8 + fine * 0.2).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_five(root: Path) -> Path:
    """Write training pictures of five sizes, and return the data folder."""
    for number in range(5):
        write(root / f"train/{number}.png", noise(61 + number, 70, seed=number))
    return root


def layout(root: Path, split: str = "train", **options: object) -> HighResolution:
    chosen = HighResolution.Options(**({"crop": 32} | options))
    return HighResolution(root, chosen, INPUTS, split)


def batches(
    source: HighResolution, *transforms: str, count: int = 4, workers: int = 0, seed: int = 3
) -> list[Batch]:
    return list(
        make_loader(
            source,
            HostAugment([HostTransform(transform=each, p=0.5) for each in transforms]),
            seed=seed,
            batch_size=3,
            start_step=0,
            num_steps=count,
            num_workers=workers,
        )
    )
