"""The rules of training: what follows from ``now``, what is state, and where chance comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from i2i.errors import PluginError
from i2i.recipe import Player
from i2i.testing.course import Course, State, Step
from i2i.testing.subject import Subject, fault, scramble
from i2i.types import Batch

HALF = 3  # steps of each stage before and after the checkpoint that the resume starts from


@dataclass(frozen=True)
class Leg:
    """One stage of a rehearsal: states on the way, and what each step gave."""

    grown: State
    halfway: State
    optimizers: Mapping[str, Any]  # halfway
    steps: list[Step]
    end: State


@dataclass(frozen=True)
class Rehearsal:
    """One run through all stages."""

    course: Course
    built: State
    legs: Mapping[str, Leg]


def rehearse(
    subject: Subject, *, chance: int, change: Callable[[Batch], Batch] | None = None
) -> Rehearsal:
    """Play some steps of every stage; ``chance`` sets the global generators beforehand."""
    scramble(chance)
    course = Course(subject)
    built, legs = course.state(), {}
    for stage in course.translator.stages:
        course.grow(stage)
        grown = course.state()
        course.enter(stage)
        steps = [course.step(index, _batch(subject, index, change)) for index in range(HALF)]
        halfway, optimizers = course.state(), course.optimizer_states()
        later = range(HALF, 2 * HALF)
        steps += [course.step(index, _batch(subject, index, change)) for index in later]
        legs[stage] = Leg(grown, halfway, optimizers, steps, course.state())
    return Rehearsal(course, built, legs)


def check_repeats(subject: Subject, first: Rehearsal) -> None:
    """Check that a second run under other global generators is the same, bit by bit."""
    second = rehearse(subject, chance=2)
    expected = "equal seeds to give equal runs, whatever the global generators hold"
    remedy = "draw with now.normal or now.uniform, and let torch's generator alone draw weights"

    def compare(place: str, one: State, other: State) -> None:
        if name := difference(one, other):
            wrong = f"gives {name!r} another value when run again under the same seed"
            raise fault(subject.family, place, wrong, expected, remedy)

    compare("__init__", first.built, second.built)
    for stage, leg in first.legs.items():
        again = second.legs[stage]
        compare("grow", leg.grown, again.grown)
        _compare_steps(subject, leg.steps, again.steps, "run again", expected, remedy)
        compare("training_step", leg.end, again.end)


def check_resumes(subject: Subject, whole: Rehearsal) -> None:
    """Check that a run resumed from a checkpoint goes on as the one that never stopped."""
    expected = "everything that changes in a step to be a parameter or a buffer"
    remedy = "keep it with register_buffer (persistent) and change it in place"
    stages = list(whole.legs)
    for stage, leg in whole.legs.items():
        scramble(1)
        course = Course(subject)
        for earlier in stages[: stages.index(stage) + 1]:
            course.grow(earlier)
        try:
            course.translator.load_state_dict(leg.halfway)
        except RuntimeError as error:
            wrong = f"builds other modules when grown again for a resume of stage {stage!r}"
            raise fault(subject.family, "grow", wrong, expected, remedy) from error
        course.enter(stage)
        for name, optimizer in course.optimizers.items():
            optimizer.load_state_dict(leg.optimizers[name])
        later = range(HALF, 2 * HALF)
        steps = [course.step(index, _batch(subject, index)) for index in later]
        how = "resumed from a checkpoint"
        _compare_steps(subject, leg.steps[HALF:], steps, how, expected, remedy)
        if changed := difference(leg.end, course.state()):
            wrong = f"ends with another {changed!r} when {how}"
            raise fault(subject.family, "training_step", wrong, expected, remedy)


def check_moves(subject: Subject, first: Rehearsal) -> None:
    """Check that other pictures, bright ones and dark ones, lead to the same moves."""
    for shift in (0.6, -0.6):
        other = rehearse(subject, chance=1, change=partial(_moved, shift=shift))
        for stage, leg in first.legs.items():
            for index, (one, two) in enumerate(
                zip(leg.steps, other.legs[stage].steps, strict=True)
            ):
                if one.moves != two.moves:
                    raise fault(
                        subject.family,
                        "training_step",
                        f"yields {one.moves} on some pictures and {two.moves} on others "
                        f"in step {index} of stage {stage!r}",
                        "moves, terms, weights and measurements that depend on 'now' and options",
                        "decide with now.every(...) or an option, and let data enter values only",
                    )


def check_losses(subject: Subject) -> None:
    """Check that terms are float32 where the networks compute in bfloat16."""
    course = Course(subject, precision=torch.bfloat16)
    for stage in course.translator.stages:
        course.grow(stage)
        course.enter(stage)
        for name, kind in course.step(0, subject.make(0)).kinds.items():
            if kind != torch.float32:
                raise fault(
                    subject.family,
                    "training_step",
                    f"computes the term {name!r} in {str(kind).removeprefix('torch.')}",
                    "losses computed in float32, also where the networks run in bfloat16",
                    "cast logits and pictures with .float() where they enter the loss",
                )


def check_micro_batches(subject: Subject) -> None:
    """Check that a batch played in two uneven parts moves everything as the whole does."""
    player = Player(optimizer="sgd", learning_rate=0.01)  # Adam would magnify rounding
    whole = Course(subject, player=player)
    parts = Course(subject, player=player, num_micro_batches=2)
    for stage in whole.translator.stages:
        for course in (whole, parts):
            course.grow(stage)
            course.enter(stage)
        before = whole.state()
        for index in range(2):
            batch = subject.make(index)
            values = whole.step(index, batch).values, parts.step(index, batch).values
            for name, value in values[0].items():
                if abs(value - values[1][name]) > 1e-5 * max(1.0, abs(value)):
                    wrong = f"gives {name!r} {value:.7g} on a batch and {values[1][name]:.7g} on"
                    raise _uneven(subject, f"{wrong} its parts")
        _compare_changes(subject, before, whole.state(), parts.state())


def _compare_changes(subject: Subject, before: State, whole: State, parts: State) -> None:
    changes = {name: _distance(whole[name], before[name]) for name in whole}
    rounding = 1e-4 * max(changes.values())  # all there is where a normalisation cancels a bias
    for name, changed in changes.items():
        apart = _distance(whole[name], parts[name])
        if apart > min(1e-5 * max(1.0, changed), 1e-2 * changed + rounding):
            wrong = f"moves {name!r} by {changed:.2g} on a batch and {apart:.2g} off on its parts"
            raise _uneven(subject, wrong)


def _uneven(subject: Subject, wrong: str) -> PluginError:
    return fault(
        subject.family,
        "training_step",
        f"{wrong} when the batch is split",
        "losses that are means over samples, and draws keyed by sample",
        "take means, draw with now.normal or now.uniform, or do without this check where a "
        "normalisation sees the batch",
    )


def difference(one: State, other: State) -> str | None:
    """Return the first name under which two states differ, if any."""
    for name in {**one, **other}:
        if name not in one or name not in other or not torch.equal(one[name], other[name]):
            return name
    return None


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).abs().max()) if one.numel() else 0.0


def _compare_steps(
    subject: Subject, one: list[Step], other: list[Step], how: str, expected: str, remedy: str
) -> None:
    for first, second in zip(one, other, strict=True):
        for name in {**first.values, **second.values}:
            if first.values.get(name) != second.values.get(name):
                wrong = f"gives {name!r} another value when {how}"
                raise fault(subject.family, "training_step", wrong, expected, remedy)


def _batch(subject: Subject, index: int, change: Callable[[Batch], Batch] | None = None) -> Batch:
    batch = subject.make(index)
    return change(batch) if change else batch


def _moved(batch: Batch, shift: float) -> Batch:
    """Return the batch with its pictures flatter and brighter (or darker), still in [-1, 1]."""
    images = {role: 0.4 * image + shift for role, image in batch.images.items()}
    return replace(batch, images=images)
