"""pix2pix: translation learnt from pairs of pictures (arXiv:1611.07004)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.adversary import Adversary, GameOptions
from i2i.errors import RecipeError, UsageError
from i2i.losses import l1
from i2i.losses.perceptual import PerceptualLoss, PerceptualOptions
from i2i.nn import DiscriminatorOptions, PatchDiscriminator, smallest_side
from i2i.nn.resampling import Downsampling, Upsampling
from i2i.translator import Translator
from i2i.types import Batch, Fit, Inputs, Progress, Term, Update
from i2i_pix2pix.networks import ATTENTION_AFTER, Architecture, KeyedDropout, UNetGenerator

DROPOUT_LAYERS = (0, 1, 2)


class Pix2PixGame(GameOptions):
    """The published game: cross-entropy, and a discriminator that learns half as fast."""

    discriminator_weight: float = Field(
        0.5, gt=0, description="The weight of the discriminator's loss; penalties have their own."
    )


class Pix2PixDiscriminator(DiscriminatorOptions):
    """The published discriminator: 70x70 patches, batch normalisation."""

    norm: Literal["instance", "batch", "none"] = Field(
        "batch",
        description="The normalisation between the first and the last convolution; batch takes the "
        "statistics of the pictures judged together.",
    )


class Pix2PixOptions(BaseModel):
    """Architecture and loss weights; the defaults are the paper's for 256-pixel pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    direction: Literal["a2b", "b2a"] = Field("a2b", description="Which role becomes which.")
    width: int = Field(64, ge=1, description="Channels after the generator's first convolution.")
    widest: int = Field(
        8, ge=1, description="Times this that, at most: channels double with each halving."
    )
    num_halvings: int = Field(
        8,
        ge=2,
        description="Halvings from the picture to the innermost layer: 8 for the U-Net of 256 "
        "pixels, 7 for 128, 9 for 512. Sides are padded to multiples of two to this power.",
    )
    norm: Literal["batch", "instance"] = Field(
        "batch", description="The generator's normalisation."
    )
    dropout: float = Field(
        0.5, ge=0, lt=1, description="The part that drops out, in training and translation."
    )
    dropout_layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        DROPOUT_LAYERS, description="Decoder layers that drop out, the innermost is 0."
    )
    downsampling: Downsampling = Field(
        "stride", description="Halve by striding, or without aliasing at four times the cost."
    )
    upsampling: Upsampling = Field(
        "transposed", description="Double by transposed convolutions, or free of checkerboards."
    )
    self_attention: bool = Field(
        False, description="Let the places of the third encoder layer see each other."
    )
    l1_weight: float = Field(100.0, ge=0, description="The weight of the distance to the target.")
    perceptual: PerceptualOptions = Field(
        PerceptualOptions(), description="A distance in the features of a trained network."
    )
    discriminator: Pix2PixDiscriminator = Field(
        Pix2PixDiscriminator(), description="What judges the translations."
    )
    game: Pix2PixGame = Field(Pix2PixGame(), description="How it is played.")

    @model_validator(mode="after")
    def _check_used(self) -> Self:
        """Refuse what would have no effect; a default may stand, for a run's recipe has all."""
        last = self.num_halvings - 2
        if self.dropout_layers != DROPOUT_LAYERS and max(self.dropout_layers, default=0) > last:
            raise ValueError(f"dropout_layers: numbers from 0 to {last}, the last layer has none")
        drops = bool(self.dropout)
        if self.dropout_layers != DROPOUT_LAYERS and drops != bool(self.dropout_layers):
            raise ValueError("dropout and dropout_layers go together: give both, or neither")
        if self.self_attention and self.num_halvings <= ATTENTION_AFTER:
            raise ValueError(f"self_attention needs more than {ATTENTION_AFTER} halvings")
        return self

    @property
    def architecture(self) -> Architecture:
        """What the generator is built from."""
        return Architecture(
            widths=tuple(self.width * min(2**i, self.widest) for i in range(self.num_halvings)),
            norm=self.norm,
            downsampling=self.downsampling,
            upsampling=self.upsampling,
            self_attention=self.self_attention,
        )


class Pix2PixRequest(BaseModel):
    """What may be asked of a translation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="Of the noise, beside the picture itself.")
    deterministic: bool = Field(
        False, description="No noise, and the statistics of training instead of each picture's own."
    )

    @model_validator(mode="after")
    def _check_used(self) -> Self:
        if self.deterministic and self.seed:
            raise ValueError("no seed beside deterministic: there is no noise")
        return self


class Pix2Pix(Translator):
    """A U-Net, and a discriminator that sees the source beside the translation.

    Section 3 gives the losses, 3.3 and appendix 6.2 the training. The paper's noise is dropout, at
    translation too, and its batch normalisation takes the statistics of the picture translated:
    here noise follows from the request's seed and the picture, and statistics are each picture's.
    """

    name = "pix2pix"
    Options = Pix2PixOptions
    Request = Pix2PixRequest
    inputs = Inputs(images=("a", "b"), paired=True)
    exported = ("generator",)
    options: Pix2PixOptions

    def __init__(self, options: Pix2PixOptions) -> None:
        super().__init__(options)
        self.generator = UNetGenerator(options.architecture)
        network = PatchDiscriminator(6, options.discriminator)
        self.adversary = Adversary(network, options.game, self.generator.parameters())
        self.perceptual = PerceptualLoss(options.perceptual)
        self.trained_size: int | None = None

    @property
    def fit(self) -> Fit:
        """So many halvings, and normalisations over the whole picture."""
        multiple = 2**self.options.num_halvings
        return Fit(multiple=multiple, smallest=multiple, trained_size=self.trained_size)

    @property
    def compared(self) -> tuple[str, str]:
        """The two roles, in the order of the direction."""
        return ("a", "b") if self.options.direction == "a2b" else ("b", "a")

    def grow(self, stage: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Allocate the adversary's pool.

        Raises RecipeError for crops that the networks cannot take.
        """
        height, width = shapes["a"][1:]
        multiple = self.fit.multiple
        smallest = smallest_side(self.options.discriminator)
        if self.options.perceptual.weight:
            smallest = max(smallest, self.perceptual.smallest_side)
        if shapes["a"] != shapes["b"]:
            raise RecipeError(
                f"pictures of role a are {width}x{height}, those of b another size",
                where="augment",
                expected="one size for both",
                remedy="change the size of both, or of neither",
            )
        if height % multiple or width % multiple:
            raise RecipeError(
                f"crops are {width}x{height}",
                where="augment",
                expected=f"multiples of {multiple}",
                remedy="change the crop in [augment], or model.num_halvings",
            )
        if min(height, width) < smallest:
            raise RecipeError(
                f"crops are {width}x{height}, too small for what judges them",
                where="augment",
                expected=f"at least {smallest} pixels a side",
                remedy="enlarge it in [augment], or change model.discriminator or perceptual",
            )
        self.adversary.grow((6, height, width))
        self.trained_size = min(height, width)

    def players(self, stage: str) -> Mapping[str, Iterable[nn.Parameter]]:
        """Name the two, as soon as what the losses look through is at hand."""
        if self.options.perceptual.weight:
            self.perceptual.backbone.load()
        return {
            "generator": self.generator.parameters(),
            "discriminator": self.adversary.parameters(),
        }

    def training_step(self, batch: Batch, now: Progress) -> Iterator[Update]:
        """Move the discriminator, then the generator (equation 4): the order of section 3.3."""
        options = self.options
        source, target = (batch.images[role] for role in self.compared)
        its_turn = now.every(options.game.discriminator_steps)
        with torch.set_grad_enabled(its_turn):
            made = self.generator(source, self._drop if options.dropout else None)
        real, fake = torch.cat([source, target], 1), torch.cat([source, made], 1)
        judged = self.adversary.judge(real, fake, batch, now)
        yield Update("discriminator", *judged.terms, **judged.measured)

        if its_turn:
            terms = [*self.adversary.fool(fake, real, batch, now)]
            if options.l1_weight:
                terms.append(Term("l1", l1(made, target), options.l1_weight))
            if options.perceptual.weight:
                value = self.perceptual(made, target)
                terms.append(Term("perceptual", value, options.perceptual.weight))
            yield Update("generator", *terms)

    def after_step(self, now: Progress, measured: Mapping[str, float]) -> None:
        """Let the adversary follow."""
        self.adversary.after_step(now, measured)

    def check_request(self, request: Pix2PixRequest) -> None:
        """Refuse a seed where there is no noise."""
        if request.seed and not self.options.dropout:
            raise UsageError(
                "the model has no noise, so a seed changes nothing",
                where=f"seed={request.seed}",
                expected="no seed for a model without dropout",
                remedy="leave it out",
            )

    def translate(self, images: Tensor, request: Pix2PixRequest) -> Tensor:
        """Translate, each picture with its own statistics and noise unless asked otherwise."""
        self.check_request(request)
        if request.deterministic:
            quiet: Tensor = self.generator(images, None, True)
            return quiet
        options = self.options
        drop = None
        if options.dropout:
            drop = KeyedDropout(request.seed, images, options.dropout_layers, options.dropout)
        noisy: Tensor = self.generator(images, drop)
        return noisy

    def _drop(self, layer: int, x: Tensor) -> Tensor:
        options = self.options
        return F.dropout(x, options.dropout) if layer in options.dropout_layers else x
