"""Averages of the exported modules' weights: what is previewed, shipped and kept."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from i2i.model_file import exported_state
from i2i.translator import Translator


class Averages:
    """An exponential moving average of the exported parameters, by name; buffers are copied.

    The half-life is counted in images, so a different batch size keeps the horizon. Without one
    the average is the newest weights.
    """

    def __init__(self, translator: Translator, half_life: int | None) -> None:
        self._translator = translator
        self._half_life = half_life
        self.tensors = {
            name: tensor.detach().clone() for name, tensor in exported_state(translator).items()
        }
        self._parameters = {name for name, _ in translator.named_parameters()}

    @torch.no_grad()
    def update(self, num_images: int) -> None:
        """Take in the weights after a step over ``num_images``."""
        newest = exported_state(self._translator)
        share = 1.0 if self._half_life is None else 1 - 0.5 ** (num_images / self._half_life)
        names = [name for name in newest if name in self._parameters]
        torch._foreach_lerp_(
            [self.tensors[name] for name in names], [newest[name] for name in names], share
        )
        for name in newest.keys() - self._parameters:
            self.tensors[name].copy_(newest[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the modules, and the newest weights back afterwards."""
        newest = {n: t.detach().clone() for n, t in exported_state(self._translator).items()}
        self._copy(self.tensors)
        try:
            yield
        finally:
            self._copy(newest)

    def adopt(self) -> None:
        """Put the averages into the modules for good, as a stage's end does."""
        self._copy(self.tensors)

    @torch.no_grad()
    def _copy(self, tensors: Mapping[str, Tensor]) -> None:
        for name, target in exported_state(self._translator).items():
            target.copy_(tensors[name])
