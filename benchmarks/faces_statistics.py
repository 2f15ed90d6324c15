"""What is said of judged faces: thresholds between people, means by target and by subgroup."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i2i_face_aging.ages import AGE_GROUPS, group_of

QUANTILE = 0.95  # of similarities between different people
TOLERANCE = 10.0  # years around what real faces of a group look like
GENDERS = ("male", "female")  # by the codes of the data (arXiv:1702.08423)
RACES = ("White", "Black", "Asian", "Indian", "other")

Pixels = NDArray[np.uint8]  # (H, W, 3)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Face:
    """A test face, and what its file's name says of it; None for what it does not."""

    name: str
    pixels: Pixels
    age: float  # years
    gender: int | None
    race: int | None

    @property
    def group(self) -> int:
        """The place of its age in ``AGE_GROUPS``."""
        return group_of(self.age)


@dataclass(frozen=True)
class Originals:
    """What the judges say of the test faces as they are."""

    faces: Sequence[Face]
    ages: Values  # (N,) estimated
    descriptors: Values  # (N, 128)

    @property
    def labels(self) -> Values:
        """The ages that the names say, (N,)."""
        return np.array([face.age for face in self.faces])

    def thresholds(self) -> tuple[float, float]:
        """Return ``QUANTILE`` of similarities between people: any two, and any two alike.

        Alike are two of the same gender code and age group.
        """
        similarities = 1 - distances(self.descriptors, self.descriptors)
        kinds = np.array([_kind(face) for face in self.faces])
        alike = kinds[:, None] == kinds[None]
        pairs = np.triu(np.ones_like(alike), 1)
        return quantile(similarities[pairs], QUANTILE), quantile(
            similarities[pairs & alike], QUANTILE
        )

    def group_means(self) -> list[float]:
        """Return the mean estimated age of the real faces of each group; NaN where none are."""
        groups = np.array([face.group for face in self.faces])
        return [mean(self.ages[groups == group]) for group in range(len(AGE_GROUPS))]


@dataclass(frozen=True)
class Results:
    """What the judges say of the faces that one model made, by target and face."""

    ages: Values  # (6, N) estimated
    similarities: Values  # (6, N) to the own original
    nearest: NDArray[np.bool_]  # (6, N): no other original is as near
    about: Mapping[str, Any] = field(default_factory=dict)  # more to be said in its row


def distances(one: Values, other: Values) -> Values:
    """Return the Euclidean distances of (M, D) and (N, D), as (M, N)."""
    squared = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    found: Values = np.sqrt(np.maximum(squared, 0))
    return found


def compared(descriptors: Values, originals: Values) -> tuple[Values, NDArray[np.bool_]]:
    """Return each result's similarity to its own original, and whether none other is as near."""
    apart = distances(descriptors, originals)
    own = np.linalg.norm(descriptors - originals, axis=1)
    np.fill_diagonal(apart, np.inf)
    return 1 - own, own < apart.min(1)


def summary(results: Results, originals: Originals) -> dict[str, Any]:
    """Return what a model reaches over all faces: ages, identity and the measure that decides."""
    ages, alike = results.ages, results.similarities
    any_two, like_two = originals.thresholds()
    means = ages.mean(1)
    steps = np.diff(ages, axis=0)
    expected = np.array(originals.group_means())
    near = np.abs(ages - expected[:, None]) <= TOLERANCE  # False where no real face is
    return {
        "reached": mean(near & (alike > like_two)),
        "age": by_target(means),
        "age_change": by_target((ages - originals.ages).mean(1)),
        "age_near_real": by_target(near.mean(1)),
        "strictly_increasing": bool((np.diff(means) > 0).all()),
        "span": float(means[-1] - means[0]),
        "smallest_step": float(steps.mean(1).min()),
        "smallest_step_in_errors": min(in_errors(step) for step in steps),
        "identity_mean": mean(alike),
        "identity": by_target(alike.mean(1)),
        "identity_5_percent": by_target([quantile(each, 0.05) for each in alike]),
        "identity_above_any_two": by_target((alike > any_two).mean(1)),
        "identity_above_two_alike": by_target((alike > like_two).mean(1)),
        "identity_nearest": by_target(results.nearest.mean(1)),
    }


def subgroups(results: Results, originals: Originals) -> list[dict[str, Any]]:
    """Return the means of each part of the faces: gender and race codes, and source age groups."""
    faces = originals.faces
    parts: list[tuple[str, list[bool]]] = []
    for code, name in (*enumerate(GENDERS), (None, "not said")):
        parts.append((f"gender {name}", [face.gender == code for face in faces]))
    for code, name in (*enumerate(RACES), (None, "not said")):
        parts.append((f"race {name}", [face.race == code for face in faces]))
    for group, name in enumerate(AGE_GROUPS):
        parts.append((f"aged {name}", [face.group == group for face in faces]))
    return [
        _part(name, np.array(chosen), results, originals) for name, chosen in parts if any(chosen)
    ]


def described(originals: Originals) -> dict[str, Any]:
    """Return what the judges say of real faces: their own errors, and the thresholds."""
    labels, ages = originals.labels, originals.ages
    any_two, like_two = originals.thresholds()
    errors = ages - labels
    means = originals.group_means()
    groups = [face.group for face in originals.faces]
    near = np.abs(ages - np.array(means)[groups]) <= TOLERANCE
    return {
        "age_correlation": float(np.corrcoef(ages, labels)[0, 1]),
        "age_error": mean(np.abs(errors)),
        "age_bias": mean(errors),
        "age": by_target(means),
        "age_near_real": mean(near),
        "threshold_any_two": any_two,
        "threshold_two_alike": like_two,
    }


def fidelity(results: Sequence[Pixels], originals: Sequence[Pixels]) -> dict[str, float]:
    """Return the mean L1 (of the full range, 0 to 1) and PSNR in dB over pictures."""
    apart = [
        (one.astype(np.float64) - other) / 255
        for one, other in zip(results, originals, strict=True)
    ]
    with np.errstate(divide="ignore"):  # an exact picture: infinite
        psnr = [-10 * np.log10((each**2).mean()) for each in apart]
    return {"l1": mean([np.abs(each).mean() for each in apart]), "psnr": mean(psnr)}


def by_target(values: Sequence[float] | Values) -> dict[str, float]:
    """Return six values by the names of the age groups."""
    return {name: float(value) for name, value in zip(AGE_GROUPS, values, strict=True)}


def mean(values: Any) -> float:
    """Return the mean; NaN of nothing."""
    return float(np.mean(values)) if np.size(values) else float("nan")


def quantile(values: Values, share: float) -> float:
    """Return the value that a share of values is at or below, interpolated; NaN of nothing."""
    return float(np.quantile(values, share)) if values.size else float("nan")


def in_errors(values: Values) -> float:
    """Return the mean in standard errors: infinite where all values are one, 0 where all are 0."""
    average = values.mean()
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    if error > 0:
        return float(average / error)
    return float(np.copysign(np.inf, average)) if average else 0.0


def _part(
    name: str, chosen: NDArray[np.bool_], results: Results, originals: Originals
) -> dict[str, Any]:
    """Return the means over some faces; their own threshold says how alike such people are."""
    faces = [face for face, taken in zip(originals.faces, chosen, strict=True) if taken]
    these = Originals(faces, originals.ages[chosen], originals.descriptors[chosen])
    similarities = results.similarities[:, chosen]
    _, like_two = originals.thresholds()
    _, own = these.thresholds()
    return {
        "name": name,
        "num_faces": len(faces),
        "label": mean(these.labels),
        "original": mean(these.ages),
        "age": by_target(results.ages[:, chosen].mean(1)),
        "span": mean(results.ages[-1, chosen] - results.ages[0, chosen]),
        "identity_mean": mean(similarities),
        "identity_above_two_alike": mean(similarities > like_two),
        "threshold_own": own,
        "identity_above_own": mean(similarities > own) if np.isfinite(own) else float("nan"),
    }


def _kind(face: Face) -> int:
    gender = len(GENDERS) if face.gender is None else face.gender
    return gender * len(AGE_GROUPS) + face.group
