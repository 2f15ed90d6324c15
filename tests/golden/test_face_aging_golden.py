"""The first ten steps of image-conditional ageing, kept as numbers; see test_pix2pix_golden."""

from pathlib import Path

import torch

from i2i import Batch
from i2i.model_file import build
from i2i_face_aging.aging import FaceAging
from i2i_face_aging.options import AgingOptions
from tests.contract.aged import faces_of, lively
from tests.golden.steps import begin, check_golden, make_game, play

GOLDEN = Path(__file__).with_name("face_aging.json")
AGES = (4.0, 23.5, 37.0, 71.0)


def test_first_ten_steps_have_the_golden_losses():
    """All terms, and beside them what a switch adds."""
    options = AgingOptions.model_validate(
        {
            "width": 4,
            "num_blocks": 1,
            "discriminator_width": 4,
            "age_weight": 1.0,
            "judge_noise": 0.1,
            "identity_weight": 2.0,
            "cycle_weight": 4.0,
            "cycle_every": 2,
            "sparsity_weight": 0.5,
            "reconstruction_weight": 5.0,
            "reconstruction_share": 0.3,
            "game": {"r1_weight": 1.0, "penalty_every": 4, "pool_size": 3},
        }
    )
    translator = build(FaceAging, options, seed=0)
    lively(translator.generator)  # or it changes too little for an identity to notice
    game = begin(translator, "train", 64, 2e-4)
    steps = [play(game, faces_of(AGES[step % 3 :][:2], seed=step), step) for step in range(10)]
    check_golden(steps, GOLDEN)


def greys() -> Batch:
    """Four soft faces; "age" is how bright they shall be, as a judge made here reads it."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 4, 4, generator=generator)
    soft = torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear") * 0.6 - 0.3
    return Batch({"face": soft}, torch.arange(4), {"age": torch.tensor(AGES)})


def test_faces_become_as_bright_as_the_age_asked_for():
    """A judge that reads ages from brightness teaches it within sixty steps."""
    options = AgingOptions.model_validate(
        {
            "width": 8,
            "num_blocks": 1,
            "discriminator_width": 2,
            "age_weight": 1.0,
            "judge_noise": 0.0,
            "identity_weight": 0.0,
            "cycle_weight": 0.0,
            "sparsity_weight": 0.0,
            "reconstruction_weight": 0.0,
            "reconstruction_share": 0.0,
            "game": {"adversarial_weight": 1e-3},
        }
    )
    game = make_game(FaceAging, options, 64, 4e-3)
    judge, batch = game.translator.age_judge, greys()

    def distance(faces: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
        wanted = ages / 100 - 0.5
        return (faces.mean((1, 2, 3)) - wanted).square().mean() * 100

    judge.distance = distance
    for step in range(60):
        play(game, batch, step)
    faces, translator = batch.images["face"], game.translator.eval()
    with torch.no_grad():
        brightness = torch.stack(
            [
                translator.translate(faces, FaceAging.Request(age=age, source_age=30))
                for age in (10, 40, 70)
            ]
        ).mean((2, 3, 4))
    expected = torch.tensor([-0.4, -0.1, 0.2])[:, None].expand(-1, 4)
    assert (brightness - expected).abs().max() < 0.1, brightness
