"""CycleGAN's first ten steps, kept as numbers, and two pictures learnt by heart.

A refactor may not move the golden losses. Where a change is meant to, write them anew:

    I2I_WRITE_GOLDEN=1 python -m pytest tests/golden

and say in the commit why they moved.
"""

from pathlib import Path

import torch

from i2i import Batch
from i2i.nn import DiscriminatorOptions
from i2i_cyclegan.translator import CycleGAN, CycleGANGame, CycleGANOptions
from tests.golden.steps import check_golden, make_game, play, ten_steps

GOLDEN = Path(__file__).with_name("cyclegan.json")


def test_first_ten_steps_have_the_golden_losses():
    options = CycleGANOptions(
        width=4,
        num_blocks=2,
        discriminator=DiscriminatorOptions(width=4),
        identity_every=3,
        game=CycleGANGame(pool_size=3),
    )
    check_golden(ten_steps(CycleGAN, options), GOLDEN)


def recoloured() -> Batch:
    """Two grey pictures of soft shapes, and two others in a colour."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 1, 4, 4, generator=generator)
    soft = torch.nn.functional.interpolate(coarse, (24, 24), mode="bilinear") * 2 - 1
    grey = soft.expand(4, 3, 24, 24)
    tint = torch.tensor([0.9, -0.6, 0.2])[:, None, None]
    return Batch({"a": grey[:2], "b": grey[2:] * tint}, torch.arange(2))


def test_two_pictures_a_domain_are_learnt_by_heart():
    """The cycle closes, and what a translation shows has the colours of the other domain."""
    options = CycleGANOptions(
        width=8,
        num_blocks=1,
        discriminator=DiscriminatorOptions(width=8),
        game=CycleGANGame(pool_size=0),
    )
    game = make_game(CycleGAN, options, 24, 2e-3)
    batch = recoloured()
    first = play(game, batch, 0)
    for step in range(1, 120):
        last = play(game, batch, step)
    for name in ("cycle_a", "cycle_b", "identity_a", "identity_b"):
        assert last[name] < 0.3 * first[name], (name, first[name], last[name])
    a, b = batch.images["a"], batch.images["b"]
    with torch.no_grad():
        translated = game.translator.eval().translate(a, CycleGAN.Request())

    def tint(images: torch.Tensor) -> torch.Tensor:
        centred = images - images.mean((2, 3), keepdim=True)
        return (centred * centred[:, :1]).mean((0, 2, 3)) / centred[:, :1].square().mean()

    assert (tint(translated) - tint(b)).abs().max() < 0.5 * (tint(a) - tint(b)).abs().max()
