"""SRGAN's first ten steps of either stage, kept as numbers, and four pairs learnt by heart.

A refactor may not move the golden losses. Where a change is meant to, write them anew:

    I2I_WRITE_GOLDEN=1 python -m pytest tests/golden

and say in the commit why they moved.
"""

from pathlib import Path

import torch
from torch.nn import functional as F

from i2i import Batch
from i2i_srgan.translator import SRGAN, SRGANOptions
from tests.golden.steps import begin, check_golden, make_game, play, ten_steps

GOLDEN = Path(__file__).with_name("srgan.json")


def test_first_ten_steps_of_both_stages_have_the_golden_losses():
    """The published losses, but for the classifier, and beside them what switches add."""
    options = SRGANOptions.model_validate(
        {
            "scale": 2,
            "generator": {"width": 4, "num_blocks": 1},
            "degradation": {"final_sinc": 0.5},
            "pixel_weight": 0.1,
            "perceptual": {"backbone": "squeezenet", "layers": ["relu1", "fire2"]},
            "discriminator": {"width": 4},
            "game": {"pool_size": 3, "r1_weight": 1.0, "penalty_every": 4},
        }
    )
    check_golden(ten_steps(SRGAN, options, 16), GOLDEN)


def pairs() -> Batch:
    """Four soft pictures, and the same in a fine weave that no interpolation knows of."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 4, 4, generator=generator)
    low = F.interpolate(coarse, (16, 16), mode="bilinear") - 0.5
    weave = torch.tensor([[1.0, -0.5], [0.2, 1.5]]).repeat(16, 16)
    return Batch({"low": low, "high": F.interpolate(low, scale_factor=2) * weave}, torch.arange(4))


def test_four_pairs_are_learnt_by_heart_and_kept_through_the_second_stage():
    options = SRGANOptions.model_validate(
        {
            "scale": 2,
            "generator": {
                "architecture": "compact",
                "body": "residual",
                "width": 12,
                "num_blocks": 1,
            },
            "pixel_weight": 1.0,
            "perceptual": {"weight": 0.0},
            "discriminator": {"width": 2, "architecture": "unet"},
        }
    )
    game = make_game(SRGAN, options, 16, 3e-3)
    batch = pairs()
    first = play(game, batch, 0, "pretrain")
    for step in range(1, 120):
        last = play(game, batch, step, "pretrain")
    assert last["pixel"] < 0.2 * first["pixel"], (first["pixel"], last["pixel"])
    game = begin(game.translator, "adversarial", 16, 1e-3)
    for step in range(20):
        last = play(game, batch, step, "adversarial")
    assert last["pixel"] < 0.2 * first["pixel"], (first["pixel"], last["pixel"])
    translator = game.translator.eval()
    for strength in (0.0, 0.5, 1.0):
        request = SRGAN.Request(strength=strength)
        with torch.no_grad():
            enlarged = translator.translate(batch.images["low"], request)
        apart = (enlarged[:, None] - batch.images["high"][None]).square().mean((2, 3, 4))
        assert (apart.argmin(1) == torch.arange(4)).all()
        assert (apart.diagonal() < 0.25 * apart.mean()).all()
