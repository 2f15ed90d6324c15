"""The sizes of results, and the filter that brings them there."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from i2i.engine import compute as compute_module
from i2i.engine import resample
from i2i.engine.compute import Computer
from i2i.engine.inference import begin, resized_pixels, result_bytes, size_of
from i2i.engine.records import Settings
from i2i.engine.sizes import Sizes, fitting_size
from i2i.errors import ImageError
from i2i.types import Fit
from tests.engine.test_tiles import Network, Nothing, enlarging

BYTE = np.dtype(np.uint8)
DEEP = np.dtype(np.uint16)


def noise(height: int, width: int, num_channels: int, dtype: np.dtype) -> np.ndarray:
    top = int(np.iinfo(dtype).max) + 1
    return np.random.default_rng(0).integers(0, top, (height, width, num_channels), dtype)


def pillow(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pillow's Lanczos in float, a channel at a time: it does not clip between its two passes."""
    channels = [
        Image.fromarray(pixels[..., channel].astype(np.float32)).resize(
            size[::-1], Image.Resampling.LANCZOS
        )
        for channel in range(pixels.shape[2])
    ]
    stacked = np.stack([np.asarray(each) for each in channels], -1)
    return stacked.clip(0, np.iinfo(pixels.dtype).max)


REDUCTIONS = [
    ((400, 601), (123, 185)),
    ((33, 17), (5, 3)),
    ((900, 40), (31, 1)),
    ((3, 700), (1, 130)),
    ((50, 70), (50, 35)),  # one axis only
    ((50, 70), (49, 69)),
    ((200, 300), (1, 1)),
    ((30, 41), (77, 100)),  # it enlarges as well
]


@pytest.mark.parametrize(("size", "target"), REDUCTIONS)
@pytest.mark.parametrize("dtype", [BYTE, DEEP], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_lanczos_is_that_of_pillow(size, target, dtype, num_channels):
    pixels = noise(*size, num_channels, dtype)
    made = resized_pixels(pixels, target, dtype, "lanczos")
    assert made.shape == (*target, num_channels)
    assert made.dtype == dtype
    allowed = 0.51 if dtype == BYTE else 0.6  # rounding, and float32 itself
    assert np.abs(made - pillow(pixels, target)).max() <= allowed


def test_pillows_own_8_bits_are_within_a_level():
    """On a picture, that is: on noise Pillow clips what overshoots between its passes."""
    rows, columns = np.mgrid[0:240, 0:352]
    values = [128 + 100 * np.sin(rows / 9 + k) * np.cos(columns / (7 + k)) for k in range(3)]
    pixels = np.stack(values, -1).astype(np.uint8)
    expected = Image.fromarray(pixels).resize((111, 70), Image.Resampling.LANCZOS)
    made = resized_pixels(pixels, (70, 111), BYTE, "lanczos")
    assert np.abs(made.astype(int) - np.asarray(expected)).max() <= 1


def test_strips_of_any_height_give_one_picture(monkeypatch):
    pixels = noise(211, 97, 3, BYTE)
    whole = resized_pixels(pixels, (60, 41), BYTE, "lanczos")
    most = []
    for values in (1, 3 * 97 * 4 * 5, 2**14):
        monkeypatch.setattr(resample, "_STRIP_VALUES", values)
        assert np.array_equal(resized_pixels(pixels, (60, 41), BYTE, "lanczos"), whole)

        def read(start: int, stop: int) -> torch.Tensor:
            most.append(stop - start)
            return torch.zeros(3, stop - start, 97)

        assert sum(rows.shape[1] for _, rows in resample.strips(read, (211, 97), (60, 41))) == 60
    assert max(most) < 211  # never all of it


def test_reduction_does_not_alias():
    """Stripes finer than the result's pixels become their mean, and no coarser stripes."""
    stripes = np.zeros((400, 400, 1), np.uint8)
    stripes[:, ::2] = 255
    made = resized_pixels(stripes, (90, 90), BYTE, "lanczos")
    assert np.abs(made[5:-5, 5:-5].astype(int) - 128).max() <= 3


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((3000, 4000), (1080, 1920), (1080, 1440)),
        ((3000, 4000), (4000, 1000), (750, 1000)),
        ((4000, 3000), (1080, 1920), (1080, 810)),
        ((100, 200), (100, 200), (100, 200)),
        ((100, 200), (101, 199), (100, 199)),  # 99.5 is rounded
        ((99, 50), (100, 100), (99, 50)),  # never enlarged
        ((1, 4000), (500, 500), (1, 500)),  # never nothing
        ((4000, 1), (500, 500), (500, 1)),
        ((7, 7), (1, 1), (1, 1)),
        ((9, 9), None, (9, 9)),
    ],
)
def test_a_result_fits_in_the_box_and_keeps_its_shape(size, box, expected):
    assert fitting_size(size, box) == expected


def test_every_small_size_fits_and_is_as_large_as_can_be():
    for height in range(1, 30):
        for width in range(1, 30):
            for box in [(8, 8), (5, 13), (13, 5), (1, 20)]:
                fitted = fitting_size((height, width), box)
                assert fitted[0] <= min(box[0], height)
                assert fitted[1] <= min(box[1], width)
                factor = min(Fraction(box[0], height), Fraction(box[1], width), Fraction(1))
                for side, whole in zip(fitted, (height, width), strict=True):
                    assert abs(side - whole * factor) <= Fraction(1, 2) or side == 1


def test_the_box_is_met_after_the_familys_scale():
    sizes = Sizes(short_side=100, restore_size=False, scale=4, box=(300, 300))
    assert sizes.made((200, 400)) == (400, 800)
    assert sizes.final((200, 400)) == (150, 300)
    restored = Sizes(short_side=100, restore_size=True, scale=4, box=(300, 300))
    assert restored.made((200, 400)) == (800, 1600)


@pytest.mark.parametrize(
    ("size", "box", "scale", "said"),
    [
        ((100, 100), None, 4, ""),
        ((100, 100), (400, 800), 4, ""),  # one side meets it
        ((100, 100), (300, 300), 4, ""),
        ((100, 100), (401, 401), 4, "smaller than the 401x401 asked for"),
        ((100, 60), (100, 100), 4, "100x100 is no larger than the picture was"),
        ((100, 60), (50, 50), 4, "50x50 is no larger than the picture was"),
        ((100, 60), (50, 50), 1, ""),  # nothing was enlarged
    ],
)
def test_a_box_that_is_not_met_or_wastes_work_is_said(size, box, scale, said):
    notes = Sizes(None, True, scale, box).notes(size)
    assert len(notes) == (1 if said else 0)
    assert said in "".join(notes)


def test_what_decides_the_outputs_bytes_is_json_as_it_comes_back():
    options = Settings(Nothing(), box=(1080, 1920)).options()
    assert options["to"] == "1920x1080"
    assert Settings(Nothing()).options()["to"] is None


def test_a_result_too_large_for_memory_is_refused_before_it_is_computed(monkeypatch):
    """A picture of 3 MB fits where the 48 MB that it becomes do not."""
    monkeypatch.setattr(compute_module, "available", lambda: 30 * 10**6)
    family = enlarging()
    work = begin(noise(1000, 1000, 3, BYTE), family.fit, None, True)
    (failure,) = Computer(family, Settings(Nothing())).compute([work], [BYTE])
    assert isinstance(failure, ImageError)
    assert "its result of 4000x4000 pixels needs about 0.0 GB" in str(failure)
    assert not family.seen
    fitting = int(failure.remedy.split()[-2])
    assert 600 < fitting < 800
    reduced = begin(noise(1000, 1000, 3, BYTE), family.fit, fitting, False)
    assert size_of(reduced.source) == (fitting, fitting)
    assert result_bytes(reduced, BYTE, family.fit) < 30 * 10**6


@pytest.mark.parametrize("dtype", [BYTE, DEEP])
def test_the_memory_of_results_is_known_before(dtype):
    fit = Fit(scale=4)
    pixels = noise(30, 20, 3, dtype)
    whole = begin(pixels, fit, None, True)
    assert result_bytes(whole, dtype, fit) == 120 * 80 * 3 * dtype.itemsize
    reduced = begin(pixels, fit, 10, True)  # float32 at 60 x 40, then the whole
    expected = 60 * 40 * 3 * 4 + 120 * 80 * 3 * dtype.itemsize
    assert result_bytes(reduced, dtype, fit) == expected


def test_tiles_leave_room_for_the_result(monkeypatch):
    """Where the result takes most of the memory, tiles are sized from what it leaves."""
    sides, kept = [], 2920 * 2920 * 3
    for memory in (400 * 10**6, 80 * 10**6):
        monkeypatch.setattr(compute_module, "available", lambda m=memory: m)
        family = Network(enlarging().net, Fit(tiles=True, halo=2, scale=4))
        computer = Computer(family, Settings(Nothing()))
        work = begin(noise(730, 730, 3, BYTE), family.fit, None, True)
        (result,) = computer.compute([work], [BYTE])
        assert size_of(result) == (2920, 2920)
        need = computer._bytes_a_pixel()
        assert 0.9 * (memory - kept) / 3 <= need * computer.tile**2 <= (memory - kept) / 3
        sides.append(max(max(shape[2:]) for shape in family.seen))
    assert sides[1] < 0.5 * sides[0]
