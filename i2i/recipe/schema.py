"""The frozen tables of a recipe; sizes in pixels, lengths in images."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from i2i.counts import Images as Images  # re-exported: recipes are written in it


class FrozenDict(dict[str, Any]):
    """A dictionary that cannot be changed, but pickled: recipes travel to loader workers."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a recipe is frozen")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)


Entry = TypeVar("Entry")
Table = Annotated[Mapping[str, Entry], AfterValidator(FrozenDict)]
"""A table whose keys the recipe's author chooses."""


class Frozen(BaseModel):
    """A frozen table of a recipe that refuses keys it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


class Anything(BaseModel):
    """A table whose keys a family or a layout decides."""

    model_config = ConfigDict(frozen=True, extra="allow")


class HostTransform(BaseModel):
    """One albumentations transform of the loader, with its arguments beside its name."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    transform: str = Field(description="The albumentations class, such as RandomCrop.")


class DeviceTransform(BaseModel):
    """One kornia transform of a batch, with its arguments beside its name."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    transform: str = Field(description="The class of kornia.augmentation, such as RandomAffine.")
    roles: tuple[str, ...] | None = Field(
        None, min_length=1, description="The image roles that it is for; all if unset."
    )


class Augment(Frozen):
    """What is done to training pictures."""

    host: tuple[HostTransform, ...] = Field((), description="In the loader, in this order.")
    device: tuple[DeviceTransform, ...] = Field(
        (), description="Where the networks are, on whole batches, in this order."
    )


class Data(Frozen):
    """Where training pictures come from."""

    layout: str = Field("unpaired", description="How folders become samples.")
    root: str | None = Field(None, description="The data folder; 'i2i train --data' sets it.")
    options: BaseModel = Field(default_factory=Anything, description="The layout's own options.")


Decay = Annotated[float, Field(ge=0, lt=1)]


class Player(Frozen):
    """The optimizer of one player and its schedule, counted in images."""

    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="Its kind.")
    learning_rate: float = Field(2e-4, gt=0, description="The rate at the start.")
    betas: tuple[Decay, Decay] = Field((0.5, 0.999), description="Adam's two decay rates.")
    momentum: float = Field(0.0, ge=0, lt=1, description="For sgd.")
    weight_decay: float = Field(0.0, ge=0, description="As the optimizer defines it.")
    warmup: int = Field(0, ge=0, description="Images over which the rate rises from zero.")
    decay_from: float = Field(
        1.0, ge=0, le=1, description="The part of the stage after which the rate falls linearly."
    )
    final: float = Field(0.0, ge=0, le=1, description="The last rate as a part of the first.")
    clip: float | None = Field(None, gt=0, description="The largest norm of a gradient.")


_USERS = {"betas": ("adam", "adamw"), "momentum": ("sgd",)}
"""The keys that not every optimizer knows."""


def _check_used(player: Player) -> Player:
    """Refuse what the optimizer would ignore; a default may stand, for a run's recipe has all."""
    for key, users in _USERS.items():
        is_default = getattr(player, key) == Player.model_fields[key].default
        if player.optimizer not in users and not is_default:
            raise ValueError(
                f"no {key} beside {player.optimizer}: {key} is for {' and '.join(users)}"
            )
    return player


class Stage(Frozen):
    """One training stage."""

    images: Images = Field(description='Its length, such as "400k".')
    batch_size: int = Field(1, gt=0, description="Samples a step.")
    micro_batches: int = Field(1, gt=0, description="Parts a batch is computed in.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="Of the networks.")
    compile: bool = Field(False, description="Compile the networks; the numbers move slightly.")
    average_half_life: Images | None = Field(
        None, description="Images after which a weight counts half in the average; none without."
    )
    players: Table[Annotated[Player, AfterValidator(_check_used)]] = Field(
        {}, description="An optimizer a player, by its name."
    )

    @field_validator("micro_batches")
    @classmethod
    def _check_parts(cls, micro_batches: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size", micro_batches)  # absent where it is at fault
        if micro_batches > batch_size:
            raise ValueError(f"at most batch_size, which is {batch_size}")
        return micro_batches


class Validate(Frozen):
    """What is looked at while training."""

    every: Images = Field(1000, description="Images between two previews.")
    pictures: int = Field(
        6,
        ge=0,
        description="Pictures in a preview; 0 shows none, and models and snapshots are still "
        "written.",
    )
    role: str | None = Field(None, description="The image role to translate; the first if unset.")
    snapshots: bool = Field(False, description="Keep the averaged model of each preview.")


class Run(Frozen):
    """How a run behaves."""

    seed: int = Field(0, ge=0, lt=2**63, description="All randomness follows from it.")
    log_every: int = Field(50, gt=0, description="Steps between two lines of the log.")
    checkpoint_every: Images = Field(1000, description="Images between two checkpoints.")


class Translate(Frozen):
    """How a folder is translated unless the command says otherwise."""

    work_size: Annotated[int, Field(gt=0)] | Literal["native", "trained"] = Field(
        "native", description="Reduce the short side to this many pixels first."
    )
    restore_size: bool = Field(True, description="Bring the result back to the picture's size.")
    restore: Literal["resize", "detail"] = Field(
        "resize",
        description="How: enlarge the result, or add the enlarged change to the picture, for "
        "families whose outputs lie over their inputs.",
    )
    background: Literal["keep", "white"] = Field(
        "keep",
        description="Of transparent pictures: keep translates what is seen, and the result is as "
        "transparent; white lays the picture on white first, as drawings want it.",
    )


class Weights(Frozen):
    """The model that comes with the recipe: a file beside it, or one to fetch."""

    file: str | None = Field(None, description="A model file, relative to the recipe.")
    url: str | None = Field(
        None, pattern=r"^https?://\S+$", description="Where to fetch it, instead of a file."
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="What is fetched must have it; without, the model is unverified.",
    )
    bytes: int | None = Field(None, gt=0, description="The length of what is fetched.")
    licence: str = Field("", description="The terms of what is fetched.")
    importer: str | None = Field(
        None, description="The importer that reads it, where another program wrote it."
    )

    @model_validator(mode="after")
    def _check_source(self) -> "Weights":
        if (self.file is None) == (self.url is None):
            raise ValueError("either file or url")
        given = [key for key in ("sha256", "bytes", "licence", "importer") if getattr(self, key)]
        if self.url is None and given:
            raise ValueError(f"no {given[0]} beside file: the file says it itself")
        return self


class Recipe(Frozen):
    """Everything that a run or a translation needs, validated."""

    family: str = Field(description="The translation family, offered by a plugin.")
    summary: str = Field(description="One line for 'i2i recipes'.")
    model: BaseModel = Field(default_factory=Anything, description="The family's options.")
    request: BaseModel = Field(
        default_factory=Anything, description="The family's request, as translation starts from it."
    )
    data: Data = Field(default_factory=Data, description="The training pictures.")
    augment: Augment = Field(Augment(), description="What is done to them.")
    stages: Table[Stage] = Field({}, description="The training stages by name.")
    validate_: Validate = Field(Validate(), alias="validate", description="What is looked at.")
    run: Run = Field(Run(), description="Seed, log and checkpoints.")
    translate: Translate = Field(Translate(), description="How pictures are translated.")
    weights: Weights | None = Field(None, description="The model that comes with the recipe.")
    licence: str = Field("", description="The terms for models trained by this recipe.")

    def to_toml(self) -> str:
        """Return the recipe as TOML in which every key is spelled out."""
        plain = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return tomli_w.dumps(plain)
