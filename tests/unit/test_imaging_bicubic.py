import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from i2i.imaging import Pixels, read_picture, rgb8, shrink


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def kernel(x: float) -> float:
    """Keys' cubic convolution kernel for a = -1/2, as his paper prints it (1981, equation 15)."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def mirrored(place: int, length: int) -> int:
    """Walk along 0 1 2 2 1 0 0 1 2 and so on."""
    place %= 2 * length
    return min(place, 2 * length - 1 - place)


def line(values: list[float], factor: int) -> list[int]:
    """Return a line shrunk and rounded, one pixel and one neighbour after the other."""
    made = []
    for number in range(len(values) // factor):
        middle = number * factor + (factor - 1) / 2
        total = weights = 0.0
        for place in range(math.floor(middle) - 3 * factor, math.ceil(middle) + 3 * factor + 1):
            weight = kernel((place - middle) / factor)
            total += weight * values[mirrored(place, len(values))]
            weights += weight
        made.append(min(255, max(0, math.floor(total / weights + 0.5 + 1e-9))))
    return made


def plainly(pixels: Pixels, factor: int) -> np.ndarray:
    """Return what ``shrink`` should: columns of numbers first, then rows of the result."""
    channels = []
    for channel in np.moveaxis(pixels, 2, 0):
        lower = np.array([line(column.tolist(), factor) for column in channel.T]).T
        channels.append([line(row.tolist(), factor) for row in lower])
    return np.moveaxis(np.array(channels), 0, 2)


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 7, 8])
def test_every_pixel_is_what_the_formula_says(factor: int) -> None:
    pixels = noise(6 * factor, 4 * factor, 3, seed=factor)
    made = shrink(pixels, factor)
    assert made.dtype == np.uint8
    assert made.shape == (6, 4, 3)
    assert made.flags.c_contiguous
    expected = plainly(pixels, factor)
    assert np.array_equal(made, expected)
    other_way = plainly(pixels.swapaxes(0, 1), factor).swapaxes(0, 1)
    assert not np.array_equal(made, other_way), "the order of the passes makes no difference here"


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_away_from_edges_it_is_torchs_antialiased_bicubic(factor: int) -> None:
    pixels = noise(16 * factor, 12 * factor, 3)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    torchs = functional.interpolate(tensor, (16, 12), mode="bicubic", antialias=True)[0]
    expected = torchs.permute(1, 2, 0).numpy().clip(0, 255)[2:-2, 2:-2]
    assert np.abs(shrink(pixels, factor)[2:-2, 2:-2] - expected).max() < 1.3  # it rounds twice


def test_a_picture_smaller_than_the_kernel_mirrors_more_than_once() -> None:
    pixels = noise(4, 8, 1)
    assert np.array_equal(shrink(pixels, 4), plainly(pixels, 4))
    assert shrink(noise(8, 8, 3), 8).shape == (1, 1, 3)


def test_one_colour_stays_itself_and_overshoot_is_clipped() -> None:
    for factor in range(2, 9):
        for value in (0, 1, 127, 254, 255):
            flat = np.full((3 * factor, 2 * factor, 3), value, np.uint8)
            assert (shrink(flat, factor) == value).all()
    edge = np.zeros((32, 32, 1), np.uint8)
    edge[:, 16:] = 255
    assert set(shrink(edge, 4)[0, [0, 2, 5, 7], 0]) == {0, 255}


def test_16_bits_stay_16_bits() -> None:
    pixels = noise(24, 16, 3)
    deep = shrink(pixels.astype(np.uint16) * 257, 4)
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - shrink(pixels, 4)).max() < 1.3


def test_a_factor_of_one_changes_nothing() -> None:
    pixels = noise(5, 7, 3)
    assert np.array_equal(shrink(pixels, 1), pixels)


@pytest.mark.parametrize(("shape", "factor"), [((9, 8, 3), 4), ((8, 9, 3), 4), ((0, 8, 3), 4)])
def test_sizes_that_are_no_multiple_are_refused(shape: tuple[int, ...], factor: int) -> None:
    with pytest.raises(ValueError, match="no multiple of 4"):
        shrink(np.zeros(shape, np.uint8), factor)


@pytest.mark.parametrize(("name", "count"), [("Set5", 5), ("Set14", 14)])
def test_it_makes_the_low_resolution_files_of_the_literature(name: str, count: int) -> None:
    folder = Path(os.environ.get("I2I_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))
    if not (folder / "sr" / name).is_dir():
        pytest.skip(f"{name} is not here: set I2I_SHARED_DATA")
    measured = []
    for path in sorted((folder / "sr" / name / "HR").iterdir()):
        low_path = path.parents[1] / "LR" / path.name
        high, low = (rgb8(read_picture(each)) for each in (path, low_path))
        height, width = (side // 4 * 4 for side in high.shape[:2])
        error = shrink(high[:height, :width], 4).astype(float) - low
        measured.append(10 * math.log10(255**2 / np.mean(error**2)))
    assert len(measured) == count
    assert np.mean(measured) > 60, "dB on RGB; torch's antialiased bicubic reaches 55.9 and 54.1"
