"""Device-side augmentation: kornia transforms of whole batches, with randomness keyed by sample."""

import importlib
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from i2i.errors import RecipeError, suggest
from i2i.types import Batch, Inputs, Progress, derive_seed

if TYPE_CHECKING:
    from i2i.recipe.schema import DeviceTransform

_LEFT_OUT = {
    "Denormalize",  # leaves [0, 1]
    "Normalize",
    "RandomFisheye",  # takes tensors, which a recipe cannot hold
    "RandomDissolving",  # fetches a network, and draws while it is applied
}

_WHOLE = {
    "RandomChannelDropout",  # its numbers say which sample of the batch they are for
    "RandomRain",  # a sample's numbers have no fixed length
}
"""The transforms whose draws cannot be put together from those of single samples."""

_PROBABILITIES = ("p", "p_batch")


@dataclass(frozen=True)
class _Step:
    """One transform of the list."""

    transform: "DeviceTransform"
    place: str
    module: Any
    roles: tuple[str, ...]

    def fault(self, wrong: str, expected: str, remedy: str) -> RecipeError:
        where = f"{self.place} ({self.transform.transform})"
        return RecipeError(wrong, where=where, expected=expected, remedy=remedy)


class DeviceAugment:
    """The recipe's ``[augment] device``: transforms of a batch on its device, in their order.

    Pictures that belong together, the roles of paired ``inputs``, share all that is drawn; the
    roles of unpaired ones draw independently. A transform's ``roles`` limit it. kornia sees values
    in [0, 1], so that 0 is black; what leaves the range is clipped at the end. Raises RecipeError
    for an unknown transform, role or argument, and for a value that does not fit.
    """

    def __init__(self, transforms: "Sequence[DeviceTransform]", inputs: Inputs) -> None:
        self.inputs = inputs
        library = importlib.import_module("kornia.augmentation") if transforms else None
        self._steps = [
            _build(library, each, f"augment.device[{place}]", inputs)
            for place, each in enumerate(transforms)
            if library is not None
        ]

    def __call__(self, batch: Batch, now: Progress) -> Batch:
        """Return the augmented batch: images of (N, 3, H, W) float32 in [-1, 1] on their device.

        The result depends on the batch, the seed, the stage and the step alone, and what happens
        to a sample not on the others, except where kornia draws one number for a batch (the order
        of ColorJitter, ``same_on_batch``, RandomChannelDropout and RandomRain). Numbers are drawn
        on the CPU; torch's global generators stay as they were. Raises RecipeError where a picture
        is no longer RGB, or on a CPU no longer finite.
        """
        if not self._steps:
            return batch
        touched = {role for step in self._steps for role in step.roles}
        images = {role: (batch.images[role] + 1).div_(2) for role in touched}
        with torch.no_grad(), _generator_kept():
            for step in self._steps:
                self._apply(step, images, batch, now)
        changed = {role: image.clamp(0, 1).mul_(2).sub_(1) for role, image in images.items()}
        return Batch({**batch.images, **changed}, batch.keys, batch.labels)

    def shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return (C, H, W) of each role after the transforms, from what they were before.

        Tries every transform on noise. Raises RecipeError for one that does not take pictures of
        these sizes, that changes the size of some batches only, or that would enlarge to crop.
        """
        noise = torch.Generator().manual_seed(0)
        images = {role: torch.rand(1, *shape, generator=noise) for role, shape in shapes.items()}
        batch = Batch(images, torch.zeros(1, dtype=torch.int64))
        now = Progress(0, "rehearsal", 0, 0)
        with torch.no_grad(), _generator_kept():
            for step in self._steps:
                before = {role: tuple(images[role].shape) for role in step.roles}
                with _always(step.module):
                    try:
                        self._apply(step, images, batch, now)
                    except RecipeError:
                        raise
                    except Exception as error:  # kornia raises what it likes
                        sizes = " and ".join(f"{w}x{h}" for *_, h, w in before.values())
                        raise step.fault(
                            f"it fails ({_first_line(error)})",
                            f"a transform of pictures of {sizes}",
                            "correct its arguments, or what stands before it in [augment]",
                        ) from error
                for role in step.roles:
                    _check_size(step, before[role], tuple(images[role].shape))
        return {role: tuple(image.shape[1:]) for role, image in images.items()}

    def _apply(self, step: _Step, images: dict[str, Tensor], batch: Batch, now: Progress) -> None:
        """Replace the images that a step is for."""
        parts = {"pair": step.roles} if self.inputs.paired else {r: (r,) for r in step.roles}
        for part, roles in parts.items():
            shape = images[roles[0]].shape
            for role in roles[1:]:
                if images[role].shape != shape:
                    raise step.fault(
                        f"{roles[0]} and {role} of a pair differ in size",
                        "pictures of one size, which one geometry can move",
                        f'give it roles = ["{role}"], or make the sizes equal before',
                    )
            numbers = _draw(step, tuple(shape), batch, now, part)
            for role in roles:
                images[role] = _checked(step, step.module(images[role], params={**numbers}), shape)


def _build(
    library: ModuleType | None, transform: "DeviceTransform", place: str, inputs: Inputs
) -> _Step:
    """Make one kornia transform from the recipe's words."""
    known = _transforms(library)
    name = transform.transform
    if name not in known:
        raise RecipeError(
            f"there is no device transform named {name!r}",
            where=f"{place}.transform",
            expected=f"one of {len(known)} image transforms of kornia.augmentation",
            remedy=suggest(name, known, "see https://kornia.readthedocs.io"),
        )
    roles = inputs.images if transform.roles is None else transform.roles
    for role in roles:
        if role not in inputs.images:
            raise RecipeError(
                f"there is no role {role!r}",
                where=f"{place}.roles",
                expected=f"some of {', '.join(inputs.images)}",
                remedy=suggest(role, inputs.images, "remove it"),
            )
    arguments = {key: _tuples(value) for key, value in (transform.model_extra or {}).items()}
    # keepdim speaks of pictures without a batch, which there are none
    accepted = [each for each in inspect.signature(known[name]).parameters if each != "keepdim"]
    for argument, value in arguments.items():
        if argument not in accepted:
            raise RecipeError(
                f"{name} has no argument {argument!r}",
                where=f"{place}.{argument}",
                expected=f"one of {', '.join(['roles', *accepted])}",
                remedy=suggest(argument, ["roles", *accepted], "remove it"),
            )
        if argument in _PROBABILITIES and not _is_probability(value):
            raise RecipeError(
                f"{value!r} is no probability",
                where=f"{place}.{argument}",
                expected="a number from 0 to 1",
                remedy="correct it",
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            module = known[name](**arguments)
    except Exception as error:  # kornia raises what it likes
        raise RecipeError(
            f"{name} refuses its arguments ({_first_line(error)})",
            where=place,
            expected=f"{name}({', '.join(accepted)})",
            remedy="correct them",
        ) from error
    return _Step(transform, place, module, tuple(dict.fromkeys(roles)))


def _transforms(library: Any) -> Mapping[str, Any]:
    """Return the concrete transforms of a batch of pictures by name."""
    return {
        name: each
        for name, each in vars(library).items()
        if inspect.isclass(each)
        and issubclass(each, library.AugmentationBase2D)
        and not name.endswith("Base2D")
        and name not in _LEFT_OUT
    }


def _draw(
    step: _Step, shape: tuple[int, ...], batch: Batch, now: Progress, part: str
) -> dict[str, Tensor]:
    """Draw a transform's numbers, keyed by sample where they are a sample's."""

    def draw(size: tuple[int, ...], key: object) -> dict[str, Tensor]:
        seed = derive_seed(now.seed, now.stage, now.step, key, step.place, part)
        torch.default_generator.manual_seed(seed)  # the only one that kornia draws from
        numbers: dict[str, Tensor] = step.module.forward_parameters(size)
        return numbers

    together = draw(shape, "batch")
    if step.transform.transform in _WHOLE or step.module.same_on_batch:
        return together
    alone = [draw((1, *shape[1:]), key) for key in batch.keys.tolist()]
    return {
        name: torch.cat([each[name] for each in alone])
        if value.shape[:1] == (len(batch),) and alone[0][name].shape[:1] == (1,)
        else value
        for name, value in together.items()
    }


def _checked(step: _Step, image: Any, before: torch.Size) -> Tensor:
    """Return what a transform made of images; raises RecipeError if they are not RGB any more."""
    if (
        not isinstance(image, Tensor)
        or image.dtype != torch.float32
        or image.ndim != 4
        or image.shape[:2] != before[:2]
    ):
        raise step.fault(
            f"it returns {_describe(image)} for {tuple(before)} float32",
            "a transform that keeps (N, 3, height, width) float32",
            "remove it",
        )
    # elsewhere reading the answer would make the host wait, a step
    if image.device.type == "cpu" and not torch.isfinite(image.sum()):
        raise step.fault("it returns values that are not finite", "finite values", "remove it")
    return image


def _check_size(step: _Step, before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """Refuse a new size that is not every batch's, and a crop that kornia makes by stretching."""
    if after == before:
        return
    if any(getattr(step.module, name) < 1 for name in _PROBABILITIES):
        wrong = f"it makes {after[3]}x{after[2]} of {before[3]}x{before[2]} in some batches only"
        raise step.fault(wrong, "one size in every batch", "set p = 1.0")
    flags = step.module.flags
    pads = flags.get("padding") is not None or flags.get("pad_if_needed")
    enlarges = after[2] > before[2] or after[3] > before[3]
    if step.transform.transform == "RandomCrop" and enlarges and not pads:
        raise step.fault(
            f"it cannot cut {after[3]}x{after[2]} out of {before[3]}x{before[2]}",
            "a crop that fits into the picture",
            "make it smaller, or set pad_if_needed = true",
        )


@contextmanager
def _generator_kept() -> Iterator[None]:
    """Give torch's CPU generator back as it was."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


@contextmanager
def _always(module: Any) -> Iterator[None]:
    """Let a transform happen for certain."""
    before = {name: getattr(module, name) for name in _PROBABILITIES}
    try:
        for name in before:
            setattr(module, name, 1.0)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def _tuples(value: Any) -> Any:
    """Return TOML's arrays as the tuples that kornia asks for."""
    return tuple(_tuples(each) for each in value) if isinstance(value, list | tuple) else value


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _first_line(error: BaseException) -> str:
    text = str(error.args[0]) if error.args else ""
    return next(iter(text.strip().splitlines()), "") or type(error).__name__


def _describe(image: Any) -> str:
    if not isinstance(image, Tensor):
        return type(image).__name__
    return f"{tuple(image.shape)} {str(image.dtype).removeprefix('torch.')}"
