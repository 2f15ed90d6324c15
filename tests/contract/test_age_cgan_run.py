"""Age-cGAN trained through both stages from faces on disk, and killed on the way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from i2i import load_plugins
from i2i.engine.trainer import Trainer
from i2i.recipe import load_recipe
from i2i_face_aging.age_cgan import AgeCGAN
from tests.engine.helpers import assert_same_state

RECIPE = """
family = "age-cgan"
summary = "A run of seconds"

[model]
latent_size = 4
width = 2
discriminator_width = 2
encoder_width = 2
encoder_hidden = 8
keep = "pixels"
game = { pool_size = 2 }

[data]
layout = "utkface"
options = { num_test = 2 }

[stages.adversarial]
images = 8
batch_size = 2
average_half_life = 4

[stages.adversarial.players.generator]
learning_rate = 1e-2

[stages.adversarial.players.discriminator]

[stages.encoder]
images = 8
batch_size = 2

[stages.encoder.players.encoder]
learning_rate = 1e-2

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
    """Faces, the recipe, and a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("age-cgan")
    random = np.random.default_rng(0)
    (folder / "data").mkdir()
    for place, age in enumerate((3, 14, 22, 35, 47, 55, 68, 90)):
        pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "data" / f"{age}_0_1_2017{place:02}.png")
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


def test_generator_is_the_one_that_the_game_ended_with(world):
    """Its averaged weights and its statistics: the encoder learns from them, and moves none."""
    first = load_file(world / "run" / "snapshots" / "adversarial-000000008.safetensors")
    model = load_file(world / "run" / "model.safetensors")
    generator = {name: each for name, each in first.items() if name.startswith("generator.")}
    assert len(generator) > 10
    for name, each in generator.items():
        assert torch.equal(model[name], each), name
    moved = [
        name
        for name, each in first.items()
        if name.startswith("encoder.") and not torch.equal(model[name], each)
    ]
    assert len(moved) > 10


@pytest.mark.parametrize(
    "points", [[("adversarial", 3)], [("encoder", 0), ("encoder", 1)], [("encoder", 3)]]
)
def test_run_killed_around_the_boundary_of_stages_goes_on_bit_for_bit(
    world, tmp_path, monkeypatch, points
):
    original, left = AgeCGAN.after_step, list(points)

    def after_step(self, now, measured):
        if left and left[0] == (now.stage, now.step):
            left.pop(0)
            raise KilledError
        original(self, now, measured)

    monkeypatch.setattr(AgeCGAN, "after_step", after_step)
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
