"""Regions of photographs: cut out, translated as pictures of their own, and pasted back."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from i2i.engine import inference
from i2i.engine.inference import translate_batch
from i2i.engine.regions import FEATHER, cut_out, feather, paste
from i2i.errors import ImageError, PluginError
from i2i.imaging import to_tensor
from i2i.translator import Translator
from i2i.types import Fit, Region
from tests.engine.test_inference import Convolved, Inverse, Nothing, grey


class Placed(Inverse):
    """Translates the regions it is given, by what ``change`` returns."""

    def __init__(self, *regions: Region, fit: Fit | None = None, change=lambda crop: crop) -> None:
        super().__init__(fit or Fit())
        self.regions, self.change = regions, change

    def locate(self, image, request):
        return self.regions or None

    def translate(self, images, request):
        self.seen.append(images)
        return self.change(images)


class Wide(Convolved):
    """Every pixel of a crop counts, and no other's; wherever it is told to look."""

    regions: ClassVar[dict[float, tuple[Region, ...]]] = {}

    def locate(self, image, request):
        return self.regions.get(float(image[0, 0, 0]))


def turned(degrees: float, scale: float, x: float, y: float, size: tuple[int, int]) -> Region:
    """A crop whose first pixel lies at (x, y), and whose rows point ``degrees`` downwards."""
    cos, sin = (scale * f(math.radians(degrees)) for f in (math.cos, math.sin))
    return Region(((cos, -sin, x), (sin, cos, y)), size)


def photo(height: int, width: int, seed: int = 0, limit: float = 0.8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(3, height, width, generator=generator) * 2 - 1) * limit


def waves(height: int, width: int) -> Tensor:
    """A smooth picture: no detail below some ten pixels."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.sin(x / a + y / b) * 0.7 for a, b in ((9, 14), (-11, 8), (25, 7))])


def forth(region: Region) -> tuple[np.ndarray, np.ndarray]:
    """Return (y, x) in the photograph of a crop's pixels."""
    matrix = np.array(region.matrix)
    y, x = np.mgrid[: region.size[0], : region.size[1]]
    placed = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y, np.ones_like(x)]))
    return placed[1], placed[0]


def back(region: Region, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (y, x) in the crop of a photograph's pixels."""
    inverse = np.linalg.inv(np.vstack([region.matrix, [0, 0, 1]]))
    y, x = np.mgrid[:height, :width]
    placed = np.einsum("ij,jhw->ihw", inverse, np.stack([x, y, np.ones_like(x)]))
    return placed[1], placed[0]


def sampled(image: np.ndarray, places: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Bilinear by SciPy, edges going on."""
    each = [map_coordinates(c.astype(float), places, order=1, mode="nearest") for c in image]
    return np.stack(each)


def weight_of(region: Region, height: int, width: int) -> np.ndarray:
    """The feather, written out for each pixel of the photograph."""
    rows, columns = back(region, height, width)
    high, wide = region.size
    border = 0.2 * min(high, wide)
    result = np.zeros((height, width))
    for index in np.ndindex(height, width):
        x, y = columns[index], rows[index]
        beyond_x = max(border - 0.5 - x, x - (wide - 0.5 - border), 0)
        beyond_y = max(border - 0.5 - y, y - (high - 0.5 - border), 0)
        t = 1 - min(1, math.hypot(beyond_x, beyond_y) / border)
        result[index] = 3 * t**2 - 2 * t**3
    return result


PLACES = [
    turned(0, 1, 7, 5, (20, 30)),
    turned(0, 1, 7.3, 5.6, (20, 30)),
    turned(31, 1, 30, 4, (24, 24)),
    turned(-75, 1.2, 20, 40, (16, 28)),
    turned(10, 1, -8.5, -6.25, (30, 20)),  # beyond two borders
    Region(((-0.9, 0.3, 50.0), (0.1, 0.95, 6.0)), (25, 31)),  # mirrored and sheared
]


@pytest.mark.parametrize("region", PLACES)
def test_a_crop_holds_what_scipy_finds_there(region):
    image = photo(60, 70)
    expected = sampled(image.numpy(), forth(region))
    crop = cut_out(image, region)
    assert crop.dtype == torch.float32
    np.testing.assert_allclose(crop.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_crop_of_pixels_is_that_of_their_tensor(dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (60, 70, 3), dtype=dtype)
    region = turned(31, 1.1, 30, 4, (24, 24))
    torch.testing.assert_close(cut_out(pixels, region), cut_out(to_tensor(pixels), region))
    grey = cut_out(pixels[..., :1], region)
    assert torch.equal(grey, cut_out(np.repeat(pixels[..., :1], 3, axis=2), region))


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_quarter_turns_and_mirrors_move_pixels_and_change_none(turns, mirrored):
    image = photo(50, 40)
    middle = image[:, 10:31, 8:29]  # 21 x 21 around (18, 20)
    expected = torch.rot90(middle, turns, (1, 2))
    cos, sin = math.cos(turns * math.pi / 2), math.sin(turns * math.pi / 2)
    sign = -1 if mirrored else 1
    expected = expected.flip(2) if mirrored else expected
    matrix = np.array([[cos * sign, -sin], [sin * sign, cos]])
    x, y = (18, 20) - matrix @ (10, 10)
    region = Region(((*matrix[0].tolist(), float(x)), (*matrix[1].tolist(), float(y))), (21, 21))
    torch.testing.assert_close(cut_out(image, region), expected, atol=1e-7, rtol=0)


def test_beyond_the_photograph_its_edge_goes_on():
    image = photo(20, 30)
    expected = np.pad(image.numpy(), ((0, 0), (6, 3), (4, 5)), mode="edge")
    crop = cut_out(image, turned(0, 1, -4, -6, (29, 39)))
    np.testing.assert_array_equal(crop.numpy(), expected)


@pytest.mark.parametrize("factor", [2, 3, 4, 8, 16])
def test_a_crop_that_shrinks_takes_the_mean_of_what_it_covers(factor):
    image = photo(96, 144)
    middle = (factor - 1) / 2
    crop = cut_out(image, turned(0, factor, middle, middle, (96 // factor, 144 // factor)))
    blocks = image.reshape(3, 96 // factor, factor, 144 // factor, factor).mean((2, 4))
    torch.testing.assert_close(crop, blocks, atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [2.5, 4.7, 7.9, 13.3])
def test_a_turned_crop_that_shrinks_does_not_alias(scale):
    image = photo(400, 400)
    region = turned(23, scale, 150, 40, (20, 20))
    crop = cut_out(image, region)
    assert crop.std() < 1.25 * image.std() / scale  # the mean of scale x scale numbers has 1
    smooth = waves(400, 400)
    shift = scale * (1 / 16 - 0.5)
    cos, sin = math.cos(math.radians(23)), math.sin(math.radians(23))
    x, y = 150 + shift * (cos - sin), 40 + shift * (sin + cos)
    fine = sampled(smooth.numpy(), forth(turned(23, scale / 8, x, y, (160, 160))))
    means = fine.reshape(3, 20, 8, 20, 8).mean((2, 4))  # of 64 places in each pixel's square
    np.testing.assert_allclose(cut_out(smooth, region).numpy(), means, atol=0.05)


def test_the_feather_is_a_smooth_step_with_round_corners():
    def at(x: float, y: float, size=(50, 100)) -> float:
        return float(feather(torch.tensor(x).double(), torch.tensor(y).double(), size))

    width = FEATHER * 50
    assert FEATHER == 0.2
    assert at(49.5, 24.5) == 1
    assert at(49.5, width - 0.5) == 1
    assert at(49.5, -0.5) == at(-0.5, 24.5) == at(99.5, 24.5) == at(49.5, 49.5) == 0
    assert at(-3, 10) == at(200, 10) == at(20, -30) == 0
    assert at(49.5, width / 2 - 0.5) == at(width / 2 - 0.5, 24.5) == 0.5
    assert at(99 - (width / 4 - 0.5), 24.5) == pytest.approx(3 / 16 - 2 / 64)
    corner = width - 0.5  # of the rectangle within
    assert at(corner - width * 0.708, corner - width * 0.708) == 0
    assert at(corner - width * 0.3, corner - width * 0.4) == pytest.approx(0.5)


@pytest.mark.parametrize("region", PLACES)
def test_a_constant_change_is_the_feather_and_nothing_outside(region):
    image = photo(60, 70, limit=0.5)
    (output,) = translate_batch(Placed(region, change=lambda crop: crop + 0.25), [image], Nothing())
    weight = weight_of(region, 60, 70)
    np.testing.assert_allclose(
        (output - image).numpy(), np.broadcast_to(0.25 * weight, image.shape), atol=1e-6
    )
    assert torch.equal(output[:, weight == 0], image[:, weight == 0])
    assert weight.max() > 0.9


@pytest.mark.parametrize("region", PLACES)
def test_what_changed_comes_back_where_scipy_puts_it(region):
    image = waves(60, 70)
    (output,) = translate_batch(Placed(region, change=lambda crop: -crop), [image], Nothing())
    change = -2 * sampled(image.numpy(), forth(region))
    weight = weight_of(region, 60, 70)
    expected = image.numpy() + weight * sampled(change, back(region, 60, 70))
    np.testing.assert_allclose(output.numpy(), np.clip(expected, -1, 1), atol=1e-5)


def test_a_change_finer_than_the_photograph_comes_back_as_its_mean():
    """A checkerboard of single pixels, in a crop six times finer, is nothing to the photograph."""
    region = turned(17, 1 / 6, 20, 12, (150, 150))
    rows, columns = torch.meshgrid(torch.arange(150), torch.arange(150), indexing="ij")
    board = (rows + columns) % 2 * 0.4

    def change(crop: Tensor) -> Tensor:
        return crop + board

    image = photo(60, 60, limit=0.4)
    (output,) = translate_batch(Placed(region, change=change), [image], Nothing())
    weight = weight_of(region, 60, 60)
    expected = np.broadcast_to(0.2 * weight, image.shape)
    np.testing.assert_allclose((output - image).numpy(), expected, atol=0.03)


@pytest.mark.parametrize("scale", [0.1, 1, 6])
def test_an_unchanged_crop_leaves_every_value(scale):
    images = [photo(90, 80, limit=1), photo(40, 95, seed=1, limit=1)]
    regions = turned(20, scale, 25, 3, (31, 23)), turned(-40, scale, 20, 30, (17, 40))
    outputs = translate_batch(Placed(*regions, fit=Fit(multiple=8)), images, Nothing())
    for image, output in zip(images, outputs, strict=True):
        assert torch.equal(output, image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pasting_leaves_the_pixels_of_every_value_that_nothing_changed(dtype):
    peak = np.iinfo(dtype).max
    values = np.arange(256 * 256) % (peak + 1)
    pixels = np.repeat(values.astype(dtype).reshape(256, 256, 1), 3, axis=2)
    onto = pixels.copy()
    region = turned(0, 1, 0, 0, (256, 256))
    paste(onto, pixels, [region], [torch.zeros(3, 256, 256)])
    np.testing.assert_array_equal(onto, pixels)
    paste(onto, pixels, [region], [torch.full((3, 256, 256), 20 / peak)])
    wanted = np.minimum(pixels[60:200, 60:200].astype(int) + 10, peak)
    np.testing.assert_array_equal(onto[60:200, 60:200], wanted)  # the values span 2


@pytest.mark.parametrize("height", [90, 700])  # in one strip of rows, and in several
def test_overlapping_changes_are_weighted_whatever_the_order(height):
    regions = [
        turned(0, 1, 5, height - 75, (40, 40)),
        turned(30, 1, 40, height - 70, (44, 30)),
        turned(0, height / 40, 2, 2, (36, 22)),
    ]
    values = [0.3, -0.2, 0.1]
    changes = [torch.full((3, *r.size), v) for r, v in zip(regions, values, strict=True)]
    image = photo(height, 100, limit=0.5)
    results = []
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        onto = image.clone()
        paste(onto, image, [regions[i] for i in order], [changes[i] for i in order])
        results.append(onto)
    weights = np.stack([weight_of(region, height, 100) for region in regions])
    assert (weights.sum(0) > 1.5).any()
    total = np.maximum(weights.sum(0), 1)
    expected = image.numpy() + np.einsum("i,ihw->hw", values, weights) / total
    for each in results:
        np.testing.assert_allclose(each.numpy(), expected, atol=1e-6)


def test_crops_are_translated_as_pictures_of_their_size():
    regions = (turned(12, 1.3, 20, 4, (37, 30)), turned(0, 1, 3, 40, (30, 37)))
    image = photo(100, 90)
    options = [
        {},
        {"work_size": 20},
        {"work_size": 20, "restore": "detail"},
        {"work_size": 20, "restore_size": False},  # which is of pictures: crops go back
        {"ensemble": True},
    ]
    fits = [Fit(multiple=8), Fit(exact_size=(24, 24)), Fit(smallest=50)]
    for fit, given in [(fit, given) for fit in fits for given in options]:
        alone, family = Convolved(fit), Wide(fit)
        family.regions = {float(image[0, 0, 0]): regions}
        (output,) = translate_batch(family, [image], Nothing(), **given)
        crops = [cut_out(image, region) for region in regions]
        results = translate_batch(alone, crops, Nothing(), **given | {"restore_size": True})
        expected = image.clone()
        pairs = zip(results, crops, strict=True)
        paste(expected, image, regions, [result - crop for result, crop in pairs])
        torch.testing.assert_close(output, expected.clamp(-1, 1), atol=1e-5, rtol=0)
        assert float((output - image).abs().max()) > 0.05


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_no_photograph_depends_on_the_others(batch_size):
    family = Wide(Fit(multiple=4))
    images = [photo(60 + k, 70 - k, seed=k) for k in range(4)]
    first = [float(image[0, 0, 0]) for image in images]
    family.regions = {
        first[0]: (turned(5, 1, 6, 3, (20, 20)), turned(0, 1, 30, 30, (16, 24))),
        first[1]: (turned(9, 1.2, 16, 3, (20, 20)),),
        first[3]: (turned(-5, 1, 6, 8, (18, 18)),),
    }
    together = translate_batch(family, images, Nothing(), batch_size=batch_size)
    for image, output in zip(images, together, strict=True):
        (alone,) = translate_batch(family, [image], Nothing())
        torch.testing.assert_close(output, alone, atol=1e-5, rtol=0)
    (whole,) = translate_batch(Convolved(Fit(multiple=4)), [images[2]], Nothing())
    torch.testing.assert_close(together[2], whole, atol=1e-5, rtol=0)  # None: as ever


def test_regions_are_located_in_evaluation_mode_without_gradients_on_the_whole():
    class Watching(Placed):
        def locate(self, image, request):
            assert isinstance(request, Nothing)
            assert not self.training
            assert not torch.is_grad_enabled()
            self.shape = tuple(image.shape)
            return super().locate(image, request)

    family = Watching(turned(0, 1, 3, 3, (9, 9)))
    family.train()
    translate_batch(family, [photo(40, 30)], Nothing(), work_size=10)
    assert family.shape == (3, 40, 30)
    assert family.training
    assert [tuple(each.shape) for each in family.seen] == [(1, 3, 9, 9)]


def test_a_family_that_locates_nothing_is_never_asked(monkeypatch):
    def locate(self, image, request):
        raise AssertionError("it was asked")

    monkeypatch.setattr(Translator, "locate", locate)
    monkeypatch.setattr(inference, "available", lambda: 0)
    (output,) = translate_batch(Inverse(Fit()), [grey(9, 9)], Nothing())
    torch.testing.assert_close(output, -grey(9, 9))


NAN = float("nan")
UNIT = ((1.0, 0.0, 2.0), (0.0, 1.0, 2.0))


@pytest.mark.parametrize(
    ("regions", "words"),
    [
        ([], "returned no region; expected .* raise ImageError where"),
        (7, "returned int; expected a sequence"),
        ((r for r in [Region(UNIT, (5, 5))]), "returned generator"),
        (["face"], "'face', which is no i2i.Region"),
        ([Region(((1.0, 0.0, NAN), (0.0, 1.0, 0.0)), (5, 5))], "not finite"),
        ([Region(((1.0, 0.0, math.inf), (0.0, 1.0, 0.0)), (5, 5))], "not finite"),
        ([Region(((1e200, 0.0, 0.0), (0.0, 1e200, 0.0)), (5, 5))], "too far away"),
        ([Region(((1.0, 2.0, 0.0), (2.0, 4.0, 0.0)), (5, 5))], "no area"),
        ([Region(((0.0, 0.0, 5.0), (0.0, 0.0, 5.0)), (5, 5))], "no area"),
        ([Region(UNIT, (0, 5))], "whose size is none"),
        ([Region(UNIT, (5.0, 5.0))], "whose size is none"),
        ([Region(UNIT, (5,))], "another shape"),
        ([Region((*UNIT, (0.0, 0.0, 1.0)), (5, 5))], "another shape"),
        ([Region(((1.0, 0.0), (0.0, 1.0)), (5, 5))], "another shape"),
        ([Region(UNIT, (5, 5)), turned(0, 1, 20, 0, (5, 5))], "beside the photograph"),
        ([turned(0, 1, 0, -5, (5, 5))], "beside the photograph"),
    ],
)
def test_regions_that_cannot_be_used_are_refused_and_the_family_named(regions, words):
    class Wrong(Placed):
        def locate(self, image, request):
            return regions

    with pytest.raises(PluginError, match=words) as caught:
        translate_batch(Wrong(), [photo(20, 20)], Nothing())
    assert caught.value.where == "family 'inverse'"


@pytest.mark.parametrize("fit", [Fit(scale=2), Fit(channels_out=1), Fit(channels_in=1)])
def test_families_whose_results_are_no_parts_of_the_photograph_have_no_regions(fit):
    image = photo(20, 20)[: fit.channels_in]
    with pytest.raises(PluginError, match="3 to 3 at scale 1"):
        translate_batch(Placed(Region(UNIT, (5, 5)), fit=fit), [image], Nothing())


def test_a_photograph_without_anything_to_translate_says_so():
    class Blind(Placed):
        def locate(self, image, request):
            raise ImageError("no face", where="it", expected="one", remedy="find one")

    with pytest.raises(ImageError, match="no face"):
        translate_batch(Blind(), [photo(20, 20)], Nothing())
