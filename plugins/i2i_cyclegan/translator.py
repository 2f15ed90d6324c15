"""CycleGAN: translation between two domains without pairs (arXiv:1703.10593)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from torch import Tensor, nn

from i2i.adversary import Adversary, GameOptions
from i2i.errors import RecipeError, UsageError
from i2i.losses import Form, l1
from i2i.nn import DiscriminatorOptions, PatchDiscriminator, smallest_side
from i2i.nn.resampling import Downsampling, Upsampling
from i2i.translator import Translator
from i2i.types import Batch, Fit, Inputs, Progress, Term, Update
from i2i_cyclegan.networks import Architecture, ResNetGenerator

_MOVED = {"discriminator_width": ("discriminator", "width"), "pool_size": ("game", "pool_size")}
"""Options of the first models, and where they are now."""


class CycleGANGame(GameOptions):
    """The published game: least squares, pools of 50, discriminators that learn half as fast."""

    form: Form = Field("least_squares", description="What the players minimise.")
    discriminator_weight: float = Field(
        0.5, gt=0, description="The weight of the discriminator's loss; penalties have their own."
    )
    pool_size: int = Field(
        50, ge=0, description="Older translations that the discriminator sees half of the time."
    )


class CycleGANOptions(BaseModel):
    """Architecture and loss weights; the defaults are the paper's for 256-pixel pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(64, ge=1, description="Channels after the generators' first convolution.")
    num_blocks: int = Field(
        9, ge=1, description="Residual blocks: 6 for 128-pixel pictures, 9 from 256 on."
    )
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (),
        description="Channels where they do not follow from width: after each halving, inside each "
        "block, after each doubling.",
    )
    separable: bool = Field(
        False, description="Make the blocks of depthwise and pointwise convolutions."
    )
    norm_affine: bool = Field(
        False, description="Give the generators' normalisations a scale and an offset a channel."
    )
    padding: Literal["reflect", "zero"] = Field(
        "reflect", description="What the generators see beyond a picture's edge."
    )
    directions: Literal["both", "a2b", "b2a"] = Field(
        "both", description="Which generators there are; training needs both."
    )
    downsampling: Downsampling = Field(
        "stride", description="Halve by striding, or without aliasing at four times the cost."
    )
    upsampling: Upsampling = Field(
        "transposed", description="Double by transposed convolutions, or free of checkerboards."
    )
    self_attention: bool = Field(
        False, description="Let the places of a picture at a quarter of its size see each other."
    )
    cycle_weight: float = Field(10.0, ge=0, description="The weight of the cycle terms.")
    identity_weight: float = Field(5.0, ge=0, description="The weight of the identity terms.")
    identity_every: int = Field(
        1, ge=1, description="Moves of the generators from one identity term to the next."
    )
    discriminator: DiscriminatorOptions = Field(
        DiscriminatorOptions(), description="What judges the translations to one domain."
    )
    game: CycleGANGame = Field(CycleGANGame(), description="How it is played.")

    @model_validator(mode="after")
    def _check_used(self) -> Self:
        """Refuse what would have no effect."""
        if self.identity_every > 1 and not self.identity_weight:
            raise ValueError("no identity_every without identity_weight")
        return self

    @field_validator("widths")
    @classmethod
    def _check_count(cls, widths: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        count = info.data.get("num_blocks", 0) + 4  # absent where it is at fault
        if widths and "num_blocks" in info.data and len(widths) != count:
            raise ValueError(f"{count} numbers for {count - 4} blocks, or none")
        return widths

    @property
    def architecture(self) -> Architecture:
        """What both generators are built from."""
        published = Architecture.published(self.width, self.num_blocks)
        first, second, *inside, third, fourth = self.widths or published.widths
        return Architecture(
            stem=self.width,
            down=(first, second),
            inside=tuple(inside),
            up=(third, fourth),
            separable=self.separable,
            norm_affine=self.norm_affine,
            padding=self.padding,
            downsampling=self.downsampling,
            upsampling=self.upsampling,
            self_attention=self.self_attention,
        )


class CycleGANRequest(BaseModel):
    """What may be asked of a translation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    direction: Literal["a2b", "b2a"] = Field("a2b", description="Which domain becomes which.")


def _check_crop(shape: tuple[int, ...], smallest: int) -> None:
    """Refuse what a generator would bring back in another size, or a discriminator not judge."""
    height, width = shape[1:]
    if height % 4 or width % 4 or min(height, width) < smallest:
        raise RecipeError(
            f"crops are {width}x{height}",
            where="augment.host",
            expected=f"multiples of 4, at least {smallest}",
            remedy="change the crop in [augment]",
        )


def _adversary(options: CycleGANOptions, generator: nn.Module | None, label: str) -> Adversary:
    """Return what judges one domain; where its generator is not there, it teaches nobody."""
    network = PatchDiscriminator(3, options.discriminator)
    taught = () if generator is None else generator.parameters()
    return Adversary(network, options.game, taught, label)


class CycleGAN(Translator):
    """Two generators that undo each other, two discriminators, and a pool for each.

    Section 3 gives the losses, section 4 and appendix 7 the training. One deviation, an option
    that is off by default: ``identity_every`` computes the identity terms on some steps only.
    """

    name = "cyclegan"
    Options = CycleGANOptions
    Request = CycleGANRequest
    inputs = Inputs(images=("a", "b"), paired=False)
    exported = ("a2b", "b2a")
    options: CycleGANOptions

    def __init__(self, options: CycleGANOptions) -> None:
        super().__init__(options)
        taught: dict[str, nn.Module] = {}
        if options.directions != "b2a":
            self.a2b = taught["b"] = ResNetGenerator(options.architecture)
        if options.directions != "a2b":
            self.b2a = taught["a"] = ResNetGenerator(options.architecture)
        self.judge_a = _adversary(options, taught.get("a"), "_a")
        self.judge_b = _adversary(options, taught.get("b"), "_b")
        self.trained_size: int | None = None

    @classmethod
    def upgrade(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Put what the first models say at the top into the tables that families share."""
        today = {key: value for key, value in options.items() if key not in _MOVED}
        for old in _MOVED.keys() & options.keys():
            table, key = _MOVED[old]
            today[table] = {**today.get(table, {}), key: options[old]}
        return today

    @property
    def fit(self) -> Fit:
        """Two halvings, reflections of three pixels, and a normalisation over the whole picture."""
        return Fit(multiple=4, smallest=8, trained_size=self.trained_size)

    def grow(self, stage: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Allocate the adversaries' pools, whose pictures have the size of the crops.

        Raises RecipeError for crops that the networks cannot take.
        """
        for role in self.inputs.images:
            _check_crop(shapes[role], max(8, smallest_side(self.options.discriminator)))
        self.judge_a.grow(shapes["a"])
        self.judge_b.grow(shapes["b"])
        self.trained_size = min(shapes["a"][1:])

    def players(self, stage: str) -> Mapping[str, Iterable[nn.Parameter]]:
        """Name the generators, who move together, and the discriminators.

        Raises RecipeError where there is one generator: none can be trained without the other.
        """
        if self.options.directions != "both":
            raise RecipeError(
                f"there is a generator for {self.options.directions} only",
                where="model.directions",
                expected='"both", for each generator learns to undo the other',
                remedy="leave model.directions out",
            )
        return {
            "generators": [*self.a2b.parameters(), *self.b2a.parameters()],
            "discriminators": [*self.judge_a.parameters(), *self.judge_b.parameters()],
        }

    def training_step(self, batch: Batch, now: Progress) -> Iterator[Update]:
        """Move the generators (equation 3 and section 5.2), then the discriminators, halved."""
        a, b, options = batch.images["a"], batch.images["b"], self.options
        turns = options.game.discriminator_steps
        their_turn = now.every(turns)
        with torch.set_grad_enabled(their_turn):
            fake_a, fake_b = self.b2a(b), self.a2b(a)
        if their_turn:
            terms = [
                *self.judge_a.fool(fake_a, a, batch, now),
                *self.judge_b.fool(fake_b, b, batch, now),
                Term("cycle_a", l1(self.b2a(fake_b), a), options.cycle_weight),
                Term("cycle_b", l1(self.a2b(fake_a), b), options.cycle_weight),
            ]
            if options.identity_weight and now.every(turns * options.identity_every):
                terms += [
                    Term("identity_a", l1(self.b2a(a), a), options.identity_weight),
                    Term("identity_b", l1(self.a2b(b), b), options.identity_weight),
                ]
            yield Update("generators", *terms)

        judged_a = self.judge_a.judge(a, fake_a, batch, now)
        judged_b = self.judge_b.judge(b, fake_b, batch, now)
        measured = {**judged_a.measured, **judged_b.measured}
        yield Update("discriminators", *judged_a.terms, *judged_b.terms, **measured)

    def after_step(self, now: Progress, measured: Mapping[str, float]) -> None:
        """Let the adversaries follow."""
        self.judge_a.after_step(now, measured)
        self.judge_b.after_step(now, measured)

    def check_request(self, request: CycleGANRequest) -> None:
        """Refuse a direction that the model has not."""
        if self.options.directions not in ("both", request.direction):
            raise UsageError(
                f"the model translates {self.options.directions} only",
                where=f"direction={request.direction}",
                expected=f"direction={self.options.directions}",
                remedy=f"use --set direction={self.options.directions}, or another model",
            )

    def translate(self, images: Tensor, request: CycleGANRequest) -> Tensor:
        """Translate with the generator of the direction asked for.

        Raises UsageError for one that the model has not.
        """
        self.check_request(request)
        generator = self.a2b if request.direction == "a2b" else self.b2a
        translated: Tensor = generator(images)
        return translated
