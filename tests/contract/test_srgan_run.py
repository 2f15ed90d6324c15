"""SRGAN trained through both stages from pictures on disk, and killed on the way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from i2i import load_plugins
from i2i.engine.trainer import Trainer
from i2i.recipe import load_recipe
from i2i_srgan.translator import SRGAN
from tests.engine.helpers import assert_same_state

RECIPE = """
family = "srgan"
summary = "A run of seconds"

[model]
scale = 2
generator = { width = 4, num_blocks = 1 }
degradation = { order = 1 }
perceptual = { backbone = "squeezenet", layers = ["relu1"] }
discriminator = { width = 2 }
game = { pool_size = 2 }

[data]
layout = "high_resolution"
options = { scale = 2, crop = 32, cache = false }

[stages.pretrain]
images = 8
batch_size = 2
average_half_life = 4

[stages.pretrain.players.generator]
learning_rate = 1e-3

[stages.adversarial]
images = 8
batch_size = 2
average_half_life = 4

[stages.adversarial.players.generator]
[stages.adversarial.players.discriminator]

[validate]
every = 8
pictures = 1
snapshots = true

[run]
log_every = 2
checkpoint_every = 4
"""


class KilledError(Exception):
    """Ends a step half way."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, the recipe, and a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("srgan")
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        (folder / "data" / split).mkdir(parents=True)
        for index in range(3):
            pixels = random.integers(0, 256, (44, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "data" / split / f"{index}.png")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (folder / "run").mkdir()
    train(folder, folder / "run")
    return folder


def train(folder: Path, run: Path) -> None:
    plugins = load_plugins()
    root = f"data.root={(folder / 'data').as_posix()}"
    recipe = load_recipe(folder / "recipe.toml", plugins, [root])
    with torch.random.fork_rng(devices=[]):
        trainer = Trainer(recipe, run, plugins, observers=[], warn=lambda text: None)
        assert trainer.train() == "finished"


def test_faithful_network_is_the_model_that_the_first_stage_ended_with(world):
    first = load_file(world / "run" / "snapshots" / "pretrain-000000008.safetensors")
    model = load_file(world / "run" / "model.safetensors")
    faithful = {n.partition(".")[2]: t for n, t in model.items() if n.startswith("faithful.")}
    ended = {name.partition(".")[2]: tensor for name, tensor in first.items()}
    assert all(name.startswith("generator.") for name in first)
    assert faithful.keys() == ended.keys()
    assert all(torch.equal(each, ended[name]) for name, each in faithful.items())
    vivid = model["generator.head.0.weight"]
    assert not torch.equal(vivid, faithful["head.0.weight"])


@pytest.mark.parametrize(
    "points", [[("pretrain", 3)], [("adversarial", 0), ("adversarial", 1)], [("adversarial", 3)]]
)
def test_run_killed_around_the_boundary_of_stages_goes_on_bit_for_bit(
    world, tmp_path, monkeypatch, points
):
    original, left = SRGAN.after_step, list(points)

    def after_step(self, now, measured):
        if left and left[0] == (now.stage, now.step):
            left.pop(0)
            raise KilledError
        original(self, now, measured)

    monkeypatch.setattr(SRGAN, "after_step", after_step)
    for _ in points:
        with pytest.raises(KilledError):
            train(world, tmp_path)
    train(world, tmp_path)
    assert not left
    runs = tmp_path, world / "run"
    ours, theirs = (run / "model.safetensors" for run in runs)
    assert ours.read_bytes() == theirs.read_bytes()
    states = [torch.load(run / "checkpoint.pt", weights_only=True) for run in runs]
    assert_same_state(*states)
