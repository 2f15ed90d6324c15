"""Loading: batches as a pure function of (seed, step), whatever the number of workers."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from i2i.data.augment import HostAugment
from i2i.data.cache import prepared
from i2i.data.layouts import Layout, Part, PreparedPart, Sample
from i2i.errors import DataError, I2IError, ImageError, RecipeError
from i2i.imaging import Pixels, read_picture, rgb8, to_tensor
from i2i.types import Batch, Inputs, derive_seed

if TYPE_CHECKING:
    from i2i.recipe.schema import HostTransform

_PREFETCHED = 2  # batches a worker
_TURNS = ("D4", "HorizontalFlip", "RandomRotate90", "SquareSymmetry", "Transpose", "VerticalFlip")

# Never a fork of this process: libvips hangs in a child of a parent that has used it. The fork
# server has used nothing; macOS has one too, but its libraries do not survive a fork.
_START = "forkserver" if sys.platform == "linux" else "spawn"


def make_loader(
    layout: Layout,
    augment: HostAugment,
    *,
    seed: int,
    batch_size: int,
    start_step: int,
    num_steps: int,
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Yield the batches of steps ``start_step`` to ``start_step + num_steps - 1`` of a stage.

    Step s takes samples ``s * batch_size`` and following of the endless sequence of epochs; a
    batch may reach from one epoch into the next. Images are (N, 3, H, W) float32 RGB in [-1, 1].
    Batches are the same for any ``num_workers``, skipped samples are never decoded, and no
    global generator is touched. Workers import the main module again, so a script of one's own
    that asks for some needs the usual ``if __name__ == "__main__"``.

    Raises DataError for a picture that cannot be read or transformed, and for sizes that differ
    within a batch, or within a pair that no Resize makes equal first; RecipeError for a transform
    that pictures of two sizes cannot share, where the layout cuts them.
    """
    steps = range(start_step, start_step + num_steps)
    loader: DataLoader[Batch | I2IError] = DataLoader(
        _Steps(layout, augment, seed, batch_size),
        batch_size=None,
        sampler=steps,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        worker_init_fn=_begin_worker,
        generator=torch.Generator(),  # the default would draw from the global stream
        prefetch_factor=_PREFETCHED if num_workers else None,
        multiprocessing_context=_START if num_workers else None,
    )
    with _interrupts_held():
        items = iter(loader)
    for item in items:
        if isinstance(item, I2IError):
            raise item
        yield _scaled(item)


def preload_workers() -> None:
    """Let the workers of this process start in a tenth of a second instead of two.

    The fork server imports this module, torch and all, once for all of them. It is a setting of
    the whole process, made before anything starts the server, so it is for programs and not for
    libraries to call. Where workers are spawned it does nothing.
    """
    if _START == "forkserver":
        multiprocessing.set_forkserver_preload([__name__])


def example_shapes(
    layout: Layout, augment: HostAugment, *, seed: int = 0
) -> dict[str, tuple[int, ...]]:
    """Return (C, H, W) of each role as training sees it, from the first sample."""
    images, _ = _load(layout, augment, seed, 0)
    return {role: (3, *image.shape[:2]) for role, image in images.items()}


@dataclass(frozen=True)
class _Steps(Dataset[Batch | I2IError]):
    """Step number to batch. Errors are returned: torch cannot rebuild ours from a worker."""

    layout: Layout
    augment: HostAugment
    seed: int
    batch_size: int

    def __getitem__(self, step: int) -> Batch | I2IError:
        first = step * self.batch_size
        try:
            return self._batch(range(first, first + self.batch_size))
        except I2IError as error:
            return error.with_traceback(None)

    def _batch(self, places: range) -> Batch:
        loaded = [_load(self.layout, self.augment, self.seed, place) for place in places]
        pictures = [images for images, _ in loaded]
        samples = [sample for _, sample in loaded]
        return Batch(
            {role: _stack(role, pictures, samples) for role in self.layout.inputs.images},
            torch.tensor([_key(self.layout, self.seed, place) for place in places]),
            {
                name: torch.tensor([sample.labels[name] for sample in samples])
                for name in self.layout.inputs.labels
            },
        )


def _key(layout: Layout, seed: int, place: int) -> int:
    return derive_seed(seed, *divmod(place, len(layout)))


def _load(
    layout: Layout, augment: HostAugment, seed: int, place: int
) -> tuple[Mapping[str, Pixels], Sample]:
    """Read and augment the sample at ``place`` of the endless sequence of epochs."""
    epoch, index = divmod(place, len(layout))
    sample = layout.sample(seed, epoch, index)
    if layout.cuts:
        _check_turns(augment.transforms)
    whole = _read_sample(sample, layout.inputs)
    if layout.cuts:
        _check_factor(whole, sample)
    elif layout.inputs.paired and not resizes_first(augment.transforms):
        _check_pair(whole, sample)
    images = {}
    for role, image in whole.items():
        # Pictures that belong together are cropped and turned together.
        what = "pair" if layout.inputs.paired else role
        number = derive_seed(seed, epoch, index, "augment", what)
        images[role] = _augmented(augment, image, sample.images[role].path, number)
    return images, sample


def _read_sample(sample: Sample, inputs: Inputs) -> dict[str, NDArray[np.uint8]]:
    """Return the picture of each role as it is before augmentation; a file is read once."""
    read = cache(_read)
    # Copies: a transform that writes into one role's picture must not reach another's.
    return {role: np.array(_pixels(sample.images[role], read)) for role in inputs.images}


def _pixels(part: Part, read: Callable[[Path], NDArray[np.uint8]]) -> Pixels:
    if isinstance(part, PreparedPart) and part.keep:
        return part.take(prepared(part, read))
    return part.cut(read(part.path))


def resizes_first(transforms: "Sequence[HostTransform]") -> bool:
    """Whether augmentation begins by bringing every picture to one size.

    Only then may the pictures of a pair differ in size: one draw makes equal crops and turns of
    equal sizes alone.
    """
    first = next(iter(transforms), None)
    return (
        first is not None
        and first.transform == "Resize"
        and (first.model_extra or {}).get("p", 1) == 1
    )


def _check_turns(transforms: "Sequence[HostTransform]") -> None:
    """Raise RecipeError unless every transform turns and mirrors alone, for layouts that cut."""
    for place, each in enumerate(transforms):
        if each.transform not in _TURNS:
            raise RecipeError(
                f"{each.transform} does not do the same to pictures of two sizes",
                where=f"augment.host[{place}] ({each.transform})",
                expected=f"one of {', '.join(_TURNS)}, as the layout cuts the pictures itself and "
                "those of a pair differ in size",
                remedy="remove it; how large the cuts are is for [data.options] to say, and what "
                "befalls low resolution alone for the family's options",
            )


def _check_pair(images: Mapping[str, Pixels], sample: Sample) -> None:
    """Raise DataError unless the pictures of a sample have one size."""
    sizes = {role: f"{image.shape[1]}x{image.shape[0]}" for role, image in images.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{role} {size}" for role, size in sizes.items())
        raise DataError(
            f"the pictures of a pair differ in size ({said})",
            where=" and ".join(str(sample.images[role].path) for role in sizes),
            expected="one size, as a crop is taken from the same place in each",
            remedy="make them equal, or let Resize be the first transform in [augment]; "
            "'i2i data check' lists every such pair",
        )


def _check_factor(images: Mapping[str, Pixels], sample: Sample) -> None:
    """Raise DataError unless each picture is the smallest one's size times a whole number."""
    small = min((image.shape[:2] for image in images.values()), default=(1, 1))
    for role, image in images.items():
        height, width = image.shape[:2]
        if height % small[0] or (height // small[0] * small[1]) != width:
            raise DataError(
                f"its {role} crop is {width}x{height}, beside one of {small[1]}x{small[0]}",
                where=str(sample.images[role].path),
                expected="pictures of a pair that differ in size by a whole factor",
                remedy="correct the layout that cuts them",
            )


def _augmented(augment: HostAugment, image: NDArray[np.uint8], path: Path, number: int) -> Pixels:
    try:
        return augment(image, number)
    except I2IError:
        raise
    except Exception as error:  # albumentations raises what it likes
        raise DataError(
            f"it cannot be augmented ({_reason(error)})",
            where=str(path),
            expected=f"transforms that take its {image.shape[1]}x{image.shape[0]} pixels",
            remedy="resize or pad before that transform in [augment]",
        ) from error


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return read_rgb(path)
    except ImageError as error:
        raise DataError(
            error.wrong,
            where=str(path),
            expected=error.expected,
            remedy="run 'i2i data check' on the data folder to find every such file",
        ) from error


def _stack(role: str, pictures: list[Mapping[str, Pixels]], samples: list[Sample]) -> Tensor:
    """Return the pictures of one role as (N, H, W, 3) uint8: a quarter of what float32 weighs."""
    images = [each[role] for each in pictures]
    for image, sample in zip(images, samples, strict=True):
        if image.shape != images[0].shape:
            first, other = images[0].shape, image.shape
            raise DataError(
                f"a batch holds pictures of {first[1]}x{first[0]} and {other[1]}x{other[0]}",
                where=f"{samples[0].images[role].path} and {sample.images[role].path}",
                expected="one size for every picture of a batch",
                remedy="add a resize and a crop, such as Resize and RandomCrop, to [augment]",
            )
    return torch.from_numpy(np.stack(images))


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Return a picture as (H, W, 3) 8-bit RGB, transparent parts on white; raises ImageError."""
    return rgb8(read_picture(path))


def _scaled(batch: Batch) -> Batch:
    """Return the batch with images as float32 in [-1, 1]."""
    images = {
        role: torch.stack([to_tensor(pixels.numpy()) for pixels in images])
        for role, images in batch.images.items()
    }
    return Batch(images, batch.keys, batch.labels)


def _as_it_is(item: Any) -> Any:
    return item


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C from the processes that start inside the block: they inherit what is blocked."""
    if sys.platform == "win32":
        yield
        return
    ensure_running()  # a tracker that starts later would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(_worker: int) -> None:
    """Leave Ctrl-C to the main process, which ends the workers when it has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the main process is killed: torch watches the fork server instead."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
