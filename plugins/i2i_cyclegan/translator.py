"""CycleGAN: translation between two domains without pairs (arXiv:1703.10593)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from torch import Tensor, nn

from i2i.errors import RecipeError, UsageError
from i2i.losses import LeastSquares, l1
from i2i.translator import Translator
from i2i.types import Batch, Fit, Inputs, Progress, Term, Update
from i2i_cyclegan.networks import Architecture, PatchDiscriminator, ResNetGenerator
from i2i_cyclegan.pool import ImagePool


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
    discriminator_width: int = Field(
        64, ge=1, description="Channels after the discriminators' first convolution."
    )
    cycle_weight: float = Field(10.0, ge=0, description="The weight of the cycle terms.")
    identity_weight: float = Field(5.0, ge=0, description="The weight of the identity terms.")
    identity_every: int = Field(1, ge=1, description="Steps from one identity term to the next.")
    pool_size: int = Field(50, ge=0, description="Pictures in each discriminator's history.")

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
        )


class CycleGANRequest(BaseModel):
    """What may be asked of a translation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    direction: Literal["a2b", "b2a"] = Field("a2b", description="Which domain becomes which.")


def _check_crop(shape: tuple[int, ...]) -> None:
    """Refuse what a generator would bring back in another size, or a discriminator not judge."""
    height, width = shape[1:]
    if height % 4 or width % 4 or min(height, width) < 24:
        raise RecipeError(
            f"crops are {width}x{height}",
            where="augment.host",
            expected="multiples of 4, at least 24",
            remedy="change the crop in [augment]",
        )


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
        if options.directions != "b2a":
            self.a2b = ResNetGenerator(options.architecture)
        if options.directions != "a2b":
            self.b2a = ResNetGenerator(options.architecture)
        self.judge_a = PatchDiscriminator(3, options.discriminator_width)
        self.judge_b = PatchDiscriminator(3, options.discriminator_width)
        self.game = LeastSquares()
        self.trained_size: int | None = None

    @property
    def fit(self) -> Fit:
        """Two halvings, reflections of three pixels, and a normalisation over the whole picture."""
        return Fit(multiple=4, smallest=8, trained_size=self.trained_size)

    def grow(self, stage: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Allocate the pools, whose pictures have the size of the crops.

        Raises RecipeError for crops that the networks cannot take.
        """
        for role in self.inputs.images:
            _check_crop(shapes[role])
        self.pool_a = ImagePool("pool_a", self.options.pool_size, shapes["a"])
        self.pool_b = ImagePool("pool_b", self.options.pool_size, shapes["b"])
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
        fake_a, fake_b = self.b2a(b), self.a2b(a)
        terms = [
            Term("adversarial_a", self.game.fool(self.judge_a(fake_a))),
            Term("adversarial_b", self.game.fool(self.judge_b(fake_b))),
            Term("cycle_a", l1(self.b2a(fake_b), a), options.cycle_weight),
            Term("cycle_b", l1(self.a2b(fake_a), b), options.cycle_weight),
        ]
        if options.identity_weight and now.every(options.identity_every):
            terms += [
                Term("identity_a", l1(self.b2a(a), a), options.identity_weight),
                Term("identity_b", l1(self.a2b(b), b), options.identity_weight),
            ]
        yield Update("generators", *terms)

        seen_a, seen_b = self.pool_a(fake_a, batch, now), self.pool_b(fake_b, batch, now)
        yield Update(
            "discriminators",
            Term("judge_a", self.game.judge(self.judge_a(a), self.judge_a(seen_a)), 0.5),
            Term("judge_b", self.game.judge(self.judge_b(b), self.judge_b(seen_b)), 0.5),
        )

    def translate(self, images: Tensor, request: CycleGANRequest) -> Tensor:
        """Translate with the generator of the direction asked for.

        Raises UsageError for one that the model has not.
        """
        if self.options.directions not in ("both", request.direction):
            raise UsageError(
                f"the model translates {self.options.directions} only",
                where=f"direction={request.direction}",
                expected=f"direction={self.options.directions}",
                remedy=f"use --set direction={self.options.directions}, or another model",
            )
        generator = self.a2b if request.direction == "a2b" else self.b2a
        translated: Tensor = generator(images)
        return translated
