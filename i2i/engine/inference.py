"""Translate pictures of any size: reduce, pad to what the family takes, run, undo both.

No picture's result depends on those beside it: pictures share a batch only when their windows are
of one size, and everything else is done to each alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from i2i.engine.ensemble import check_ensemble, ensembled
from i2i.engine.forward import Precision as Precision
from i2i.engine.forward import evaluating
from i2i.engine.forward import forward as forward
from i2i.engine.memory import available
from i2i.engine.regions import check_regions, cut_out, paste
from i2i.engine.resample import Filter, Size, strips
from i2i.engine.tiles import Canvas, Frame, Source, cut, frame, size_of
from i2i.errors import ImageError, UsageError
from i2i.imaging import Pixels, from_tensor, to_tensor
from i2i.translator import Translator
from i2i.types import Fit, Region

WorkSize = int | Literal["native", "trained"]
Restore = Literal["detail", "resize"]


@dataclass(frozen=True)
class Work:
    """One picture or crop on its way: what is translated, and what becomes of the result."""

    whole: Source
    source: Source  # the picture itself, or reduced in float32
    frame: Frame  # of ``source``
    target: Size  # of the result, before the family's scale
    region: Region | None = None  # that ``whole`` was cut out of, where it is a crop

    @property
    def resized(self) -> bool:
        """Whether the result has to be resized when it is finished."""
        return self.frame.size != self.target


def translate_batch(
    translator: Translator,
    images: Sequence[Tensor],
    request: BaseModel,
    *,
    work_size: WorkSize = "native",
    restore_size: bool = True,
    restore: Restore = "resize",
    tile: int | None = None,
    batch_size: int = 8,
    device: torch.device | None = None,
    precision: Precision = "float32",
    ensemble: bool = False,
) -> list[Tensor]:
    """Translate (C, H, W) float32 tensors in [-1, 1] of any sizes; returns them on the CPU.

    ``work_size`` is the short side, in pixels, that larger pictures are reduced to first, and
    ``restore_size`` brings them back; ``restore`` says how, see ``finish``. ``tile`` is the longest
    side of what the family sees at once, where its fit allows tiles. With ``ensemble`` each result
    is the mean of eight, see ``ensembled``. The translator must be on ``device`` already (the CPU
    if None). Raises PluginError for a result of the wrong shape, UsageError for a work size that
    the family does not know and an ensemble that it cannot make, and ImageError where it locates
    nothing.
    """
    fit = translator.fit
    if ensemble:
        check_ensemble(fit)
    short_side = resolve_work_size(work_size, fit)
    divided = [
        divide(translator, image, request, short_side)
        or [begin(image, fit, short_side, restore_size)]
        for image in images
    ]
    works = [work for each in divided for work in each]

    def run(batch: Tensor) -> Tensor:
        return forward(translator, batch, request, device=device, precision=precision)

    run_all = partial(ensembled, run) if ensemble else run
    outputs: dict[int, Source] = {}
    for indices in by_padded_size(works):
        chosen = [works[index] for index in indices]
        made = translate_works(chosen, run_all, fit, tile, batch_size, [None] * len(chosen))
        outputs.update(zip(indices, made, strict=True))
    in_order = (outputs[index] for index in range(len(works)))
    results = []
    for image, parts in zip(images, divided, strict=True):
        result = compose(image, parts, [*islice(in_order, len(parts))], fit, restore, None)
        assert isinstance(result, Tensor)
        results.append(result)
    return results


def divide(
    translator: Translator, image: Source, request: BaseModel, short_side: int | None
) -> list[Work]:
    """Return what the family locates in a photograph, as crops; none for the whole of it.

    Costs nothing for a family that does not. Each crop is begun as a picture of its own would be,
    and always comes back to its size. Raises ImageError where there is nothing to translate or no
    room for the photograph in float32, and PluginError for regions that cannot be used.
    """
    if not translator.locates(request):
        return []
    fit, size = translator.fit, size_of(image)
    if not isinstance(image, Tensor):
        needed, free = size[0] * size[1] * fit.channels_in * 4 * 2, available()
        if needed > free:
            raise ImageError(
                f"finding what to translate of {size[1]}x{size[0]} pixels needs about "
                f"{needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free",
                where=f"family {translator.name!r}",
                expected="a picture that fits in memory",
                remedy="reduce it first",
            )
    with evaluating(translator), torch.no_grad():
        found = translator.locate(_rows(image, fit.channels_in)(0, size[0]), request)
    if found is None:
        return []
    regions = check_regions(found, size, fit, translator.name)
    crops = [(region, cut_out(image, region)) for region in regions]
    return [
        replace(begin(crop, fit, short_side, restore_size=True), region=region)
        for region, crop in crops
    ]


def compose(
    image: Source,
    works: Sequence[Work],
    outputs: Sequence[Source],
    fit: Fit,
    restore: Restore,
    dtype: np.dtype[Any] | None,
) -> Source:
    """Return the result of a picture, as pixels of ``dtype``, or float32 for None.

    That of its only work, finished; or ``image`` with the changes of its regions pasted in, and
    everything else as it was.
    """
    if works[0].region is None:
        return finish(outputs[0], works[0], fit, restore, dtype)
    regions, changes = [], []
    for work, output in zip(works, outputs, strict=True):
        result = finish(output, work, fit, restore, None)
        assert work.region is not None
        assert isinstance(result, Tensor)
        assert isinstance(work.whole, Tensor)
        regions.append(work.region)
        changes.append(result - work.whole)
    onto: Source
    if isinstance(image, Tensor):
        onto = image.clone()
    else:
        assert dtype is not None
        kept = resized_pixels(image, size_of(image), dtype)
        onto = kept.repeat(3, axis=2) if kept.shape[2] == 1 else kept.copy()
    paste(onto, image, regions, changes)
    return onto


def by_padded_size(works: Sequence[Work]) -> list[list[int]]:
    """Return the indices of works that may share a batch, those of one padded size together."""
    groups: dict[Size, list[int]] = {}
    for index, work in enumerate(works):
        groups.setdefault(work.frame.padded, []).append(index)
    return [*groups.values()]


def resolve_work_size(work_size: WorkSize, fit: Fit) -> int | None:
    """Return the short side to reduce to, at least 1, or None for none; raises UsageError."""
    if work_size == "native":
        return None
    if work_size != "trained":
        if work_size < 1:
            raise UsageError(
                "no picture can be reduced to this",
                where=f"work size {work_size}",
                expected="native, trained or a number of pixels from 1",
                remedy="choose one of these",
            )
        return work_size
    if fit.trained_size is None:
        raise UsageError(
            "the family does not say which size it was trained at",
            where="--work-size trained",
            expected="native or a number of pixels",
            remedy="choose one of these",
        )
    return fit.trained_size


def begin(image: Source, fit: Fit, short_side: int | None, restore_size: bool) -> Work:
    """Reduce a picture to ``short_side`` (never enlarge it) and say how it is padded to ``fit``.

    Padding surrounds the picture by reflection, repeated as often as it takes; a side of one pixel
    repeats that pixel. A family with an exact size gets the picture resized to it.
    """
    size = size_of(image)
    reduced = reduced_size(size, short_side)
    seen = fit.exact_size or reduced
    source = image if seen == size else _resized(image, seen, fit.channels_in)
    place = Frame(seen, seen, (0, 0)) if fit.exact_size else frame(seen, fit)
    return Work(image, source, place, size if restore_size else reduced)


def reduce(image: Tensor, short_side: int | None) -> Tensor:
    """Resize (C, H, W) so that its short side is ``short_side``; smaller ones stay as they are."""
    size = reduced_size(size_of(image), short_side)
    return image if size == size_of(image) else _resized(image, size, image.shape[0])


def reduced_size(size: Size, short_side: int | None) -> Size:
    """Return the size whose short side is ``short_side``, or ``size`` where that is smaller."""
    if short_side is None or min(size) <= short_side:
        return size
    factor = short_side / min(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def translate_works(
    works: Sequence[Work],
    run: Callable[[Tensor], Tensor],
    fit: Fit,
    tile: int | None,
    batch_size: int,
    dtypes: Sequence[np.dtype[Any] | None],
) -> list[Source]:
    """Translate pictures whose windows are of one size; returns what ``finish`` takes.

    Only one batch of windows is float32 at a time where a picture is neither resized nor asked for
    as float32 (``dtypes`` None).
    """
    side = tile if fit.tiles and fit.exact_size is None else None
    canvases = [
        Canvas(work.frame, fit, None if work.resized else dtype)
        for work, dtype in zip(works, dtypes, strict=True)
    ]
    windows = (
        (work, canvas, window)
        for work, canvas in zip(works, canvases, strict=True)
        for window in work.frame.windows(side, fit)
    )
    for batch in _batched(windows, batch_size):
        images = [
            cut(work.source, work.frame, window, fit.channels_in) for work, _, window in batch
        ]
        outputs = run(torch.stack(images))
        for (_, canvas, window), output in zip(batch, outputs, strict=True):
            canvas.put(window, output)
    return [canvas.values for canvas in canvases]


def finish(
    output: Source, work: Work, fit: Fit, restore: Restore, dtype: np.dtype[Any] | None
) -> Source:
    """Return the result in the size it shall have, as pixels of ``dtype``, or float32 for None.

    A picture that was reduced comes back to its own size: with ``restore`` "detail", by adding the
    enlarged difference that translation made to the whole picture, so that what was not changed
    stays as sharp as it was; otherwise, and where input and output cannot be subtracted (other
    channels, another scale, an exact size), by enlarging the result.
    """
    if not work.resized:
        return output
    target = work.target[0] * fit.scale, work.target[1] * fit.scale
    keep = restore == "detail" and adds_detail(work, fit)
    assert isinstance(output, Tensor)
    assert isinstance(work.source, Tensor)
    changed = output - work.source if keep else output
    whole = _rows(work.whole, fit.channels_in)

    def made() -> Iterator[tuple[int, Tensor]]:
        for start, rows in strips(_rows(changed, fit.channels_out), size_of(changed), target):
            under = whole(start, start + rows.shape[1]) if keep else 0
            yield start, (rows + under).clamp(-1, 1)

    return _assembled(made(), target, fit.channels_out, dtype)


def adds_detail(work: Work, fit: Fit) -> bool:
    """Whether the result of a picture can be laid over the picture, pixel for pixel."""
    same = fit.channels_in == fit.channels_out and fit.scale == 1 and fit.exact_size is None
    return same and work.resized and work.target == size_of(work.whole)


def resized_pixels(
    pixels: Pixels, size: Size, dtype: np.dtype[Any], kind: Filter = "bicubic"
) -> Pixels:
    """Return pixels in another size and type of number, a strip in float32 at a time."""
    if size_of(pixels) == size and pixels.dtype == dtype:
        return pixels
    num_channels = pixels.shape[2]
    made = strips(_rows(pixels, num_channels), size_of(pixels), size, kind)
    result = _assembled(((at, rows.clamp(-1, 1)) for at, rows in made), size, num_channels, dtype)
    assert not isinstance(result, Tensor)
    return result


def result_bytes(work: Work, dtype: np.dtype[Any] | None, fit: Fit) -> int:
    """Return how much memory the result of a picture takes, what ``finish`` makes of it included.

    It is float32 where it has to be resized, and for None.
    """
    itemsize = 4 if dtype is None else dtype.itemsize
    seen, finished = (
        size[0] * size[1] * fit.scale**2 * fit.channels_out
        for size in (work.frame.size, work.target)
    )
    return (seen * 4 if work.resized else 0) + finished * itemsize


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation failed, on whichever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    phrases = (
        *("can't allocate memory", "not enough memory", "out of memory", "failed to allocate"),
        "could not create a primitive",  # oneDNN, where it has no room for its workspace
        "alloc_failed",  # of cuBLAS and cuDNN
    )
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in phrases)


def _resized(image: Source, size: Size, num_channels: int) -> Tensor:
    made = strips(_rows(image, num_channels), size_of(image), size)
    result = _assembled(((at, rows.clamp(-1, 1)) for at, rows in made), size, num_channels, None)
    assert isinstance(result, Tensor)
    return result


def _rows(image: Source, num_channels: int) -> Callable[[int, int], Tensor]:
    if isinstance(image, Tensor):
        return lambda start, stop: image[:, start:stop]
    return lambda start, stop: to_tensor(image[start:stop], num_channels)


def _assembled(
    made: Iterable[tuple[int, Tensor]], size: Size, num_channels: int, dtype: np.dtype[Any] | None
) -> Source:
    if dtype is None:
        whole = torch.empty(num_channels, *size)
        for start, rows in made:
            whole[:, start : start + rows.shape[1]] = rows
        return whole
    pixels = np.empty((*size, num_channels), dtype)
    for start, rows in made:
        pixels[start : start + rows.shape[1]] = from_tensor(rows, dtype)
    return pixels


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
