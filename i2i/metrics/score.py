"""A value with all that it takes to know what it may be compared with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from i2i.errors import UsageError
from i2i.metrics.metric import Better, Metric


@dataclass(frozen=True)
class Score:
    """What a model reached: an entry of a model file's ``metrics``, as ``to_dict`` returns it."""

    name: str
    value: float
    protocol: str
    data: str  # what the pictures are called, such as "Set5 (test)"
    pictures: str  # sha256 of their pixels: which they are, whatever they are called
    num_pictures: int
    better: Better
    unit: str = ""
    standard_error: float | None = None  # of the mean; None where pictures have no values

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON may hold it: numbers that are not finite as text, "inf" or "nan"."""
        entry: dict[str, Any] = plain(asdict(self))
        return entry

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> "Score":
        """Return what ``to_dict`` was asked of."""
        error = entry.get("standard_error")
        return cls(
            **{key: value for key, value in entry.items() if key not in _NUMBERS},
            value=float(entry["value"]),
            standard_error=None if error is None else float(error),
        )


_NUMBERS = ("value", "standard_error")


def score_of(
    metric: Metric, scale: int, data: str, pictures: str, measured: Sequence[Any]
) -> Score:
    """Return a metric's score from what it measured of each picture, at least one."""
    return Score(
        metric.name,
        metric.combine(measured),
        metric.protocol(scale),
        data,
        pictures,
        len(measured),
        metric.better,
        metric.unit,
        _standard_error(measured) if metric.per_picture else None,
    )


def better_than(score: Score, other: Score) -> bool:
    """Whether ``score`` is better than ``other``; equal ones are not.

    Raises UsageError where the two were not measured in the same way on the same pictures: such
    numbers say nothing of each other.
    """
    for what, one, two in (
        ("metrics", score.name, other.name),
        ("protocols", score.protocol, other.protocol),
        ("pictures", score.pictures, other.pictures),
    ):
        if one != two:
            raise UsageError(
                f"the {what} differ: {one} and {two}",
                where=f"scores on {score.data} and {other.data}",
                expected="one metric, measured in one way on the same pictures",
                remedy="measure both with the same 'i2i evaluate'",
            )
    if score.better == "higher":
        return score.value > other.value
    return score.value < other.value


def plain(value: Any) -> Any:
    """Return a value as JSON may hold it: "inf", "-inf" and "nan" for what is no finite number."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _standard_error(values: Sequence[float]) -> float | None:
    """Return the standard error of the mean; None for one picture, or an infinite value."""
    count = len(values)
    if count < 2 or not all(map(math.isfinite, values)):
        return None
    mean = math.fsum(values) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)
