"""Tiles: even, in phase, and without a trace in the result."""

import itertools
import math

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from i2i.engine.inference import translate_batch
from i2i.engine.tiles import cover, frame
from i2i.translator import Translator
from i2i.types import Fit, Inputs


class Nothing(BaseModel):
    pass


class Network(Translator):
    """A network with weights from a seed; a test says how it fits."""

    name = "network"
    Options = Nothing
    Request = Nothing
    inputs = Inputs(images=("a",), paired=False)
    exported = ("net",)
    fit = Fit()

    def __init__(self, net: nn.Module, fit: Fit) -> None:
        super().__init__(Nothing())
        self.net, self.fit = net, fit
        self.seen: list[tuple[int, ...]] = []

    def players(self, stage):
        return {}

    def training_step(self, batch, now):
        yield from ()

    def translate(self, images, request):
        self.seen.append(tuple(images.shape))
        return self.net(images).tanh()


def plain() -> Network:
    """Three zero-padded convolutions: each result sees four pixels around it."""
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Conv2d(8, 3, 3, padding=1))
    return Network(net, Fit(tiles=True, halo=4, smallest=8))


def enlarging() -> Network:
    """A pixel shuffle, as super-resolution has."""
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 48, 3, padding=1)]
    return Network(nn.Sequential(*layers, nn.PixelShuffle(4)), Fit(tiles=True, halo=2, scale=4))


def strided() -> Network:
    """Down and up again, reflection-padded: the phase of each window matters."""
    net = nn.Sequential(
        nn.ReflectionPad2d(3),
        nn.Conv2d(3, 8, 7),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(8, 3, 3, stride=2, padding=1, output_padding=1),
    )
    return Network(net, Fit(multiple=4, smallest=8, tiles=True, halo=14))


SIZES = [(1, 1), (7, 93), (64, 64), (65, 63), (97, 131), (128, 40), (101, 103), (33, 257)]


def translated(family: Network, image: torch.Tensor, tile: int | None, batch_size: int = 3):
    (output,) = translate_batch(family, [image], Nothing(), tile=tile, batch_size=batch_size)
    return output


@pytest.mark.parametrize("make", [plain, enlarging, strided])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tile", [24, 40, 57])
def test_tiles_leave_no_trace(make, size, tile):
    torch.manual_seed(0)
    family = make()
    image = torch.rand(3, *size) * 2 - 1
    whole = translated(family, image, None)
    family.seen.clear()
    tiled = translated(family, image, tile)
    assert tiled.shape == whole.shape
    assert float((tiled - whole).abs().max()) < 2 / 255 / 100
    if max(frame(size, family.fit).padded) > max(tile, 64):
        assert sum(shape[0] for shape in family.seen) > 1
        halo = -(-family.fit.halo // family.fit.multiple) * family.fit.multiple
        least = max(tile, 2 * halo + family.fit.multiple)
        assert max(max(shape[2:]) for shape in family.seen) <= least
    assert len({shape[2:] for shape in family.seen}) == 1


@pytest.mark.parametrize("make", [plain, strided])
def test_a_halo_that_is_too_small_is_seen(make):
    """The comparison above would fail: it can."""
    torch.manual_seed(0)
    family = make()
    image = torch.rand(3, 96, 96) * 2 - 1
    whole = translated(family, image, None)
    family.fit = Fit(multiple=family.fit.multiple, smallest=8, tiles=True, halo=0)
    assert float((translated(family, image, 40) - whole).abs().max()) > 1 / 255


def test_a_family_that_sees_the_whole_picture_is_never_tiled():
    family = plain()
    family.fit = Fit(tiles=False, halo=4)
    translated(family, torch.zeros(3, 90, 90), 24)
    assert family.seen == [(1, 3, 90, 90)]


@pytest.mark.parametrize("length", [1, 8, 63, 64, 72, 100, 180, 1001])
@pytest.mark.parametrize("side", [1, 16, 40, 64, 5000])
@pytest.mark.parametrize(
    ("multiple", "halo", "smallest"),
    [(1, 0, 1), (4, 6, 8), (8, 16, 64), (1, 4, 64), (4, 92, 8)],
)
def test_cores_divide_an_axis_evenly(length, side, multiple, halo, smallest):
    fit = Fit(multiple=multiple, halo=halo, smallest=smallest, tiles=True)
    padded = frame((length, length), fit).padded[0]
    spans = cover(padded, side, fit)
    assert spans[0].core_start == 0
    assert spans[-1].core_stop == padded
    for one, two in itertools.pairwise(spans):
        assert one.core_stop == two.core_start
    lengths = [span.core_stop - span.core_start for span in spans]
    assert max(lengths) - min(lengths) <= multiple
    assert len({span.stop - span.start for span in spans}) == 1
    assert len(spans) == 1 or spans[0].stop < padded  # no window sees it all, again and again
    for span in spans:
        assert span.start % multiple == 0
        assert (span.stop - span.start) >= smallest
        assert 0 <= span.start <= max(0, span.core_start - halo) or span.core_start == 0
        assert span.start == 0 or span.core_start - span.start >= halo
        assert span.stop == padded or span.stop - span.core_stop >= halo
    rounded = math.ceil(halo / multiple) * multiple
    least = max(side, smallest, 2 * rounded + multiple)
    assert spans[0].stop - spans[0].start <= min(padded, max(least, smallest + multiple))


def test_windows_of_a_picture_share_batches():
    family = plain()
    translated(family, torch.zeros(3, 100, 100), 40, batch_size=4)
    assert {shape[0] for shape in family.seen} <= {4, 1}
    assert sum(shape[0] for shape in family.seen) == 16
