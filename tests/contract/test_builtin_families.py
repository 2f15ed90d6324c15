"""Every installed family keeps the contract, checked with the kit that strangers use."""

from collections.abc import Callable
from dataclasses import replace
from typing import Self

import pytest
import torch

from i2i import Batch, Translator, load_plugins
from i2i.testing import check_accumulation, check_translator, make_batch
from i2i_srgan.translator import SRGAN

SMALL = {
    "cyclegan": {
        "width": 4,
        "num_blocks": 1,
        "discriminator": {"width": 4},
        "identity_every": 2,
        "game": {"pool_size": 4},
    },
    "pix2pix": {
        "width": 4,
        "num_halvings": 3,
        "discriminator": {"width": 4, "patch": 16},
        "game": {"pool_size": 4},
    },
    "srgan": {
        "scale": 2,
        "generator": {"width": 4, "num_blocks": 1},
        "perceptual": {"backbone": "squeezenet", "layers": ["relu1"]},
        "discriminator": {"width": 2},
        "game": {"pool_size": 4},
    },
    "face-aging": {
        "width": 2,
        "num_blocks": 1,
        "discriminator_width": 2,
        "game": {"pool_size": 4},
    },
    "age-cgan": {
        "latent_size": 4,
        "width": 2,
        "discriminator_width": 2,
        "encoder_width": 2,
        "encoder_hidden": 8,
        "game": {"pool_size": 4},
    },
}
MEANS_OVER_SAMPLES = {
    "cyclegan": {},
    "pix2pix": {
        "norm": "instance",
        "dropout": 0.0,
        "discriminator": {"width": 4, "patch": 16, "norm": "instance"},
    },
    "srgan": {
        "generator": {"width": 4, "num_blocks": 1, "norm": "none"},
        "discriminator": {"width": 2, "architecture": "unet"},
    },
    "face-aging": {  # small: rounding turns the slope of |x| around where x is all but 0
        "cycle_weight": 0.1,
        "sparsity_weight": 0.1,
        "reconstruction_weight": 0.1,
    },
}
"""What to change for losses that are means over samples: no batch statistics, no dropout."""


SIDE = 64  # pixels of faces, the smallest that are trained on


def made_for(family: type[Translator]) -> Callable[[int], Batch] | None:
    """Return how to make faces of all ages, and nothing where the kit's pictures will do."""
    if "age" not in family.inputs.labels:
        return None

    def make(seed: int) -> Batch:
        batch = make_batch(family.inputs, shapes={"face": (3, SIDE, SIDE)}, seed=seed)
        ages = 80 * torch.rand(len(batch), generator=torch.Generator().manual_seed(seed))
        return replace(batch, labels={"age": ages})

    return make


class StillSRGAN(SRGAN):
    """Its U-Net iterates towards each weight's norm at every forward, of which parts have more."""

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.adversary is not None:
            self.adversary.network.eval()
        return self


ITERATING = {"srgan": StillSRGAN}

PLAYED_WITH_ALL = {
    "form": "hinge",
    "pool_size": 2,
    "discriminator_steps": 2,
    "feature_matching_weight": 1.0,
    "wgan_gp_weight": 1.0,
    "r1_weight": 1.0,
    "r2_weight": 1.0,
    "penalty_every": 2,
    "lecam_weight": 1.0,
    "weight_limit": 0.05,
    "orthogonal_weight": 0.1,
    "historical_average_weight": 0.1,
    "instance_noise": 0.1,
    "instance_noise_images": 12,
    "augment": {"policy": "adaptive", "target": 0.0, "speed": 20},
}
"""A game in which everything is state, keyed by sample, or due on some steps only."""


@pytest.fixture(scope="module")
def plugins():
    return load_plugins()


@pytest.mark.parametrize("name", sorted(load_plugins().families))
def test_family_keeps_the_contract(plugins, name):
    family = plugins.family(name)
    check_translator(family, SMALL.get(name), make=made_for(family))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_family_keeps_the_contract_with_every_switch_of_the_game_on(plugins, name):
    family = plugins.family(name)
    check_translator(family, SMALL[name] | {"game": PLAYED_WITH_ALL}, make=made_for(family))


@pytest.mark.parametrize("name", MEANS_OVER_SAMPLES)
def test_micro_batches_equal_the_whole_batch(plugins, name):
    family = ITERATING.get(name) or plugins.family(name)
    options = SMALL[name] | MEANS_OVER_SAMPLES[name]
    check_accumulation(family, options, make=made_for(family))


@pytest.mark.parametrize("name", MEANS_OVER_SAMPLES)
def test_micro_batches_equal_the_whole_batch_with_every_switch_of_the_game_on(plugins, name):
    """But for the relativistic game, whose means are over all that is judged together."""
    options = SMALL[name] | MEANS_OVER_SAMPLES[name] | {"game": PLAYED_WITH_ALL}
    family = ITERATING.get(name) or plugins.family(name)
    check_accumulation(family, options, make=made_for(family))


def test_small_options_are_those_of_installed_families(plugins):
    assert SMALL.keys() <= plugins.families.keys()
