"""Self-ensemble: eight positions, one mean, and no trace of tiles, padding or batches."""

import numpy as np
import pytest
import torch
from torch import nn

from i2i.engine.compute import Computer
from i2i.engine.ensemble import ensembled
from i2i.engine.inference import begin, translate_batch
from i2i.engine.job import check_family
from i2i.engine.records import Settings
from i2i.errors import UsageError
from i2i.imaging import to_tensor
from i2i.model_file import Header, Model
from i2i.types import Fit
from tests.engine.test_tiles import Network, Nothing, enlarging, plain, strided


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, height, width, generator=generator) * 2 - 1


def translated(family: Network, image: torch.Tensor, **options: object) -> torch.Tensor:
    (output,) = translate_batch(family, [image], Nothing(), ensemble=True, **options)
    return output


def mean_of_eight(family: Network, image: torch.Tensor) -> torch.Tensor:
    """Each position written out with transposes and flips alone, in double precision."""
    results = []
    with torch.no_grad():
        for transposed in (False, True):
            for down in (False, True):
                for across in (False, True):
                    axes = [axis for axis, flips in ((2, down), (3, across)) if flips]
                    placed = (image.mT if transposed else image)[None].flip(axes)
                    result = family.net(placed).tanh().flip(axes)
                    results.append((result.mT if transposed else result)[0].double())
    return torch.stack(results).mean(0)


class Rising(nn.Module):
    """Adds a slope from left to right: in no position the same."""

    def forward(self, images):
        return images + torch.linspace(0, 0.3, images.shape[3])


class Cross(nn.Module):
    """A blur that is the same in all eight positions, enlarged by repeating pixels."""

    def forward(self, images):
        weights = torch.tensor([[0.05, 0.1, 0.05], [0.1, 0.4, 0.1], [0.05, 0.1, 0.05]])
        blurred = nn.functional.conv2d(
            images, weights.expand(3, 1, 3, 3).contiguous(), padding=1, groups=3
        )
        return blurred.repeat_interleave(3, 2).repeat_interleave(3, 3)


@pytest.mark.parametrize("make", [plain, enlarging])
@pytest.mark.parametrize("size", [(9, 9), (13, 30), (31, 8)])
def test_the_result_is_the_mean_of_eight_positions(make, size):
    torch.manual_seed(0)
    family, image = make(), picture(*size)
    output = translated(family, image)
    expected = mean_of_eight(family, image)
    torch.testing.assert_close(output.double(), expected, atol=1e-6, rtol=0)
    (once,) = translate_batch(family, [image], Nothing())
    assert float((output - once).abs().max()) > 0.01  # it is another result


def test_a_family_that_is_the_same_in_every_position_gives_the_same_result():
    family, image = Network(Cross(), Fit(scale=3)), picture(10, 17)
    (once,) = translate_batch(family, [image], Nothing())
    torch.testing.assert_close(translated(family, image), once, atol=1e-6, rtol=0)


def test_what_differs_between_positions_is_evened_out():
    """A slope to the right and one to the left leave the same everywhere: their middle."""
    family = Network(Rising(), Fit())
    family.translate = lambda images, request: family.net(images)  # without tanh
    output = translated(family, torch.zeros(3, 12, 20))
    torch.testing.assert_close(output, torch.full((3, 12, 20), 0.15), atol=1e-6, rtol=0)


@pytest.mark.parametrize("make", [plain, enlarging, strided])
@pytest.mark.parametrize("size", [(65, 93), (97, 60), (128, 40)])
@pytest.mark.parametrize("tile", [40, 57])
def test_a_tile_and_its_halo_are_turned_together(make, size, tile):
    torch.manual_seed(0)
    family, image = make(), picture(*size)
    whole = translated(family, image)
    family.seen.clear()
    tiled = translated(family, image, tile=tile, batch_size=3)
    assert sum(shape[0] for shape in family.seen) > 8
    assert float((tiled - whole).abs().max()) < 2 / 255 / 100


def test_only_one_position_is_computed_at_a_time():
    family = enlarging()
    translated(family, picture(12, 30))
    assert family.seen == [(1, 3, 12, 30), (1, 3, 30, 12)] * 4


def test_a_position_gets_a_copy_of_its_own():
    """What a family does to its input in place must not reach the other seven."""

    def spoil(batch: torch.Tensor) -> torch.Tensor:
        result = batch * 0.5
        batch.fill_(9)
        return result

    batch = picture(6, 9)[None]
    expected = batch * 0.5
    torch.testing.assert_close(ensembled(spoil, batch), expected, atol=1e-6, rtol=0)


def test_padding_to_a_multiple_is_turned_with_the_picture():
    family = strided()
    output = translated(family, picture(10, 21))
    assert output.shape == (3, 10, 21)
    assert {shape[2:] for shape in family.seen} == {(12, 24), (24, 12)}


def test_square_exact_sizes_are_turned_and_others_are_refused():
    family = Network(nn.Conv2d(3, 3, 3, padding=1), Fit(exact_size=(16, 16)))
    assert translated(family, picture(20, 30)).shape == (3, 20, 30)
    lying = Fit(exact_size=(16, 24))
    with pytest.raises(UsageError, match="24x16 pixels only"):
        translated(Network(family.net, lying), picture(20, 30))
    header = Header(family="network", distribution="none 1.0", options={}, request={})
    model = Model(Network(family.net, lying), header, "0")
    with pytest.raises(UsageError, match="--ensemble"):
        check_family(model, Settings(Nothing(), ensemble=True))
    check_family(model, Settings(Nothing()))


def test_a_job_makes_what_the_function_makes():
    torch.manual_seed(0)
    family = enlarging()
    pixels = np.random.default_rng(0).integers(0, 256, (33, 21, 3), dtype=np.uint8)
    work = begin(pixels, family.fit, None, True)
    (made,) = Computer(family, Settings(Nothing(), ensemble=True)).compute(
        [work], [np.dtype(np.uint8)]
    )
    expected = translated(family, to_tensor(pixels))
    assert float((to_tensor(made) - expected).abs().max()) <= 1.01 / 255  # half a level


def test_it_is_part_of_what_decides_the_outputs_bytes():
    assert Settings(Nothing(), ensemble=True).options() != Settings(Nothing()).options()
