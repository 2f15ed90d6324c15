"""A small run on made pictures, shared by the trainer's tests."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

TINY = (
    "model.width=4",
    "model.num_blocks=1",
    "model.discriminator.width=4",
    "model.identity_every=4",
    "model.game.pool_size=3",
    "stages.train.images=24",
    "stages.train.compile=false",
    "stages.train.average_half_life=10",
    "run.log_every=5",
    "run.checkpoint_every=4",
    "validate.every=12",
    "validate.pictures=2",
)

RECIPE = """
family = "cyclegan"
summary = "A run of seconds"

[[augment.host]]
transform = "RandomCrop"
height = 32
width = 32

[[augment.host]]
transform = "HorizontalFlip"
p = 0.5

[stages.train]
images = 24

[stages.train.players.generators]
decay_from = 0.5

[stages.train.players.discriminators]
"""


def make_data(folder: Path, num_pictures: int = 5) -> Path:
    """Write an unpaired data set of small random pictures."""
    random = np.random.default_rng(0)
    for name in ("trainA", "trainB", "testA"):
        (folder / name).mkdir(parents=True)
        for index in range(num_pictures):
            pixels = random.integers(0, 256, (40, 44, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def make_recipe(folder: Path) -> Path:
    """Write the small recipe."""
    path = folder / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def train_arguments(tmp: Path, run: Path, *settings: str, workers: int = 0) -> list[str]:
    """Return the command that trains the small recipe into ``run``."""
    data = tmp / "data"
    recipe = tmp / "tiny.toml"
    if not data.exists():
        make_data(data)
        make_recipe(tmp)
    command = [sys.executable, "-m", "i2i", "train", "--threads", "1", "--workers", str(workers)]
    command += ["--recipe", str(recipe), "--data", str(data), "-o", str(run)]
    for setting in (*TINY, *settings):
        command += ["--set", setting]
    return command


def resume_arguments(run: Path, workers: int = 0) -> list[str]:
    """Return the command that goes on with ``run``."""
    command = [sys.executable, "-m", "i2i", "train", "--threads", "1", "--workers", str(workers)]
    return [*command, "--resume", str(run)]


def call(command: list[str], **extra: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = os.environ | extra.pop("env", {})
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment, **extra
    )


def log_without_time(run: Path) -> list[dict[str, Any]]:
    """Return the lines of the log but for what depends on the machine's speed."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def assert_same_state(one: Any, other: Any, place: str = "") -> None:
    """Assert that two checkpoints are equal bit by bit, naming the first difference."""
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, place
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same_state(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same_state(*pair, f"{place}[{index}]")
    else:
        assert one == other, place
