"""The family under test, and the shelter its tests run in."""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ValidationError

from i2i.errors import PluginError
from i2i.model_file import build
from i2i.testing.batches import make_batch, shapes_for
from i2i.translator import Translator
from i2i.types import Batch, Fit

SEED = 1  # not 0: that is the seed under which a model file builds its networks again


@dataclass(frozen=True)
class Subject:
    """A family with small options, and ``make(seed)`` for the batches it is shown."""

    family: type[Translator]
    options: BaseModel
    make: Callable[[int], Batch]

    def build(self) -> Translator:
        """Build the family as the trainer does."""
        return build(self.family, self.options, SEED)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The (C, H, W) of each role, which is all that ``grow`` may know of the data."""
        images = self.make(0).images
        return MappingProxyType({role: tuple(image.shape[1:]) for role, image in images.items()})


def valid_options(
    family: type[Translator], options: BaseModel | Mapping[str, Any] | None
) -> BaseModel:
    """Return the options as the family's own model; raises PluginError."""
    if isinstance(options, BaseModel):
        return options
    try:
        return family.Options.model_validate(options or {})
    except ValidationError as error:
        wrong = f"refuses these options ({error.errors()[0]['msg']})"
        expected, remedy = "options of this family", "pass small options to the check"
        raise fault(family, "Options", wrong, expected, remedy) from error


def batches(family: type[Translator], fit: Fit) -> Callable[[int], Batch]:
    """Return how to make batches that fit, where the author does not say."""
    shapes = shapes_for(family.inputs, fit, _example_size(fit))
    return lambda seed: make_batch(family.inputs, shapes=shapes, seed=seed)


def _example_size(fit: Fit) -> tuple[int, int]:
    if fit.exact_size is not None:
        return fit.exact_size
    side = -(-max(32, fit.smallest) // fit.multiple) * fit.multiple
    return side, side


def fault(
    family: type[Translator], place: str, wrong: str, expected: str, remedy: str
) -> PluginError:
    """Return the error for a broken rule; ``place`` is an attribute of the class."""
    where = f"{family.__module__}.{family.__qualname__}.{place}"
    return PluginError(f"it {wrong}", where=where, expected=expected, remedy=remedy)


def scramble(seed: int) -> None:
    """Set every global generator: what depends on one of them then differs between two runs."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextlib.contextmanager
def sheltered() -> Iterator[None]:
    """Put every global generator back afterwards."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextlib.contextmanager
def untouched(family: type[Translator], place: str, *, torchs: bool) -> Iterator[None]:
    """Refuse draws from Python's and NumPy's global generators, and from torch's if ``torchs``."""
    before = _generators()
    yield
    after = _generators()
    for name in before:
        if before[name] != after[name] and (torchs or name != "torch"):
            raise fault(
                family,
                place,
                f"draws from {name}'s global generator",
                "randomness that follows from the seed and the sample alone",
                "draw with now.normal or now.uniform when training, and from a torch.Generator "
                "seeded by the request in translate",
            )


def _generators() -> dict[str, object]:
    kind, keys, place, *rest = np.random.get_state(legacy=True)
    return {
        "Python": random.getstate(),
        "NumPy": (kind, np.asarray(keys).tobytes(), place, *rest),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }
