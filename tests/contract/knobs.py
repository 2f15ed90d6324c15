"""The options of every family, each with another value that has to show.

Tables name each leaf of a family's ``Options`` and ``Request``, with another value and the options
that it needs beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from i2i.augment.degradation import KernelShapes


@dataclass(frozen=True)
class Knob:
    """Another value for a leaf, and what stands beside it, both with it and without."""

    value: Any
    beside: Mapping[str, Any] = field(default_factory=dict)
    side: int = 16  # of the pictures, in pixels
    is_refused: bool = False  # training with it, which is its effect
    is_located: bool = False  # it changes what is looked for in photographs
    is_asked: bool = False  # it changes what is translated, and nothing in training


ADAPTIVE = {"game.augment.policy": "adaptive"}
ADAPTING = {
    **ADAPTIVE,
    "game.form": "hinge",  # whose untrained logits lie on both sides of its boundary
    "game.augment.target": -0.99,
    "game.augment.speed": 3,
}
"""Whose probability can rise to its limit in a step of three images."""

SHARED = {
    "discriminator.width": Knob(3),
    "discriminator.patch": Knob(1),
    "discriminator.norm": Knob("none"),
    "discriminator.spectral_norm": Knob(True),
    "discriminator.minibatch_stddev": Knob(True),
    "discriminator.self_attention": Knob(True, {"discriminator.patch": 70}, side=24),
    "discriminator.downsampling": Knob("blur"),
    "discriminator.num_scales": Knob(2),
}
"""The leaves of the shared discriminator, for every family that has one."""

GAME = {
    "game.form": Knob("minimax"),
    "game.real_label": Knob(0.9),
    "game.adversarial_weight": Knob(3.0),
    "game.discriminator_weight": Knob(2.0),
    "game.discriminator_steps": Knob(2),
    "game.pool_size": Knob(3),
    "game.feature_matching_weight": Knob(1.0),
    "game.wgan_gp_weight": Knob(10.0),
    "game.r1_weight": Knob(10.0),
    "game.r2_weight": Knob(10.0),
    "game.penalty_every": Knob(2, {"game.r1_weight": 10.0}),
    "game.lecam_weight": Knob(1.0),
    "game.lecam_decay": Knob(0.5, {"game.lecam_weight": 1.0}),
    "game.weight_limit": Knob(0.01),
    "game.orthogonal_weight": Knob(1.0),
    "game.historical_average_weight": Knob(1.0),
    "game.instance_noise": Knob(0.1),
    "game.instance_noise_images": Knob(9, {"game.instance_noise": 0.1}),
    "game.augment.policy": Knob("diffaugment"),
    "game.augment.operations": Knob(["cutout"], {"game.augment.policy": "diffaugment"}),
    "game.augment.target": Knob(0.99, ADAPTING),
    "game.augment.speed": Knob(30, ADAPTING),
    "game.augment.limit": Knob(0.1, ADAPTING),
    "game.augment.probability": Knob(0.5, {**ADAPTIVE, "game.augment.probability": 0.2}),
}
"""The leaves of the shared game, for every family that plays it."""

PERCEIVING = {"perceptual.weight": 1.0, "perceptual.layers": ["relu1"]}
PERCEPTUAL = {
    "perceptual.weight": Knob(2.0, PERCEIVING),
    "perceptual.backbone": Knob("squeezenet1_1", PERCEIVING),
    "perceptual.layers": Knob(["relu1", "fire2"], PERCEIVING),
    "perceptual.distance": Knob("l2", PERCEIVING),
    "perceptual.feature_scale": Knob(2.0, PERCEIVING),
}
SEEING = PERCEIVING | {"perceptual.backbone": "squeezenet", "perceptual.distance": "l1"}


def degraded(order: str) -> dict[str, Knob]:
    """Return the leaves of one of the two rounds of degradation."""
    here = f"degradation.{order}"
    only_sinc = {f"{here}.blur": 1.0, f"{here}.sinc": 0.5}
    shapes = {
        f"{here}.shapes.{name}": Knob(0.0 if name == "isotropic" else 9.0, {f"{here}.blur": 1.0})
        for name in KernelShapes.model_fields
    }
    return shapes | {
        f"{here}.blur": Knob(0.0),
        f"{here}.sinc": Knob(0.9, only_sinc),
        f"{here}.kernel_size": Knob((3, 3)),
        f"{here}.sigma": Knob((0.5, 0.6)),
        f"{here}.generalized": Knob((0.6, 0.7), {f"{here}.shapes.generalized_isotropic": 9.0}),
        f"{here}.plateau": Knob((1.5, 1.6), {f"{here}.shapes.plateau_isotropic": 9.0}),
        f"{here}.enlarge": Knob(0.0, {f"{here}.reduce": 0.0, f"{here}.enlarge": 1.0}),
        f"{here}.enlarge_to": Knob(2.0, {f"{here}.reduce": 0.0, f"{here}.enlarge": 1.0}),
        f"{here}.reduce": Knob(0.1),
        f"{here}.reduce_to": Knob(0.8),
        f"{here}.noise": Knob(0.0),
        f"{here}.gaussian": Knob(0.9),
        f"{here}.grey": Knob(0.9),
        f"{here}.gaussian_sigma": Knob((2.0, 3.0)),
        f"{here}.poisson_scale": Knob((0.1, 0.2)),
        f"{here}.jpeg": Knob(0.1),
        f"{here}.quality": Knob((10, 11)),
    }


DEGRADATION = {
    "degradation.order": Knob(1),
    **degraded("first"),
    **degraded("second"),
    "degradation.interpolations": Knob(["area"]),
    "degradation.final_sinc": Knob(0.1),
    "degradation.final_kernel_size": Knob((3, 3)),
}

BY_DEFAULT = {"pixel_weight": 0.0, "perceptual.weight": 1.0, "discriminator.width": 64}
"""What a model without the stage adversarial may say of it."""

FAMILIES: dict[str, dict[str, Knob]] = {
    "cyclegan": {
        **SHARED,
        **GAME,
        "width": Knob(3),
        "num_blocks": Knob(2),
        "widths": Knob((4, 8, 5, 4, 2)),
        "separable": Knob(True),
        "norm_affine": Knob(True),
        "padding": Knob("zero"),
        "directions": Knob("a2b", is_refused=True),
        "downsampling": Knob("blur"),
        "upsampling": Knob("resize"),
        "self_attention": Knob(True),
        "cycle_weight": Knob(3.0),
        "identity_weight": Knob(1.0),
        "identity_every": Knob(2),
    },
    "pix2pix": {
        **SHARED,
        **GAME,
        "direction": Knob("b2a"),
        "width": Knob(3),
        "widest": Knob(2),
        "num_halvings": Knob(4),
        "norm": Knob("instance"),
        "dropout": Knob(0.2),
        "dropout_layers": Knob((1,)),
        "downsampling": Knob("blur"),
        "upsampling": Knob("resize"),
        "self_attention": Knob(True, {"num_halvings": 4}, side=32),
        "l1_weight": Knob(10.0),
        **PERCEPTUAL,
    },
    "srgan": {
        **GAME,
        "scale": Knob(4),
        "generator.architecture": Knob("compact"),
        "generator.width": Knob(3),
        "generator.num_blocks": Knob(2),
        "generator.norm": Knob("none"),
        "generator.closing": Knob("prelu"),
        "generator.bounded": Knob(True),
        "generator.growth": Knob(3, {"generator.architecture": "rrdb", "generator.growth": 2}),
        "generator.unshuffle": Knob(2, {"generator.architecture": "rrdb"}),
        "generator.body": Knob("residual", {"generator.architecture": "compact"}),
        "generator.activation": Knob("relu", {"generator.architecture": "compact"}),
        **{
            leaf: Knob(knob.value, {"degradation.order": 2, **knob.beside})
            for leaf, knob in DEGRADATION.items()
        },
        "pixel_loss": Knob("l1"),
        "adversarial": Knob(False, BY_DEFAULT),
        "pixel_weight": Knob(1.0),
        **{leaf: Knob(knob.value, knob.beside | SEEING) for leaf, knob in PERCEPTUAL.items()},
        "discriminator.architecture": Knob("unet"),
        "discriminator.width": Knob(3),
    },
    "face-aging": {
        **GAME,
        "width": Knob(3),
        "num_blocks": Knob(2),
        "discriminator_width": Knob(3),
        "age_weight": Knob(0.37),
        "judge_noise": Knob(0.57, {"age_weight": 1.0}),
        "identity_weight": Knob(0.37),
        "embedding": Knob("facenet", {"identity_weight": 1.0}),
        "cycle_weight": Knob(0.37),
        "cycle_every": Knob(1, {"cycle_weight": 1.0, "cycle_every": 2}),
        "sparsity_weight": Knob(9.3),
        "reconstruction_weight": Knob(9.3, {"reconstruction_share": 0.93}),
        "reconstruction_share": Knob(0.93),
    },
    "age-cgan": {
        **GAME,
        # wider, or its few logits lie on one side
        "game.augment.target": Knob(0.99, {**ADAPTING, "discriminator_width": 4}),
        "side": Knob(128),
        "latent_size": Knob(5),
        "width": Knob(3),
        "discriminator_width": Knob(3),
        "encoder_width": Knob(3),
        "encoder_hidden": Knob(9),
        "keep": Knob("pixels", is_asked=True),
        "embedding": Knob("facenet", is_asked=True),
    },
}

SMALL: dict[str, dict[str, Any]] = {
    "cyclegan": {
        "width": 2,
        "num_blocks": 1,
        "discriminator.width": 2,
        "discriminator.patch": 16,
        "game.pool_size": 0,
    },
    "pix2pix": {
        "width": 2,
        "num_halvings": 3,
        "discriminator.width": 2,
        "discriminator.patch": 16,
    },
    "srgan": {
        "scale": 2,
        "generator.width": 2,
        "generator.num_blocks": 1,
        "discriminator.width": 2,
        "perceptual.weight": 0.0,
        "pixel_weight": 0.1,
    },
    "face-aging": {
        "width": 2,
        "num_blocks": 1,
        "discriminator_width": 2,
        "age_weight": 0.0,
        "identity_weight": 0.0,
    },
    "age-cgan": {
        "latent_size": 4,
        "width": 2,
        "discriminator_width": 2,
        "encoder_width": 2,
        "encoder_hidden": 8,
    },
}
"""What every course begins with, small and fast."""

AGED = {
    "age": Knob(20.0),
    "age_group": Knob("19-29"),
    "source_age": Knob(5.0),
    "face": Knob("detect", is_located=True),
}
"""What is asked of families that change ages."""

REQUESTS: dict[str, dict[str, Knob]] = {
    "cyclegan": {"direction": Knob("b2a")},
    "pix2pix": {"seed": Knob(7), "deterministic": Knob(True)},
    "srgan": {"strength": Knob(0.5)},
    "face-aging": AGED,
    "age-cgan": AGED | {"refine_steps": Knob(0), "seed": Knob(7)},
}

SIDES = {"face-aging": 64}
"""Pixels of the pictures of families that take none of 16; those of one size have that."""
