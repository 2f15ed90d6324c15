"""pix2pix's first ten steps, kept as numbers, and four pairs learnt by heart.

A refactor may not move the golden losses. Where a change is meant to, write them anew:

    I2I_WRITE_GOLDEN=1 python -m pytest tests/golden

and say in the commit why they moved.
"""

from pathlib import Path

import torch

from i2i import Batch
from i2i_pix2pix.translator import Pix2Pix, Pix2PixOptions
from tests.golden.steps import check_golden, make_game, play, ten_steps

GOLDEN = Path(__file__).with_name("pix2pix.json")


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
    check_golden(ten_steps(Pix2Pix, options), GOLDEN)


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
    game = make_game(Pix2Pix, options, 16, 4e-3)
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
