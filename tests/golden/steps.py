"""Ten steps of a family, kept as numbers."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel

from i2i import Batch, Progress, Translator
from i2i.engine.moves import Game
from i2i.engine.optim import PlayerOptimizer
from i2i.model_file import build, grow
from i2i.recipe import Player
from i2i.testing import make_batch
from i2i.testing.batches import shapes_for


def make_game(family: type[Translator], options: BaseModel, side: int, rate: float) -> Game:
    """Begin the first stage on pictures of this side."""
    translator = build(family, options, seed=0)
    return begin(translator, translator.stages[0], side, rate)


def begin(translator: Translator, stage: str, side: int, rate: float) -> Game:
    """Begin a stage."""
    shapes = shapes_for(translator.inputs, translator.fit, (side, side))
    grow(translator, stage, shapes, seed=0)
    translator.train()
    player = Player(learning_rate=rate)
    return Game(
        translator,
        {
            name: PlayerOptimizer(name, parameters, player, 10_000)
            for name, parameters in translator.players(stage).items()
        },
        precision=torch.float32,
        num_micro_batches=1,
        device=torch.device("cpu"),
    )


def play(game: Game, batch: Batch, step: int, stage: str = "train") -> dict[str, float]:
    now = Progress(0, stage, step, step * len(batch))
    with torch.random.fork_rng(devices=[]):
        played = game.play(batch, now)
    values = {name: float(value) for name, value in (played.terms | played.measured).items()}
    game.translator.after_step(now, values)
    return values


def ten_steps(
    family: type[Translator], options: BaseModel, side: int = 32
) -> list[dict[str, float]]:
    """Play ten steps of every stage."""
    translator, steps = build(family, options, seed=0), []
    for stage in translator.stages:
        game = begin(translator, stage, side, 2e-4)
        shapes = shapes_for(translator.inputs, translator.fit, (side, side))
        for step in range(10):
            batch = make_batch(family.inputs, batch_size=2, shapes=shapes, seed=step)
            steps.append(play(game, batch, step, stage))
    return steps


def check_golden(steps: Sequence[Mapping[str, float]], kept: Path) -> None:
    """Compare with the numbers in a file, or write them where I2I_WRITE_GOLDEN is set."""
    if os.environ.get("I2I_WRITE_GOLDEN"):
        rounded = [{name: float(f"{value:.8g}") for name, value in each.items()} for each in steps]
        kept.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
    golden = json.loads(kept.read_text(encoding="utf-8"))
    for index, (step, expected) in enumerate(zip(steps, golden, strict=True)):
        assert step.keys() == expected.keys()
        for name, value in expected.items():
            assert step[name] == pytest.approx(value, rel=1e-4), f"{name} in step {index}"
