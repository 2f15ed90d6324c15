"""A tiny family in a real small distribution, and what tests of folder jobs do with it."""

import hashlib
import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from i2i.cli import main
from i2i.imaging import read_picture
from i2i.model_file import Header, build, save_model

FAMILY = '''
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from i2i.hookspecs import hookimpl
from i2i.translator import Translator
from i2i.types import Fit, Inputs

heard = []
seen = []


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    channels_out: int = Field(3, description="Three, or one for grey.")
    scale: int = Field(1, description="Of the result.")
    tiles: bool = Field(False, description="Whether it may be tiled.")


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float = Field(1.0, ge=0, le=1, description="How much is negated.")
    tone: Literal["cold", "warm"] = Field("cold", description="Without effect.")
    seconds: float = Field(0.0, description="To sleep before each batch.")


class Negative(Translator):
    """Negates; fails on purpose on pictures of certain widths."""

    name = "negative"
    Options = Options
    Request = Request
    inputs = Inputs(images=("a",), paired=False)
    exported = ("net",)

    def __init__(self, options):
        super().__init__(options)
        self.net = nn.Conv2d(3, options.channels_out, 1, bias=False)
        with torch.no_grad():
            self.net.weight.copy_(-torch.eye(3)[: options.channels_out, :, None, None])

    @property
    def fit(self):
        options = self.options
        return Fit(
            multiple=4,
            smallest=8,
            trained_size=32,
            channels_out=options.channels_out,
            scale=options.scale,
            tiles=options.tiles,
        )

    def players(self, stage):
        return {"all": self.net.parameters()}

    def training_step(self, batch, now):
        yield from ()

    def translate(self, images, request):
        time.sleep(request.seconds)
        if images.shape[3] == 604:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        if images.shape[3] == 608:
            raise ValueError("a bug of the family")
        if images.shape[3] == 612:
            return images * float("nan")
        seen.append(tuple(images.shape))
        changed = self.net(images) if request.strength else images
        changed = changed.repeat_interleave(self.options.scale, 2)
        changed = changed.repeat_interleave(self.options.scale, 3)
        return changed * request.strength if request.strength else changed


@hookimpl
def i2i_families() -> Mapping[str, str]:
    return {"negative": "tiny_negative:Negative"}


@hookimpl
def i2i_recipes() -> Path:
    return Path(__file__).parent / "recipes"


@hookimpl
def i2i_image_translated(result):
    heard.append(result)
'''

RECIPE = """
family = "negative"
summary = "For tests."
[model]
[data]
[request]
strength = 0.5
[translate]
work_size = 24
restore_size = false
"""


def saved(path: Path, plugins, **options: object) -> Path:
    family = plugins.family("negative")
    chosen = family.Options(**options)
    header = Header(
        family="negative",
        distribution="tiny-negative 1.0",
        options=chosen.model_dump(),
        request={"strength": 1.0},
        translate={"restore_size": True},
    )
    save_model(path, build(family, chosen, 0), header)
    return path


def translate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["translate", *map(str, arguments)])


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(path: Path) -> np.ndarray:
    return read_picture(path).pixels


def opened(path: Path) -> Image.Image:
    return Image.open(BytesIO(path.read_bytes()))


def files_in(folder: Path) -> list[str]:
    """Return the files that a job was asked for: what it keeps for itself is hidden."""
    return sorted(
        str(f.relative_to(folder))
        for f in folder.rglob("*")
        if f.is_file() and not f.name.startswith(".i2i-job")
    )


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def environment(site: Path) -> dict[str, str]:
    """Return the variables with which a process of its own finds the family."""
    path = os.pathsep.join([str(site), *(each for each in sys.path if each)])
    return os.environ | {"PYTHONPATH": path}


def run(command: list[object], site: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run ``i2i translate`` as a process."""
    return subprocess.run(
        [sys.executable, "-m", "i2i", "translate", *map(str, command)],
        env=environment(site),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )
