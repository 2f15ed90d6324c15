"""The practical degradation: kernels, noise and JPEG against closed forms, and whose draws."""

import io
import itertools
import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from i2i import Batch, PluginError
from i2i.augment import Degradation, DegradationOptions
from i2i.augment.degradation import bell_kernel, photon_noise, sinc_kernel
from i2i.augment.jpeg import compress
from tests.unit.degraded import NOTHING, PLAIN, batch_of, degraded, levels, now


def grey(number: int, side: int, level: float = 128) -> Tensor:
    return torch.full((number, 3, side, side), level / 127.5 - 1)


def in_levels(pictures: Tensor) -> Tensor:
    return (pictures.double() + 1) * 127.5


def distance(a: Tensor, b: Tensor) -> float:
    """The PSNR of pictures of 0..255 in dB."""
    return 10 * math.log10(255**2 / float((a.double() - b.double()).square().mean()))


# Kernels


def bells() -> list[Tensor]:
    return [
        bell_kernel(21, (2.0, 2.0)),
        bell_kernel(13, (0.2, 3.0), 0.7),
        bell_kernel(7, (1.5, 0.8), 2.0, 0.5),
        bell_kernel(15, (1.0, 2.5), 0.3, 4.0),
        bell_kernel(21, (2.0, 1.0), 1.0, 1.5, plateau=True),
    ]


@pytest.mark.parametrize(
    "kernel", [*bells(), sinc_kernel(21, 0.8), sinc_kernel(7, 3.0), sinc_kernel(13, math.pi)]
)
def test_a_kernel_sums_to_one_and_is_the_same_upside_down(kernel):
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(kernel, kernel.flip(0, 1), atol=1e-14, rtol=0)
    assert kernel.shape[0] % 2 == 1
    assert kernel.shape[0] == kernel.shape[1]


def test_a_round_gaussian_is_the_product_of_two_gaussians():
    weights = np.exp(-(np.arange(-10, 11) ** 2) / (2 * 1.7**2))
    expected = np.outer(weights, weights)
    np.testing.assert_allclose(bell_kernel(21, (1.7, 1.7)), expected / expected.sum(), rtol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.3, 2.9])
def test_an_oval_gaussian_has_the_covariance_it_was_asked_for(angle):
    kernel = bell_kernel(21, (2.2, 1.1), angle).numpy()
    y, x = np.mgrid[-10:11, -10:11]
    found = [[(kernel * a * b).sum() for a in (x, y)] for b in (x, y)]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(found, turn @ np.diag([2.2**2, 1.1**2]) @ turn.T, atol=0.01)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 3.0])
def test_exponents_shape_bells_and_plateaus(exponent):
    """Along an axis: exp(-(r / s)^(2 b) / 2) and 1 / (1 + (r / s)^(2 b)), over that at 0."""
    r = torch.arange(5, dtype=torch.float64)
    for plateau in (False, True):
        kernel = bell_kernel(9, (1.6, 3.0), 0.0, exponent, plateau)
        power = (r / 1.6) ** (2 * exponent)
        expected = 1 / (1 + power) if plateau else torch.exp(-power / 2)
        torch.testing.assert_close(kernel[4, 4:] / kernel[4, 4], expected)


@pytest.mark.parametrize("cutoff", [1.2, math.pi / 2, 2.2])
def test_a_sinc_filter_passes_below_its_cutoff_and_stops_above(cutoff):
    response = np.abs(np.fft.fft2(sinc_kernel(21, cutoff).numpy(), (128, 128)))
    frequency = 2 * np.pi * np.fft.fftfreq(128)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    assert response[radius < cutoff - 0.45].min() > 0.8
    assert response[radius > cutoff + 0.45].max() < 0.15
    assert response[radius < cutoff].max() > 1.02  # it rings


# Noise


def test_gaussian_noise_has_the_deviation_it_was_asked_for():
    noise = {"noise": 1, "gaussian": 1, "grey": 0, "gaussian_sigma": (12, 12)}
    low = degraded(grey(2, 128), 1, **PLAIN | {"first": NOTHING | noise})
    difference = in_levels(low) - 128
    count = difference.numel()
    rounding = 1 / 12
    assert float(difference.mean()) == pytest.approx(0, abs=4 * 12 / count**0.5)
    assert float(difference.var()) == pytest.approx(144 + rounding, rel=4 * (2 / count) ** 0.5)
    channels = np.corrcoef(difference[0].flatten(1).numpy())
    assert np.abs(channels - np.eye(3)).max() < 4 / 128


@pytest.mark.parametrize("gaussian", [0, 1])
def test_grey_noise_is_one_in_all_channels(gaussian):
    noise = {"noise": 1, "gaussian": gaussian, "grey": 1}
    colour = torch.tensor([90.0, 130.0, 160.0]).view(3, 1, 1).expand(3, 3, 32, 32)
    low = degraded(colour / 127.5 - 1, 1, **PLAIN | {"first": NOTHING | noise})
    difference = in_levels(low) - colour
    assert float(difference.std()) > 1
    rounding = 1 + 1e-3
    assert float((difference - difference[:, :1]).abs().max()) < rounding


@pytest.mark.parametrize("level", [40, 160])
def test_poisson_noise_has_one_photon_a_level_times_its_scale(level):
    noise = {"noise": 1, "gaussian": 0, "grey": 0, "poisson_scale": (1.5, 1.5)}
    low = degraded(grey(2, 128, level), 1, **PLAIN | {"first": NOTHING | noise})
    difference = in_levels(low) - level
    expected = 1.5**2 * level + 1 / 12
    assert float(difference.mean()) == pytest.approx(0, abs=4 * (expected / 98304) ** 0.5)
    assert float(difference.var()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("level", [0, 1, 3, 20, 200])
def test_photon_noise_has_three_moments_of_poisson_counts(level):
    normal = torch.randn(2_000_000, generator=torch.Generator().manual_seed(0)).double()
    noise = photon_noise(torch.full_like(normal, level / 255), normal)
    assert float(noise.mean()) == pytest.approx(0, abs=0.004 * level**0.5)
    assert float(noise.var()) == pytest.approx(level, abs=1 / 18 * (level > 0) + 0.005 * level)
    third = float((noise**3).mean())
    assert third == pytest.approx(level, abs=(0.02 * level**1.5 + 0.03 * level) if level else 0)


# JPEG


@pytest.mark.parametrize("quality", [1, 20, 30, 60, 90, 100])
def test_compression_loses_what_a_jpeg_file_of_pillow_loses(quality):
    picture = levels(1, 101, 75)[0]
    file = io.BytesIO()
    array = picture.byte().permute(1, 2, 0).numpy()
    Image.fromarray(array).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    theirs = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    ours = (compress(picture[None] / 255, quality)[0] * 255).round()
    assert distance(ours, theirs) > distance(theirs, picture) + 6
    assert distance(ours, picture) == pytest.approx(distance(theirs, picture), abs=0.35)


@pytest.mark.parametrize("quality", [15, 50, 80])
def test_waves_of_a_block_are_multiples_of_the_steps_in_a_file_of_pillow(quality):
    noise = np.random.RandomState(0).normal(0, 40, (1, 1, 64, 64)).round().clip(-70, 70)
    picture = torch.from_numpy(128 + noise).float().expand(-1, 3, -1, -1)
    file = io.BytesIO()
    array = picture[0].byte().permute(1, 2, 0).numpy()
    Image.fromarray(array).save(file, "JPEG", quality=quality)
    steps = np.array(Image.open(file).quantization[0]).reshape(8, 8)
    luma = compress(picture / 255, quality)[0, 1].numpy() * 255 - 128
    corners = itertools.product(range(0, 64, 8), repeat=2)
    waves = np.stack([cv2.dct(luma[y : y + 8, x : x + 8]) for y, x in corners]) / steps
    assert np.abs(waves - waves.round()).max() < 0.02
    assert (np.abs(waves.round()) > 0).any(0).sum() > 20


def test_compression_leaves_steps_at_the_borders_of_blocks():
    picture = levels(1, 96, 96)[0]
    ours = compress(picture[None] / 255, 10)[0] * 255
    steps = (ours[:, :, 1:] - ours[:, :, :-1]).abs().mean((0, 1))
    borders = steps[7::8].mean()
    assert float(borders) > 1.2 * float(steps.mean())


def test_compressing_again_changes_little():
    once = compress(levels() / 255, 40)
    assert distance(compress(once, 40) * 255, once * 255) > distance(once * 255, levels()) + 6


# The whole


def test_all_off_and_area_is_the_mean_of_each_square():
    high = levels(2, 24, 36)
    low = degraded(high / 127.5 - 1, 4, **PLAIN, interpolations=["area"])
    means = high.unflatten(3, (-1, 4)).unflatten(2, (-1, 4)).mean((3, 5))
    assert float((in_levels(low) - means).abs().max()) < 0.501
    assert low.shape == (2, 3, 6, 9)


@pytest.mark.parametrize(
    ("interpolation", "flag"), [("bilinear", cv2.INTER_LINEAR), ("bicubic", cv2.INTER_CUBIC)]
)
def test_all_off_is_a_plain_reduction(interpolation, flag):
    high = levels(1, 48, 36)
    low = degraded(high / 127.5 - 1, 3, **PLAIN, interpolations=[interpolation])
    picture = high[0].permute(1, 2, 0).numpy()
    expected = cv2.resize(picture, (12, 16), interpolation=flag).clip(0, 255)
    found = in_levels(low)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() < 0.501


def test_all_off_at_scale_one_changes_nothing():
    high = levels() / 127.5 - 1
    torch.testing.assert_close(degraded(high, 1, **PLAIN), high, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("scale", "size"), [(1, (24, 40)), (2, (48, 64)), (3, (48, 63))])
@pytest.mark.parametrize("order", [1, 2])
def test_a_result_has_its_size_and_eight_bits(scale, size, order):
    high = levels(3, *size) / 127.5 - 1
    low = degraded(high, scale, order=order)
    assert low.shape == (3, 3, size[0] // scale, size[1] // scale)
    assert low.dtype == torch.float32
    assert float(low.min()) >= -1
    assert float(low.max()) <= 1
    torch.testing.assert_close(in_levels(low), in_levels(low).round(), atol=1e-4, rtol=0)


def test_pictures_smaller_than_kernels_can_be_degraded():
    for step in range(12):
        low = degraded(levels(2, 8, 16) / 127.5 - 1, 8, step)
        assert low.shape == (2, 3, 1, 2)
        assert torch.isfinite(low).all()


def test_a_picture_alone_comes_out_bit_for_bit_as_in_a_batch():
    high = levels(6) / 127.5 - 1
    whole = Batch({"high": high}, torch.tensor([11, 12, 13, 14, 15, 16]))
    make = Degradation(DegradationOptions(), 4)
    together = make(high, whole, now())
    for part in (1, 2, 3, 6):
        low = [make(each.images["high"], each, now()) for each in whole.split(part)]
        assert torch.equal(torch.cat(low), together)
    turned = Batch({"high": high.flip(0)}, whole.keys.flip(0))
    assert torch.equal(make(turned.images["high"], turned, now()), together.flip(0))


def test_seed_stage_step_and_sample_draw_another_degradation_and_nothing_else_does():
    high = levels(1).expand(2, -1, -1, -1) / 127.5 - 1
    make = Degradation(DegradationOptions(), 4)
    low = make(high, batch_of(high), now())
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(make(high, batch_of(high), now()), low)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(make(high, batch_of(high), now(images=77)), low)
    assert not torch.equal(low[0], low[1])
    for other in (now(step=6), now(seed=4), now(stage="other")):
        again = make(high, batch_of(high), other)
        assert not torch.equal(again[0], low[0])
        assert not torch.equal(again[1], low[1])


def test_precision_is_full_and_no_gradient_is_kept():
    high = (levels(2) / 127.5 - 1).requires_grad_()
    expected = degraded(high, 4)
    assert not expected.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(degraded(high, 4), expected)


@pytest.mark.parametrize("wrong", [(2, 3, 50, 48), (3, 3, 48, 48), (2, 1, 48, 48)])
def test_other_pictures_are_refused(wrong):
    make = Degradation(DegradationOptions(), 4)
    with pytest.raises(PluginError, match="cannot degrade pictures of the shape"):
        make(torch.zeros(wrong), batch_of(torch.zeros(2, 3, 4, 4)), now())


def test_importing_it_imports_no_kornia():
    code = "import i2i.augment.degradation, sys; sys.exit('kornia' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
