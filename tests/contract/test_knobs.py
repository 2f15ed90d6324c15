"""No knob that does nothing: every option of every family changes what a short course ends with.

A leaf without an entry in the tables of ``knobs`` fails by its name, so no option can come without.
"""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from i2i import I2IError, ImageError, Translator, load_plugins
from i2i.model_file import build
from i2i.nn import backbones
from i2i.testing import make_batch
from i2i.testing.batches import shapes_for
from i2i.testing.course import Course
from i2i.testing.subject import SEED, Subject, sheltered
from i2i_face_aging import facenet
from tests.contract.knobs import FAMILIES, REQUESTS, SIDES, SMALL

NUM_STEPS = 3


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
    fit, side = build(cls, options, SEED).fit, SIDES.get(family, side)
    shapes = shapes_for(cls.inputs, fit, fit.exact_size or (side, side))
    return Subject(cls, options, lambda seed: make_batch(cls.inputs, shapes=shapes, seed=seed))


@cache
def cached_course(family: str, options: BaseModel, side: int) -> Outcome:
    return course(family, options, side)


@pytest.fixture(scope="session")
def other_facenet(tmp_path_factory):
    """Write random weights in the published layout."""
    path = tmp_path_factory.mktemp("facenet") / "weights.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(facenet.FaceNet().state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def _other_facenet(request, monkeypatch):
    """Let the embedding that would be downloaded have them; made once one is asked for."""
    monkeypatch.setattr(
        facenet, "pretrained", lambda name, *_: request.getfixturevalue("other_facenet")
    )


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
    if knob.is_asked:
        assert not torch.equal(translated(family, changed), translated(family, without))
        return
    before, after = cached_course(family, without, knob.side), course(family, changed, knob.side)
    assert after.differs(before)
    assert not before.refused
    assert bool(after.refused) == knob.is_refused, after.refused
    assert not after.idle - before.idle, "what comes with the option learns nothing"


def translated(family: str, options: BaseModel) -> torch.Tensor:
    """Return what is made of pictures, by default, after some steps."""
    subject = subject_of(family, options, 32)
    translator, _ = played(subject)
    images = subject.make(SEED).images[translator.inputs.images[0]]
    with torch.no_grad():
        made: torch.Tensor = lively(translator).translate(images, translator.Request())
    return made


def lively(translator: Translator) -> Translator:
    """Give weights of a trained network's size: at first some hardly say anything."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in translator.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return translator.eval()


def test_course_from_one_seed_is_the_same_every_time():
    """Or else any option would seem to change it."""
    for family, small in SMALL.items():
        options = options_of(family, small)
        assert not course(family, options).differs(course(family, options))


@pytest.mark.parametrize("family", sorted(REQUESTS))
def test_request_changes_what_is_translated(family):
    subject = subject_of(family, options_of(family, SMALL[family]), 32)
    translator = lively(played(subject)[0])
    images = subject.make(SEED).images[translator.inputs.images[0]]
    with torch.no_grad():
        usual = translator.translate(images, translator.Request())
        assert torch.equal(translator.translate(images, translator.Request()), usual)
        for leaf, knob in REQUESTS[family].items():
            request = translator.Request.model_validate(nested({**knob.beside, leaf: knob.value}))
            if knob.is_located:
                assert not translator.locates(translator.Request())
                assert translator.locates(request)
                with pytest.raises(ImageError, match="no face was found"):  # in noise
                    translator.locate(images[0], request)
                continue
            assert not torch.equal(translator.translate(images, request), usual), leaf
