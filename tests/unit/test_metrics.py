"""Fidelity against scikit-image and closed forms, and scores that know what they compare with."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from i2i.errors import DownloadError, PluginError, UsageError
from i2i.imaging import read_picture, rgb8, to_tensor
from i2i.losses.lpips import FeatureDistance
from i2i.metrics import Score, better_than, fidelity, luma, psnr, score_of, ssim
from i2i.metrics.perceptual import Features, LpipsAlexNet
from i2i.model_file import Header, read_header, save_model
from i2i.plugins import load_plugins
from tests.contract.families import Tiny, TinyOptions

WINDOW = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": 255,
}

NAMES = ("features", "l1", "lpips", "psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y")


def pair(height: int, width: int, noise: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth coloured picture, and the same with noise: like a result and its target."""
    draw = np.random.default_rng(height * 1000 + width)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 5 + k) * np.cos(columns / 7 - k) for k in range(3)]
    target = np.stack(waves, -1) * 110 + 128
    seen = target + draw.normal(0, noise, target.shape)
    return seen.round().clip(0, 255).astype(np.uint8), target.round().astype(np.uint8)


def independent_luma(pixels: np.ndarray) -> np.ndarray:
    """Y by the matrix of BT.601 in its other form: luma of 0 to 1, stretched from 16 to 235."""
    return 16 + 219 * (pixels / 255) @ np.array((0.299, 0.587, 0.114))


@pytest.mark.parametrize(("height", "width"), [(40, 56), (64, 41), (23, 200)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_values_agree_with_scikit_image(height, width, scale):
    result, target = pair(height, width)
    border = scale if scale > 1 else 0
    x, y = (each[border : height - border, border : width - border] for each in (result, target))
    grey_x, grey_y = (luma(each)[..., 0] for each in (x, y))
    expected = {
        "psnr_y": peak_signal_noise_ratio(grey_y, grey_x, data_range=255),
        "psnr_rgb": peak_signal_noise_ratio(y, x, data_range=255),
        "ssim_y": structural_similarity(grey_y, grey_x, **WINDOW),
        "ssim_rgb": structural_similarity(y, x, channel_axis=2, **WINDOW),
        "l1": np.abs(result.astype(float) - target).mean(),
    }

    plugins = load_plugins()
    found = {name: plugins.metric(name).measure(result, target, scale) for name in expected}

    assert found == pytest.approx(expected, abs=1e-9)
    assert found["psnr_y"] > found["psnr_rgb"] + 1  # noise of three channels partly cancels


def test_y_is_that_of_bt_601_and_not_rounded():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [3, 7, 250]]], "u1")

    y = luma(colours)

    assert (y.shape, y.dtype) == ((1, 5, 1), np.float64)
    assert y[0, :4, 0].tolist() == pytest.approx([16, 235, 81.481, 144.553], abs=1e-12)
    assert y[0, :, 0].tolist() == pytest.approx(independent_luma(colours)[0].tolist(), abs=2e-3)
    assert y[0, 4, 0] % 1 != 0


def test_a_constant_difference_has_the_psnr_of_the_formula():
    target = np.full((9, 8, 3), 100, np.uint8)

    for step in (1, 10, 155):
        assert psnr(target + np.uint8(step), target) == pytest.approx(20 * math.log10(255 / step))
    assert psnr(target, target) == math.inf
    one = target.copy()
    one[..., 0] += 10  # a third of the values differ: the mean is over all channels
    assert psnr(one, target) == pytest.approx(20 * math.log10(255 / 10) + 10 * math.log10(3))


def test_what_lies_in_the_border_does_not_count_and_the_protocol_says_how_wide_it_is():
    plugins = load_plugins()
    target = pair(40, 40)[1]
    result = target.copy()
    result[:4], result[-4:], result[:, :4], result[:, -4:] = 0, 0, 0, 0

    for name, perfect in [("psnr_y", math.inf), ("psnr_rgb", math.inf), ("ssim_y", 1.0)]:
        metric = plugins.metric(name)
        assert metric.measure(result, target, 4) == perfect
        assert metric.measure(result, target, 3) < perfect
        assert metric.measure(result, target, 1) < perfect
        assert "4 pixels cut off at each side" in metric.protocol(4)
        assert "no border cut off" in metric.protocol(1)
        assert metric.smallest(4) - metric.smallest(1) == 8


def test_strips_of_a_large_picture_change_nothing(monkeypatch):
    result, target = pair(61, 47)
    whole = psnr(result, target), ssim(result, target), luma(result)

    monkeypatch.setattr(fidelity, "_STRIP_VALUES", 500)

    assert psnr(result, target) == pytest.approx(whole[0], abs=1e-12)
    assert ssim(result, target) == pytest.approx(whole[1], abs=1e-12)
    assert np.array_equal(luma(result), whole[2])


def test_ssim_is_one_for_equals_and_has_the_formulas_value_between_flat_pictures():
    flat, other = np.full((12, 12, 1), 100, np.uint8), np.full((12, 12, 1), 150, np.uint8)
    c1 = (0.01 * 255) ** 2

    assert ssim(flat, flat) == pytest.approx(1)
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)  # no variance: the first factor alone
    assert ssim(flat, other) == pytest.approx(expected)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_two_sizes_and_what_is_smaller_than_the_window_are_refused(measure):
    with pytest.raises(UsageError, match="two pictures of one size"):
        measure(np.zeros((12, 12, 3), "u1"), np.zeros((12, 13, 3), "u1"))
    with pytest.raises(UsageError, match="two pictures of one size"):
        measure(np.zeros((0, 12, 3), "u1"), np.zeros((0, 12, 3), "u1"))
    if measure is ssim:
        with pytest.raises(UsageError, match="at least 11 pixels"):
            measure(np.zeros((10, 12, 3), "u1"), np.zeros((10, 12, 3), "u1"))


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_picture_is_measured_and_every_metric_knows_its_best(name, monkeypatch):
    metric = load_plugins().metric(name)
    if name == "lpips":
        monkeypatch.setattr(metric, "_distance", FeatureDistance())  # as small, and at hand
    else:
        metric.prepare()
    side = metric.smallest(2)
    result, target = pair(side, side, noise=40)

    perfect, worse = metric.measure(target, target, 2), metric.measure(result, target, 2)

    assert metric.name == name
    assert perfect > worse if metric.better == "higher" else perfect < worse


def test_features_are_the_distance_that_ships_and_never_mistaken_for_lpips():
    metric = Features()
    result, target = pair(48, 64)
    with pytest.raises(PluginError, match="before prepare"):
        metric.measure(result, target, 4)
    metric.prepare()

    expected = FeatureDistance()(to_tensor(result)[None], to_tensor(target)[None])

    assert metric.measure(result, target, 4) == float(expected[0]) > 0
    assert "LPIPS" not in metric.protocol(4)
    assert LpipsAlexNet().protocol(4).startswith("LPIPS 0.1 (alexnet); RGB")


def test_lpips_says_what_to_fetch_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("I2I_CACHE", str(tmp_path))
    monkeypatch.setenv("I2I_OFFLINE", "1")

    with pytest.raises(DownloadError, match="i2i models fetch alexnet"):
        LpipsAlexNet().prepare()


def test_no_two_metrics_share_a_protocol():
    plugins = load_plugins()

    protocols = {plugins.metric(name).protocol(4) for name in plugins.metrics}

    assert {*NAMES} <= {*plugins.metrics}
    assert len(protocols) == len(plugins.metrics)


def score(**changes: object) -> Score:
    plain = Score("psnr_y", 28.43, "PSNR, border 4", "Set5 (test)", "ab" * 32, 5, "higher", "dB")
    return replace(plain, **changes)


def test_scores_compare_in_the_direction_that_is_better():
    assert better_than(score(value=30.0), score())
    assert not better_than(score(), score(value=30.0))
    assert not better_than(score(), score())
    assert better_than(score(better="lower", value=1.0), score(better="lower"))
    assert better_than(score(data="a copy of Set5 (test)", value=30.0), score())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"protocol": "PSNR, border 0"}, "the protocols differ: PSNR, border 4 and PSNR, border 0"),
        ({"name": "psnr_rgb"}, "the metrics differ: psnr_y and psnr_rgb"),
        ({"pictures": "cd" * 32}, "the pictures differ"),
    ],
)
def test_scores_that_were_measured_differently_refuse_to_be_compared(changes, said):
    with pytest.raises(UsageError, match=said):
        better_than(score(), score(**changes))


def test_a_mean_comes_with_its_standard_error():
    metric = load_plugins().metric("psnr_y")
    values = [28.1, 30.7, 25.2, 33.9]

    found = score_of(metric, 4, "Set5 (test)", "", values)

    assert found.value == pytest.approx(np.mean(values))
    assert found.standard_error == pytest.approx(np.std(values, ddof=1) / 2)
    assert (found.num_pictures, found.unit, found.better) == (4, "dB", "higher")
    assert found.protocol == metric.protocol(4)
    assert score_of(metric, 4, "", "", [28.1]).standard_error is None
    assert score_of(metric, 4, "", "", [28.1, math.inf]).standard_error is None


@pytest.mark.parametrize("value", [28.43, math.inf])
def test_a_model_file_keeps_scores_as_they_were(tmp_path, value):
    kept = score(value=value, standard_error=0.25)
    header = Header(
        family="tiny", distribution="tiny 1", options={}, request={}, metrics=(kept.to_dict(),)
    )
    save_model(tmp_path / "a.safetensors", Tiny(TinyOptions()), header)

    (entry,) = read_header(tmp_path / "a.safetensors").metrics

    assert Score.from_dict(entry) == kept
    assert json.loads(json.dumps(dict(entry), allow_nan=False)) == kept.to_dict()


@pytest.mark.parametrize(("name", "expected"), [("Set5", 28.43), ("Set14", 26.09)])
def test_bicubic_reaches_what_is_known_of_it(name, expected):
    """Pillow's bicubic four times, on the literature's files; one of Set14's is greyscale."""
    default = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("I2I_SHARED_DATA", default)) / "sr" / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not here: set I2I_SHARED_DATA")
    metric = load_plugins().metric("psnr_y")
    values = []
    for path in sorted((folder / "HR").iterdir()):
        target, low = (rgb8(read_picture(folder / each / path.name)) for each in ("HR", "LR"))
        height, width = low.shape[0] * 4, low.shape[1] * 4
        result = Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC)
        values.append(metric.measure(np.asarray(result), target[:height, :width], 4))

    assert metric.combine(values) == pytest.approx(expected, abs=0.005)
