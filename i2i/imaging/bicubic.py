"""Smaller pictures as the literature on super-resolution makes them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from i2i.imaging.picture import Pixels

_SHARPNESS = -0.5  # Keys' a


def shrink(pixels: Pixels, factor: int) -> Pixels:
    """Return (H, W, C) pixels as (H / factor, W / factor, C), by bicubic interpolation.

    The kernel (Keys 1981, a = -0.5) is widened by the factor, edges are mirrored with their last
    pixel repeated, and rows are made before columns, rounded to the type of ``pixels`` in between,
    halves upwards: what MATLAB's imresize does, by which the benchmarks' low-resolution files were
    made. Raises ValueError unless both sides are multiples of the factor.
    """
    if factor < 1 or any(side == 0 or side % factor for side in pixels.shape[:2]):
        raise ValueError(f"{pixels.shape} is no multiple of {factor}")
    if factor == 1:
        return pixels
    rows = _shrunk_rows(pixels, factor)
    columns = _shrunk_rows(rows.swapaxes(0, 1), factor)
    made: Pixels = np.ascontiguousarray(columns.swapaxes(0, 1))
    return made


def _shrunk_rows(pixels: NDArray[Any], factor: int) -> NDArray[Any]:
    # The factor is whole, so every new row is the same sum of the rows about it: four groups of
    # ``factor`` rows, from one and a half before its own group to one and a half after.
    weights = _weights(factor)
    height, width, channels = pixels.shape
    before = (3 * factor + 1) // 2
    padding = ((before, 3 * factor - before), (0, 0), (0, 0))
    wide = np.pad(pixels, padding, mode="symmetric").reshape(-1, factor, width * channels)
    shares = weights.reshape(-1, factor)
    count = height // factor
    # What each group gives to the four rows that it has a part in, then the sums.
    products = shares @ wide.astype(np.float32)
    total = sum(products[place : place + count, place] for place in range(len(shares)))
    top = np.iinfo(pixels.dtype).max
    rounded = np.floor(total + np.float32(0.5)).clip(0, top).astype(pixels.dtype)
    return rounded.reshape(count, width, channels)


def _weights(factor: int) -> NDArray[np.float32]:
    """Return the shares of the 4 * factor pixels about the middle of ``factor``."""
    first = -2 * factor + (1 - factor % 2) / 2
    distance = np.abs(np.arange(4 * factor) + first) / factor
    a = _SHARPNESS
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    weights = np.where(distance <= 1, near, far)
    shares: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return shares
