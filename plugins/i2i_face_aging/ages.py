"""Ages and age groups, and what may be asked of a family that changes them."""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from i2i.errors import UsageError

AgeGroup = Literal["0-18", "19-29", "30-39", "40-49", "50-59", "60+"]

AGE_GROUPS: tuple[AgeGroup, ...] = get_args(AgeGroup)
"""The six groups of arXiv:1702.01983, section 4.1."""

OLDEST = 100  # years; who is older counts as this
_STARTS = (0, 19, 30, 40, 50, 60)
_ENDS = (19, 30, 40, 50, 60, 81)  # a tenth of the faces that are 60 or older is beyond 80


def group_of(age: float) -> int:
    """Return the place in ``AGE_GROUPS`` of an age in years, 0 or more."""
    return bisect_right(_STARTS, age) - 1


def span_of(group: int) -> tuple[int, int]:
    """Return where a group begins and where it ends, in years, the end left out."""
    return _STARTS[group], _ENDS[group]


def middle_of(group: int) -> float:
    """Return the age in years that stands for a whole group."""
    start, end = span_of(group)
    return (start + end - 1) / 2


class AgeRequest(BaseModel):
    """What may be asked of a face: an age, or an age group; a group's middle stands for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    age: float | None = Field(None, ge=0, le=OLDEST, description="The age to become, in years.")
    age_group: AgeGroup | Literal["all"] | None = Field(
        None,
        description="The age group to become; all gives six files a face. Without it and an age: "
        "60+.",
    )
    source_age: float | None = Field(
        None, ge=0, le=OLDEST, description="The age of the face as it is; estimated if unset."
    )
    face: Literal["aligned", "detect"] = Field(
        "aligned",
        description="Pictures are faces cut out as the training's were, or photographs in which "
        "every face is to be found, translated and put back.",
    )

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if self.age is not None and self.age_group is not None:
            raise ValueError("age and age_group ask for the same: give one of them")
        return self

    @property
    def target(self) -> float:
        """The age to become, in years; raises UsageError where all groups are asked for."""
        if self.age is not None:
            return self.age
        if self.age_group == "all":
            raise UsageError(
                "the request stands for six ages",
                where="age_group=all",
                expected="one age for a translation",
                remedy="translate by each of its variants",
            )
        group = self.age_group
        return middle_of(len(AGE_GROUPS) - 1 if group is None else AGE_GROUPS.index(group))

    def variants(self) -> Mapping[str, Self]:
        """Return the requests that this one stands for, by name."""
        if self.age_group != "all":
            return {"": self}
        return {group: self.model_copy(update={"age_group": group}) for group in AGE_GROUPS}
