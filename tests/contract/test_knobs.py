"""No knob that does nothing: every option of every family changes what a short course ends with.

Tables name each leaf of a family's ``Options`` and ``Request``, with another value and the options
that it needs beside it. A leaf without an entry fails by its name, so no option can come without.
"""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from i2i import I2IError, Translator, load_plugins
from i2i.augment.degradation import KernelShapes
from i2i.model_file import build
from i2i.nn import backbones
from i2i.testing import make_batch
from i2i.testing.batches import shapes_for
from i2i.testing.course import Course
from i2i.testing.subject import SEED, Subject, sheltered

NUM_STEPS = 3


@dataclass(frozen=True)
class Knob:
    """Another value for a leaf, and what stands beside it, both with it and without."""

    value: Any
    beside: Mapping[str, Any] = field(default_factory=dict)
    side: int = 16  # of the pictures, in pixels
    is_refused: bool = False  # training with it, which is its effect


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
    "game.adversarial_weight": Knob(2.0),
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
}
"""What every course begins with, small and fast."""

REQUESTS: dict[str, dict[str, Knob]] = {
    "cyclegan": {"direction": Knob("b2a")},
    "pix2pix": {"seed": Knob(7), "deterministic": Knob(True)},
    "srgan": {"strength": Knob(0.5)},
}

INSTALLED = load_plugins()


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of each option, those of nested tables included."""
    for name, info in model.model_fields.items():
        tables = [each for each in _types(info.annotation) if issubclass(each, BaseModel)]
        for table in tables:
            yield from leaves(table, f"{prefix}{name}.")
        if not tables:
            yield f"{prefix}{name}"


def _types(annotation: Any) -> Iterator[type]:
    """Yield the classes that an annotation is made of."""
    if isinstance(annotation, type) and not typing.get_origin(annotation):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _types(part)


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted names as tables."""
    tables: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        table = tables
        for key in path:
            table = table.setdefault(key, {})
        table[last] = value
    return tables


def value_at(options: BaseModel, leaf: str) -> Any:
    value: Any = options
    for key in leaf.split("."):
        value = getattr(value, key)
    return value


def options_of(family: str, flat: Mapping[str, Any]) -> BaseModel:
    return INSTALLED.family(family).Options.model_validate(nested(flat))


@dataclass(frozen=True)
class Outcome:
    """What a short course ends with: all parameters, or the reason why it was refused.

    The names and weights of terms do not count: a term may be listed and be nothing.
    """

    parameters: Mapping[str, torch.Tensor] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()  # parameters that are still as they were drawn
    refused: str = ""

    def differs(self, other: "Outcome") -> bool:
        if self.refused != other.refused or self.parameters.keys() != other.parameters.keys():
            return True
        return not all(
            torch.equal(each, other.parameters[name]) for name, each in self.parameters.items()
        )


def course(family: str, options: BaseModel, side: int = 16) -> Outcome:
    """Play some steps from one seed."""
    try:
        translator, drawn = played(subject_of(family, options, side))
    except I2IError as error:
        return Outcome(refused=str(error))
    owned = {n: each for n, each in translator.named_parameters() if each.requires_grad}
    parameters = {name: each.detach() for name, each in owned.items()}
    idle = {name for name, each in parameters.items() if torch.equal(each, drawn[name])}
    return Outcome(parameters, frozenset(idle))


def played(subject: Subject) -> tuple[Translator, dict[str, torch.Tensor]]:
    """Play some steps of every stage; return the family, and each weight as it was drawn."""
    drawn: dict[str, torch.Tensor] = {}
    with sheltered():
        course = Course(subject)
        for stage in course.translator.stages:
            course.grow(stage)
            course.enter(stage)
            drawn = course.state() | drawn
            for index in range(NUM_STEPS):
                course.step(index, subject.make(index))
    return course.translator, drawn


def subject_of(family: str, options: BaseModel, side: int) -> Subject:
    """Return a family that is shown pictures of this side."""
    cls = INSTALLED.family(family)
    shapes = shapes_for(cls.inputs, build(cls, options, SEED).fit, (side, side))
    return Subject(cls, options, lambda seed: make_batch(cls.inputs, shapes=shapes, seed=seed))


@cache
def cached_course(family: str, options: BaseModel, side: int) -> Outcome:
    return course(family, options, side)


@pytest.fixture(autouse=True)
def _other_backbones(monkeypatch, tmp_path):
    """Let a backbone that would be downloaded have random weights, in the published layout."""

    def pretrained(name: str, *_: object) -> Any:
        torch.manual_seed(0)
        made = [
            (f"features.{index}.{key}", 0.1 * torch.randn(each.shape))
            for index, module in enumerate(backbones.Backbone(name)._plan)
            for key, each in module.state_dict().items()
        ]
        torch.save(dict(made), tmp_path / name)
        return tmp_path / name

    with torch.random.fork_rng(devices=[]):
        monkeypatch.setattr(backbones, "pretrained", pretrained)
        yield


@pytest.mark.parametrize("family", sorted(INSTALLED.families))
def test_every_option_of_an_installed_family_is_in_the_table(family):
    cls = INSTALLED.family(family)
    for table, model in ((FAMILIES, cls.Options), (REQUESTS, cls.Request)):
        named, there = {*table.get(family, {})}, {*leaves(model)}
        assert not there - named, f"add rows that prove an effect: {sorted(there - named)}"
        assert not named - there, f"there are no such options: {sorted(named - there)}"


ROWS = [
    pytest.param(family, leaf, id=f"{family}-{leaf}")
    for family, table in FAMILIES.items()
    for leaf in table
]


@pytest.mark.parametrize(("family", "leaf"), ROWS)
def test_option_changes_what_training_ends_with(family, leaf):
    knob = FAMILIES[family][leaf]
    beside = SMALL[family] | knob.beside
    without = options_of(family, beside)
    changed = options_of(family, {**beside, leaf: knob.value})
    assert value_at(changed, leaf) != value_at(without, leaf)
    before, after = cached_course(family, without, knob.side), course(family, changed, knob.side)
    assert after.differs(before)
    assert not before.refused
    assert bool(after.refused) == knob.is_refused, after.refused
    assert not after.idle - before.idle, "what comes with the option learns nothing"


def test_course_from_one_seed_is_the_same_every_time():
    """Or else any option would seem to change it."""
    for family, small in SMALL.items():
        options = options_of(family, small)
        assert not course(family, options).differs(course(family, options))


@pytest.mark.parametrize("family", sorted(REQUESTS))
def test_request_changes_what_is_translated(family):
    translator, _ = played(subject_of(family, options_of(family, SMALL[family]), 32))
    translator.eval()
    images = make_batch(translator.inputs, seed=SEED).images[translator.inputs.images[0]]
    with torch.no_grad():
        usual = translator.translate(images, translator.Request())
        assert torch.equal(translator.translate(images, translator.Request()), usual)
        for leaf, knob in REQUESTS[family].items():
            request = translator.Request.model_validate(nested({**knob.beside, leaf: knob.value}))
            assert not torch.equal(translator.translate(images, request), usual), leaf
