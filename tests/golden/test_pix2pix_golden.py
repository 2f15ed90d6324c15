"""pix2pix's first ten steps, kept as numbers, and four pairs learnt by heart.

A refactor may not move the golden losses. Where a change is meant to, write them anew:

    I2I_WRITE_GOLDEN=1 python -m pytest tests/golden

and say in the commit why they moved.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from i2i import Batch, Progress
from i2i.engine.moves import Game
from i2i.engine.optim import PlayerOptimizer
from i2i.model_file import build, grow
from i2i.recipe import Player
from i2i.testing import make_batch
from i2i_pix2pix.translator import Pix2Pix, Pix2PixOptions

GOLDEN = Path(__file__).with_name("pix2pix.json")


def make_game(options: Pix2PixOptions, side: int, rate: float) -> Game:
    translator = build(Pix2Pix, options, seed=0)
    grow(translator, "train", dict.fromkeys("ab", (3, side, side)), seed=0)
    translator.train()
    player = Player(learning_rate=rate)
    return Game(
        translator,
        {
            name: PlayerOptimizer(name, parameters, player, 10_000)
            for name, parameters in translator.players("train").items()
        },
        precision=torch.float32,
        num_micro_batches=1,
        device=torch.device("cpu"),
    )


def play(game: Game, batch: Batch, step: int) -> dict[str, float]:
    now = Progress(0, "train", step, step * len(batch))
    with torch.random.fork_rng(devices=[]):
        played = game.play(batch, now)
    values = played.terms | played.measured
    game.translator.after_step(now, {name: float(value) for name, value in values.items()})
    return {name: float(value) for name, value in values.items()}


def test_first_ten_steps_have_the_golden_losses():
    """The published game, and beside it what a switch adds."""
    options = Pix2PixOptions.model_validate(
        {
            "width": 4,
            "num_halvings": 3,
            "discriminator": {"width": 4},
            "game": {"pool_size": 3, "r1_weight": 1.0, "penalty_every": 4},
        }
    )
    game = make_game(options, 32, 2e-4)
    shapes = dict.fromkeys("ab", (3, 32, 32))
    steps = []
    for step in range(10):
        batch = make_batch(Pix2Pix.inputs, batch_size=2, shapes=shapes, seed=step)
        steps.append(play(game, batch, step))
    if os.environ.get("I2I_WRITE_GOLDEN"):
        rounded = [{name: float(f"{value:.8g}") for name, value in each.items()} for each in steps]
        GOLDEN.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for index, (step, kept) in enumerate(zip(steps, golden, strict=True)):
        assert step.keys() == kept.keys()
        for name, value in kept.items():
            assert step[name] == pytest.approx(value, rel=1e-4), f"{name} in step {index}"


def pairs() -> Batch:
    """Four pictures of soft shapes, and what becomes of them: mirrored colours, turned dark."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 4, 4, generator=generator)
    soft = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear") * 2 - 1
    return Batch({"a": soft, "b": 0.5 * soft.flip(1) - 0.3}, torch.arange(4))


def test_four_pairs_are_learnt_by_heart():
    """Translations come near their own targets, and to no other's."""
    options = Pix2PixOptions.model_validate(
        {
            "width": 16,
            "num_halvings": 2,
            "dropout": 0.0,
            "discriminator": {"width": 8, "patch": 16},
        }
    )
    game = make_game(options, 16, 4e-3)
    batch = pairs()
    first = play(game, batch, 0)
    for step in range(1, 60):
        last = play(game, batch, step)
    assert last["l1"] < 0.15 * first["l1"], (first["l1"], last["l1"])
    a, b = batch.images["a"], batch.images["b"]
    with torch.no_grad():
        translated = game.translator.eval().translate(a, Pix2Pix.Request(deterministic=True))
    apart = (translated[:, None] - b[None]).abs().mean((2, 3, 4))
    assert (apart.argmin(1) == torch.arange(4)).all()
    assert (apart.diagonal() < 0.3 * apart.mean()).all()
