"""Families whose results are known beforehand, as a distribution, and their measures."""

from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from i2i.cli import main
from i2i.model_file import Header, build, save_model
from i2i.plugins import Plugins

CODE = '''
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from i2i.hookspecs import hookimpl
from i2i.metrics import Metric
from i2i.translator import Translator
from i2i.types import Fit, Inputs


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: int = 2


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    shift: float = Field(0.0, description="Added to all values.")
    ramp: float = Field(0.0, description="Added from minus this to this, from left to right.")


class Repeater(Translator):
    """Enlarges by repeating pixels; fails on purpose on pictures of one width."""

    name = "repeater"
    Options = Options
    Request = Request
    inputs = Inputs(images=("low", "high"), paired=True)
    exported = ("net",)

    def __init__(self, options):
        super().__init__(options)
        self.net = nn.Conv2d(1, 1, 1)
        self.sides = []

    @property
    def fit(self):
        return Fit(scale=self.options.scale, tiles=True, trained_size=16)

    def players(self, stage):
        raise AssertionError("only training asks for players")

    def training_step(self, batch, now):
        yield from ()

    def translate(self, images, request):
        if images.shape[3] == 31:
            raise ValueError("a bug of the family")
        seen.append(tuple(images.shape[2:]))
        for axis in (2, 3):
            images = images.repeat_interleave(self.options.scale, axis)
        ramp = torch.linspace(-request.ramp, request.ramp, images.shape[3])
        return (images + request.shift + ramp).clamp(-1, 1)


seen = []


class SameSize(Repeater):
    name = "same_size"
    inputs = Inputs(images=("a", "b"), paired=True)


class Alone(Repeater):
    name = "alone"
    inputs = Inputs(images=("a", "b"), paired=False)


class Gap(Metric):
    """Over the whole set: how far the mean of all results is from that of all targets."""

    name = "gap"
    better = "lower"
    per_picture = False

    def protocol(self, scale):
        return "absolute difference of the means of all pixels"

    def measure(self, result, target, scale):
        return float(result.sum()), float(target.sum()), result.size

    def combine(self, measured):
        result, target, size = (sum(each) for each in zip(*measured))
        return abs(result - target) / size


class Misnamed(Gap):
    name = "other"


class Unfinished(Metric):
    name = "unfinished"
    better = "lower"


@hookimpl
def i2i_families() -> Mapping[str, str]:
    return {each.name: f"known:{each.__name__}" for each in (Repeater, SameSize, Alone)}


@hookimpl
def i2i_metrics() -> Mapping[str, str]:
    return {
        "gap": "known:Gap",
        "misnamed": "known:Misnamed",
        "unfinished": "known:Unfinished",
        "stray": "known:Options",
    }


@hookimpl
def i2i_recipes() -> Path:
    return Path(__file__).parent / "recipes"
'''
RECIPE = """
family = "repeater"
summary = "For tests."
[model]
scale = 2
[request]
shift = 0.1
[data]
layout = "paired"
[data.options.test]
low = "small"
high = "large"
[translate]
work_size = 10
restore_size = false
[weights]
file = "weights/repeats.safetensors"
"""
WINDOW = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": 255,
}


def saved(
    path: Path, plugins: Plugins, family: str = "repeater", scale: int = 2, recipe: str = ""
) -> Path:
    kind = plugins.family(family)
    options = kind.Options(scale=scale)
    header = Header(
        family=family, distribution="known 1.0", options=options.model_dump(), request={},
        recipe=recipe,
    )  # fmt: skip
    save_model(path, build(kind, options, 0), header)
    return path


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def noise(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Return a picture with large forms and noise, so that its measures are no extremes."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (height // 8 + 1, width // 8 + 1, channels))
    fine = draw.integers(-20, 21, (height, width, channels))
    forms = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
    return (forms + fine).clip(0, 255).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def halved(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    cut = pixels[:height, :width].astype(float)
    return cut.reshape(height // 2, 2, width // 2, 2, -1).mean((1, 3)).round().astype(np.uint8)


def expected(result: np.ndarray, target: np.ndarray, border: int = 2) -> dict[str, float]:
    """Return the measures by scikit-image; Y by BT.601 from its weights of 0 to 1."""
    x, y = (
        each[border : each.shape[0] - border, border : each.shape[1] - border]
        for each in (result, target)
    )
    grey = [16 + each @ np.array((65.481, 128.553, 24.966)) / 255 for each in (x, y)]
    return {
        "psnr_y": peak_signal_noise_ratio(*grey, data_range=255),
        "ssim_y": structural_similarity(*grey, **WINDOW),
        "psnr_rgb": peak_signal_noise_ratio(x, y, data_range=255),
        "ssim_rgb": structural_similarity(x, y, channel_axis=2, **WINDOW),
    }


def known(data: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what the model must make of a picture, what bicubic does, and the target."""
    low = np.asarray(Image.open(data / "testLow" / name))
    size = low.shape[1] * 2, low.shape[0] * 2
    enlarged = np.asarray(Image.fromarray(low).resize(size, Image.Resampling.BICUBIC))
    target = np.asarray(Image.open(data / "testHigh" / name))
    return low.repeat(2, 0).repeat(2, 1), enlarged, target[: size[1], : size[0]]
