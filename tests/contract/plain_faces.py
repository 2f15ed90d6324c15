"""The networks that know of ages once more, as those of ``plain``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from i2i import Batch, Progress
from tests.contract.plain import Plain, Scales

SPANS = ((0, 19), (19, 30), (30, 40), (40, 50), (50, 60), (60, 81))
"""The years of each group, the last left out: as docs say, "0-18", "19-29" ... and "60+"."""

Weights = Mapping[str, Tensor]


def features(ages: Sequence[float]) -> Tensor:
    """Ages and their waves, float64, one number after another."""
    rows = []
    for age in ages:
        share = min(max(age, 0.0), 100.0) / 100
        waves = [math.pi * share * factor for factor in (1, 2, 4, 8)]
        rows.append([2 * share - 1, *map(math.sin, waves), *map(math.cos, waves)])
    return torch.tensor(rows, dtype=torch.float64)


def one_hot(ages: Sequence[float]) -> Tensor:
    """Which of ``SPANS`` an age is in; who is older is in the last."""
    starts = [start for start, _ in SPANS]
    rows = [[0.0] * len(SPANS) for _ in ages]
    for row, age in zip(rows, ages, strict=True):
        row[max(place for place, start in enumerate(starts) if age >= start)] = 1.0
    return torch.tensor(rows, dtype=torch.float64)


def targets_of(batch: Batch, now: Progress, share: float) -> list[float]:
    """The ages that faces shall become: a group, and an age of it; a share keeps its own."""
    targets = []
    for (group, place, coin), age in zip(
        now.uniform(batch, "target", 3).tolist(), batch.labels["age"].tolist(), strict=True
    ):
        start, end = SPANS[int(6 * group)]
        targets.append(age if coin < share else start + place * (end - start))
    return targets


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


@dataclass
class Conditioned(Plain):
    """Judges pictures under ``condition`` (N, D), which joins behind the first convolution."""

    condition: Tensor = field(default_factory=lambda: torch.zeros(0))

    def under(self, condition: Tensor | None) -> Plain:
        assert condition is not None
        return replace(self, condition=condition.double())

    def of(self, index: int) -> Plain:
        return replace(self, condition=self.condition[index : index + 1])

    def _joined(self, x: Tensor) -> Tensor:
        assert len(x) == len(self.condition)
        planes = [
            torch.stack([torch.full(x.shape[2:], float(value)) for value in row]).to(x)
            for row in self.condition
        ]
        return torch.cat([x, torch.stack(planes)], 1)

    def _next(self, name: str, x: Tensor, stride: int, padding: int) -> Tensor:
        bias = self.weights.get(f"{name}.bias")
        return F.conv2d(x, self.weights[f"{name}.weight"], bias, stride, padding)


class PlainAges(Conditioned):
    """Four halvings under ages, none normalised, and a 3x3 convolution."""

    def __call__(self, x: Tensor) -> Scales:
        outputs = [leaky(self._next("first", x, 2, 1))]
        x = self._joined(outputs[0])
        for place in range(3):
            x = leaky(self._next(f"others.{place}", x, 2, 1))
            outputs.append(x)
        return [[*outputs, self._next("last", x, 1, 1)]]


class PlainGroups(Conditioned):
    """DCGAN's, under groups; normalised over a picture where it ``is_still``, or over all."""

    def __call__(self, x: Tensor) -> Scales:
        outputs = [leaky(self._next("first", x, 2, 1))]
        x = self._joined(outputs[0])
        place = 0
        while f"others.{place}.weight" in self.weights:
            x = self._next(f"others.{place}", x, 2, 1)
            over = (2, 3) if self.is_still else (0, 2, 3)
            x = x - x.mean(over, keepdim=True)
            x = x / (x.square().mean(over, keepdim=True) + 1e-5).sqrt()
            scale, offset = (self.weights[f"norms.{place}.{n}"] for n in ("weight", "bias"))
            x = leaky(x * scale[:, None, None] + offset[:, None, None])
            outputs.append(x)
            place += 1
        return [[*outputs, self._next("last", x, 1, 0)]]
