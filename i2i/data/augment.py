"""Host-side augmentation: albumentations transforms whose randomness is keyed by an integer."""

import importlib
import inspect
import os
import random
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from i2i.errors import RecipeError, suggest

if TYPE_CHECKING:
    from i2i.recipe.schema import HostTransform


class HostAugment:
    """The recipe's ``[augment] host``: transforms of one RGB uint8 picture, in their order.

    Pictures are (H, W, 3) uint8. The result depends on the picture and ``seed`` alone, in any
    process and whatever ran before. OpenCV's threads are switched off in the process that holds
    one, because the loader's workers are the parallel part. Raises RecipeError for an unknown
    transform, an unknown argument, a value that does not fit, and whatever albumentations warns of.
    """

    def __init__(self, transforms: "Sequence[HostTransform]" = ()) -> None:
        self.transforms = tuple(transforms)
        library = _albumentations() if self.transforms else None
        self._steps = [
            _build(library, each, f"augment.host[{place}]")
            for place, each in enumerate(self.transforms)
            if library is not None
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to a worker as the recipe's words and be built anew there."""
        return (HostAugment, (self.transforms,))

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Return the transformed picture; raises RecipeError if it is no RGB uint8 any more.

        Other exceptions are albumentations' own, such as a crop that is larger than the picture.
        """
        # One stream for all transforms: albumentations' own set_random_seed gives each the same
        # numbers, so that two flips with p=0.5 would always happen together.
        streams = np.random.default_rng(seed), random.Random(seed)
        for place, step in enumerate(self._steps):
            step.set_random_state(*streams)
            image = step(image=image)["image"]
            if not _is_rgb(image):
                raise RecipeError(
                    f"the picture is no longer RGB in 8 bits ({_describe(image)})",
                    where=f"augment.host[{place}] ({self.transforms[place].transform})",
                    expected="transforms that return (H, W, 3) uint8; the engine scales to [-1, 1]",
                    remedy="remove this transform",
                )
        return np.ascontiguousarray(image)


def _albumentations() -> ModuleType:
    """Import albumentations without its look at the network, and keep OpenCV to one thread."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import cv2

    cv2.setNumThreads(0)
    cv2.ocl.setUseOpenCL(False)
    return importlib.import_module("albumentations")


def _build(library: ModuleType, transform: "HostTransform", where: str) -> Any:
    """Make one albumentations transform from the recipe's words."""
    known = _transforms(library)
    name, arguments = transform.transform, dict(transform.model_extra or {})
    if name not in known:
        raise RecipeError(
            f"albumentations has no transform named {name!r}",
            where=f"{where}.transform",
            expected=f"one of the {len(known)} image transforms of albumentations",
            remedy=suggest(name, known, "see https://albumentations.ai/docs/api-reference"),
        )
    accepted = [each for each in inspect.signature(known[name]).parameters if each != "strict"]
    for argument in arguments:
        if argument not in accepted:
            raise RecipeError(
                f"{name} has no argument {argument!r}",
                where=f"{where}.{argument}",
                expected=f"one of {', '.join(accepted)}",
                remedy=suggest(argument, accepted, "remove it"),
            )
    try:
        with warnings.catch_warnings():
            # What albumentations only warns about, it repairs by falling back to defaults.
            warnings.simplefilter("error", UserWarning)
            step = known[name](**arguments)
    except (ValueError, TypeError, UserWarning) as error:
        raise RecipeError(
            f"{name} refuses its arguments ({_first_fault(error)})",
            where=where,
            expected=f"{name}({', '.join(accepted)})",
            remedy="correct them",
        ) from error
    missing = set(step.targets_as_params) - {"image"}
    if missing:
        raise RecipeError(
            f"{name} needs {', '.join(sorted(missing))}, which a picture alone does not bring",
            where=f"{where}.transform",
            expected="a transform of one picture",
            remedy="remove it",
        )
    return step


def _transforms(library: ModuleType) -> Mapping[str, Any]:
    """Return the concrete transforms of one picture by name."""
    return {
        name: each
        for name, each in vars(library).items()
        if inspect.isclass(each)
        and issubclass(each, library.DualTransform | library.ImageOnlyTransform)
        and each.__module__.startswith("albumentations.augmentations.")
        and not issubclass(each, library.Transform3D | library.Lambda)
    }


def _first_fault(error: BaseException) -> str:
    """Return what albumentations says, without the links that pydantic adds."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("For further information")]
    if len(lines) > 2 and "validation error" in lines[0]:
        return f"{lines[1]}: {lines[2].partition(' [type=')[0]}"
    return " ".join(lines) or type(error).__name__


def _is_rgb(image: Any) -> bool:
    return (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
    )


def _describe(image: Any) -> str:
    return f"{getattr(image, 'shape', type(image).__name__)} {getattr(image, 'dtype', '')}".strip()
