"""Run a family as it is: in evaluation mode, without gradients, its result checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import BaseModel
from torch import Tensor

from i2i.errors import ImageError, PluginError
from i2i.translator import Translator

Precision = Literal["float32", "bfloat16"]


def forward(
    translator: Translator,
    batch: Tensor,
    request: BaseModel,
    *,
    device: torch.device | None = None,
    precision: Precision = "float32",
) -> Tensor:
    """Run the family on (N, C, H, W), in evaluation mode and without gradients.

    Returns float32 in [-1, 1] on the CPU. Raises PluginError for a result of the wrong shape and
    ImageError for one that is not finite.
    """
    device = device or torch.device("cpu")
    lowered = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with evaluating(translator), torch.no_grad(), lowered:
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
    if not torch.isfinite(output).all():
        raise ImageError(
            "its result is not a number",
            where=f"family {translator.name!r}",
            expected="values between -1 and 1",
            remedy="try --precision float32, or another model",
        )
    return output.float().cpu().clamp(-1, 1)


@contextmanager
def evaluating(translator: Translator) -> Iterator[None]:
    """Put every module in evaluation mode, and each back in its own afterwards."""
    training = [module for module in translator.modules() if module.training]
    translator.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
