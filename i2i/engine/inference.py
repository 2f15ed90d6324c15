"""Translate pictures of any size: reduce, pad to what the family takes, run, undo both.

No picture's result depends on those beside it: pictures share a batch only when they are padded to
the same size, and everything else is done to each alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel
from torch import Tensor
from torch.nn.functional import interpolate

from i2i.errors import PluginError, UsageError
from i2i.translator import Translator
from i2i.types import Fit

WorkSize = int | Literal["native", "trained"]
Restore = Literal["detail", "resize"]
Precision = Literal["float32", "bfloat16"]
Size = tuple[int, int]  # height and width in pixels


@dataclass(frozen=True)
class Prepared:
    """One picture on its way: what the family sees, and what is needed to undo it."""

    padded: Tensor  # (C, H, W), sizes as the family's fit asks
    padding: Size  # rows above and columns left of the picture in ``padded``
    work: Tensor  # (C, H, W), reduced and not yet padded
    size: Size  # of the whole picture

    @property
    def reduced(self) -> bool:
        """Whether the picture is larger than what is translated."""
        return self.size != _size(self.work)


def translate_batch(
    translator: Translator,
    images: Sequence[Tensor],
    request: BaseModel,
    *,
    work_size: WorkSize = "native",
    restore_size: bool = True,
    restore: Restore = "resize",
    batch_size: int = 8,
    device: torch.device | None = None,
    precision: Precision = "float32",
) -> list[Tensor]:
    """Translate (C, H, W) float32 tensors in [-1, 1] of any sizes; returns them on the CPU.

    ``work_size`` is the short side, in pixels, that larger pictures are reduced to first, and
    ``restore_size`` brings them back; ``restore`` says how, see ``finish``. The translator must be
    on ``device`` already (the CPU if None). Raises PluginError for a result of the wrong shape and
    UsageError for a work size that the family does not know.
    """
    fit = translator.fit
    short_side = resolve_work_size(work_size, fit)
    prepared = [prepare(image, fit, short_side) for image in images]
    groups: dict[Size, list[int]] = {}
    for index, each in enumerate(prepared):
        groups.setdefault(_size(each.padded), []).append(index)
    results: dict[int, Tensor] = {}
    for indices in groups.values():
        for start in range(0, len(indices), batch_size):
            chosen = indices[start : start + batch_size]
            batch = torch.stack([prepared[index].padded for index in chosen])
            outputs = forward(translator, batch, request, device=device, precision=precision)
            for index, output in zip(chosen, outputs, strict=True):
                image = images[index] if restore == "detail" else None
                results[index] = finish(output, prepared[index], fit, restore_size, image)
    return [results[index] for index in range(len(images))]


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


def prepare(image: Tensor, fit: Fit, short_side: int | None) -> Prepared:
    """Reduce a (C, H, W) picture to ``short_side`` (never enlarge it) and pad it to ``fit``.

    Padding surrounds the picture by reflection, repeated as often as it takes; a side of one pixel
    repeats that pixel. A family with an exact size gets the picture resized to it.
    """
    size = _size(image)
    work = reduce(image, short_side)
    if fit.exact_size is not None:
        return Prepared(resize(work, fit.exact_size), (0, 0), work, size)
    height, width = (_padded_length(length, fit) for length in _size(work))
    top, left = (height - work.shape[1]) // 2, (width - work.shape[2]) // 2
    return Prepared(_reflect(work, top, height, left, width), (top, left), work, size)


def reduce(image: Tensor, short_side: int | None) -> Tensor:
    """Resize (C, H, W) so that its short side is ``short_side``; smaller ones stay as they are."""
    height, width = _size(image)
    if short_side is None or min(height, width) <= short_side:
        return image
    factor = short_side / min(height, width)
    return resize(image, (max(1, round(height * factor)), max(1, round(width * factor))))


def forward(
    translator: Translator,
    batch: Tensor,
    request: BaseModel,
    *,
    device: torch.device | None = None,
    precision: Precision = "float32",
) -> Tensor:
    """Run the family on (N, C, H, W), in evaluation mode and without gradients.

    Returns float32 in [-1, 1] on the CPU. Raises PluginError for a result of the wrong shape.
    """
    device = device or torch.device("cpu")
    lowered = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with _evaluating(translator), torch.no_grad(), lowered:
        output = translator.translate(batch.to(device), request)
    fit = translator.fit
    height, width = batch.shape[2] * fit.scale, batch.shape[3] * fit.scale
    expected = (len(batch), fit.channels_out, height, width)
    if tuple(output.shape) != expected:
        raise PluginError(
            f"translate returned {tuple(output.shape)} for {tuple(batch.shape)}",
            where=f"family {translator.name!r}",
            expected=f"{expected}, as its fit says",
            remedy="correct the family's translate or its fit",
        )
    return output.float().cpu().clamp(-1, 1)


def finish(
    output: Tensor, prepared: Prepared, fit: Fit, restore_size: bool, image: Tensor | None
) -> Tensor:
    """Undo ``prepare`` on one (C, H, W) result.

    With ``restore_size``, a picture that was reduced comes back to its own size: given the whole
    input as ``image``, by adding the enlarged difference that translation made to it, so that what
    was not changed stays as sharp as it was; otherwise, and where input and output cannot be
    subtracted (other channels, another scale, an exact size), by enlarging the result.
    """
    work_size = _size(prepared.work)
    if fit.exact_size is not None:
        output = resize(output, _scaled(work_size, fit))
    else:
        top, left = _scaled(prepared.padding, fit)
        height, width = _scaled(work_size, fit)
        output = output[:, top : top + height, left : left + width]
    if not (restore_size and prepared.reduced):
        return output
    if image is not None and keeps_detail(fit):
        return (image + _resample(output - prepared.work, prepared.size)).clamp(-1, 1)
    return resize(output, _scaled(prepared.size, fit))


def keeps_detail(fit: Fit) -> bool:
    """Whether a family's results lie pixel for pixel over its inputs."""
    return fit.channels_in == fit.channels_out and fit.scale == 1 and fit.exact_size is None


def resize(image: Tensor, size: Size) -> Tensor:
    """Resize (C, H, W) in [-1, 1], bicubic with antialiasing, and keep it in [-1, 1]."""
    return image if _size(image) == size else _resample(image, size).clamp(-1, 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation failed, on whichever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    phrases = ("can't allocate memory", "not enough memory", "out of memory", "failed to allocate")
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in phrases)


def _resample(image: Tensor, size: Size) -> Tensor:
    return interpolate(image[None], size, mode="bicubic", antialias=True)[0]


def _size(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]


def _scaled(size: Size, fit: Fit) -> Size:
    return size[0] * fit.scale, size[1] * fit.scale


def _padded_length(length: int, fit: Fit) -> int:
    at_least = max(length, fit.smallest)
    return -(-at_least // fit.multiple) * fit.multiple


def _reflect(image: Tensor, top: int, height: int, left: int, width: int) -> Tensor:
    if _size(image) == (height, width):
        return image
    rows = _mirrored(image.shape[1], top, height)
    columns = _mirrored(image.shape[2], left, width)
    return image[:, rows[:, None], columns]


def _mirrored(length: int, before: int, total: int) -> Tensor:
    """Return which index each of ``total`` places shows when a line is mirrored at both ends."""
    if length == 1:
        return torch.zeros(total, dtype=torch.long)
    period = 2 * (length - 1)
    place = (torch.arange(total) - before).remainder(period)
    return torch.minimum(place, period - place)


@contextmanager
def _evaluating(translator: Translator) -> Iterator[None]:
    """Put every module in evaluation mode, and each back in its own afterwards."""
    training = [module for module in translator.modules() if module.training]
    translator.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
