"""The values of the steps since the last line of the log, averaged when the line is due."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from i2i.errors import NonFiniteLoss


@dataclass
class Played:
    """The values of one step, averaged over its micro-batches, still on the device."""

    terms: dict[str, Tensor] = field(default_factory=dict)
    measured: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """Means over the steps of one line of the log; a term counts on the steps that had it."""

    terms: Mapping[str, float]
    measured: Mapping[str, float]


class Window:
    """Sums that the checkpoint holds, so that a resumed run writes the line it would have."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, list[float]]] = {"terms": {}, "measured": {}}
        self._pending: list[tuple[str, int, Played]] = []

    def add(self, stage: str, step: int, played: Played) -> None:
        """Take in one step's values, left on their device until they are needed."""
        self._pending.append((stage, step, played))

    def settle(self) -> None:
        """Read what is pending; raises NonFiniteLoss for the first value that is not finite."""
        for stage, step, played in self._pending:
            for kind, values in (("terms", played.terms), ("measured", played.measured)):
                numbers = torch.stack([*values.values()]).tolist() if values else []
                for name, number in zip(values, numbers, strict=True):
                    if number - number != 0:
                        raise non_finite(name, number, stage, step)
                    entry = self._sums[kind].setdefault(name, [0.0, 0])
                    entry[0] += number
                    entry[1] += 1
        self._pending.clear()

    def line(self) -> Line:
        """Return the means so far and begin again."""
        self.settle()
        means = {
            kind: {name: total / count for name, (total, count) in sums.items()}
            for kind, sums in self._sums.items()
        }
        self._sums = {"terms": {}, "measured": {}}
        return Line(**means)

    def state(self) -> dict[str, Any]:
        """Return the sums of the unfinished line."""
        self.settle()
        return {kind: dict(sums) for kind, sums in self._sums.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over the sums of an unfinished line."""
        self._sums = {kind: {n: [*v] for n, v in sums.items()} for kind, sums in state.items()}


def non_finite(name: str, number: float, stage: str, step: int) -> NonFiniteLoss:
    """Return the error for a value of a step that is infinite or not-a-number."""
    return NonFiniteLoss(
        f"{name!r} became {number}",
        where=f"stage {stage!r}, step {step}",
        expected="finite values",
        remedy="edit the run's recipe.toml (a lower learning_rate, a clip, float32) and resume",
    )
