"""The first ten steps of both stages of Age-cGAN, kept as numbers; see test_pix2pix_golden."""

from pathlib import Path

import torch

from i2i.model_file import build
from i2i_face_aging.age_cgan import AgeCGAN, AgeCGANOptions
from tests.contract.aged import faces_of
from tests.golden.steps import begin, check_golden, play

GOLDEN = Path(__file__).with_name("age_cgan.json")
AGES = (4.0, 23.5, 37.0, 45.0, 55.0, 71.0)
SMALL = {
    "latent_size": 8,
    "width": 4,
    "discriminator_width": 4,
    "encoder_width": 4,
    "encoder_hidden": 64,
    "keep": "pixels",
}


def test_first_ten_steps_have_the_golden_losses():
    """The published game, and beside it what a switch adds; then the encoder's."""
    options = {"game": {"pool_size": 3, "r1_weight": 1.0, "penalty_every": 4}}
    translator = build(AgeCGAN, AgeCGANOptions.model_validate(SMALL | options), seed=0)
    steps = []
    for stage in translator.stages:
        game = begin(translator, stage, 64, 2e-4)
        for step in range(10):
            steps.append(play(game, faces_of(AGES[step % 4 :][:3], seed=step), step, stage))
    check_golden(steps, GOLDEN)


def test_encoder_learns_to_read_a_latent_from_what_is_made_of_it():
    """Latents that were never seen come back nearer than the mean of all latents is."""
    translator = build(AgeCGAN, AgeCGANOptions.model_validate(SMALL | {"latent_size": 2}), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in translator.generator.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    game = begin(translator, "encoder", 64, 1e-3)
    for step in range(150):
        last = play(game, faces_of([30.0] * 16, seed=step), step, "encoder")
    assert last["latent"] < 0.4
    translator.eval()
    latents = torch.randn(24, 2, generator=generator)
    groups = torch.eye(6).repeat(4, 1)
    with torch.no_grad():
        made = translator.generator(latents, groups, running=True)
        apart = (translator.encoder(made, running=True) - latents).square().mean()
    assert apart < 0.5 * latents.square().mean()
