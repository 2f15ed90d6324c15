"""SRGAN: photo-realistic super-resolution (arXiv:1609.04802)."""

import copy
from collections.abc import Iterable, Iterator, Mapping

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.func import functional_call

from i2i.adversary import Adversary
from i2i.augment.degradation import Degradation
from i2i.errors import PluginError, RecipeError, UsageError
from i2i.losses import l1, l2
from i2i.losses.perceptual import PerceptualLoss
from i2i.translator import Translator
from i2i.types import Batch, Fit, Inputs, Progress, Term, Update
from i2i_srgan.discriminators import UNetDiscriminator, VGGDiscriminator
from i2i_srgan.options import SRGANOptions

PRETRAIN, ADVERSARIAL = "pretrain", "adversarial"
_LOSSES = {"l1": l1, "l2": l2}


class SRGANRequest(BaseModel):
    """What may be asked of a translation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float = Field(
        1.0,
        ge=0,
        le=1,
        description="From faithful (0), the network of the stage pretrain, to vivid (1), that of "
        "the stage adversarial; between them their weights are mixed.",
    )


class SRGAN(Translator):
    """A generator that learns to enlarge, and then to please a discriminator too.

    Section 2.2 gives the losses, 3.2 the training: the stage ``pretrain`` with a pixel loss alone,
    the stage ``adversarial`` with content, perceptual and adversarial terms. Its result can be
    mixed with that of the first, weight by weight (arXiv:1809.00219, section 3.4). Generators see
    and return [0, 1], as in the paper's section 3.2 low resolution has it.
    """

    name = "srgan"
    Options = SRGANOptions
    Request = SRGANRequest
    inputs = Inputs(images=("low", "high"), paired=True)
    exported = ("generator", "faithful")
    options: SRGANOptions

    def __init__(self, options: SRGANOptions) -> None:
        super().__init__(options)
        self.generator = options.generator.build(options.scale)
        self.faithful: nn.Module = nn.Identity()  # until the stage adversarial begins
        self.adversary: Adversary | None = None
        self.perceptual = PerceptualLoss(options.perceptual)
        self.degrade: Degradation | None = None
        if options.degradation is not None:
            self.degrade = Degradation(options.degradation, options.scale)
        self.trained_size: int | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """The second stage is for those who want it."""
        return (PRETRAIN, ADVERSARIAL) if self.options.adversarial else (PRETRAIN,)

    @property
    def fit(self) -> Fit:
        """Normalisations have learnt their statistics, so tiles are sound; grey is no colour."""
        generator = self.options.generator
        return Fit(
            multiple=generator.unshuffle,
            smallest=generator.unshuffle,
            trained_size=self.trained_size,
            scale=self.options.scale,
            keeps_grey=True,
            tiles=True,
            halo=generator.halo,
        )

    def grow(self, stage: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Keep the first stage's generator, and build what judges the second's.

        Raises RecipeError for crops that the networks cannot take.
        """
        self._check_crops(shapes, stage)
        self.trained_size = min(shapes["low"][1:])
        if stage != ADVERSARIAL:
            return
        self.faithful = copy.deepcopy(self.generator).requires_grad_(False)
        options = self.options
        network: VGGDiscriminator | UNetDiscriminator = (
            VGGDiscriminator(shapes["high"][1], options.discriminator.width)
            if options.discriminator.architecture == "vgg"
            else UNetDiscriminator(options.discriminator.width)
        )
        self.adversary = Adversary(_Layered(network), options.game, self.generator.parameters())
        self.adversary.grow(shapes["high"])

    def players(self, stage: str) -> Mapping[str, Iterable[nn.Parameter]]:
        """Name who moves, as soon as what the losses look through is at hand."""
        players = {"generator": self.generator.parameters()}
        if stage == ADVERSARIAL:
            if self.options.perceptual.weight:
                self.perceptual.backbone.load()
            players["discriminator"] = self._adversary.parameters()
        return players

    def training_step(self, batch: Batch, now: Progress) -> Iterator[Update]:
        """Move the generator alone, or the discriminator and then the generator."""
        options = self.options
        low, high = batch.images["low"], batch.images["high"]
        if self.degrade is not None:
            low = self.degrade(high, batch, now)
        pixel_loss = _LOSSES[options.pixel_loss]
        if now.stage == PRETRAIN:
            yield Update("generator", Term("pixel", pixel_loss(self._enlarge(low), high)))
            return

        its_turn = now.every(options.game.discriminator_steps)
        with torch.set_grad_enabled(its_turn):
            made = self._enlarge(low)
        judged = self._adversary.judge(high, made, batch, now)
        yield Update("discriminator", *judged.terms, **judged.measured)

        if its_turn:
            terms = [*self._adversary.fool(made, high, batch, now)]
            if options.pixel_weight:
                terms.append(Term("pixel", pixel_loss(made, high), options.pixel_weight))
            if options.perceptual.weight:
                value = self.perceptual(made, high)
                terms.append(Term("perceptual", value, options.perceptual.weight))
            yield Update("generator", *terms)

    def after_step(self, now: Progress, measured: Mapping[str, float]) -> None:
        """Let the adversary follow."""
        if now.stage == ADVERSARIAL:
            self._adversary.after_step(now, measured)

    def check_request(self, request: SRGANRequest) -> None:
        """Refuse a strength below 1 where there is one network."""
        if request.strength < 1 and isinstance(self.faithful, nn.Identity):
            raise UsageError(
                "the model has no stage adversarial to be mixed with",
                where=f"strength={request.strength:g}",
                expected="no strength for a model of the stage pretrain alone",
                remedy="leave it out",
            )

    def translate(self, images: Tensor, request: SRGANRequest) -> Tensor:
        """Enlarge, by the network between the two stages' that is asked for.

        Until the second begins there is one network, and previews show it at every strength. Raises
        UsageError for a strength below 1 where none follows.
        """
        if not self.options.adversarial:
            self.check_request(request)
        if request.strength == 1 or isinstance(self.faithful, nn.Identity):
            return self._enlarge(images).clamp(-1, 1)
        vivid = self.generator.state_dict()
        mixed = {
            name: torch.lerp(tensor, vivid[name], request.strength)
            if tensor.is_floating_point()
            else tensor
            for name, tensor in self.faithful.state_dict().items()
        }
        return self._enlarge(images, mixed).clamp(-1, 1)

    def _enlarge(self, images: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        seen = (images + 1) / 2
        made: Tensor = (
            self.generator(seen)
            if weights is None
            else functional_call(self.generator, dict(weights), (seen,))
        )
        return 2 * made - 1

    @property
    def _adversary(self) -> Adversary:
        if self.adversary is None:
            raise PluginError(
                "the stage adversarial has not begun",
                where="family 'srgan'",
                expected="grow() called for it",
                remedy="call it before players() and training_step()",
            )
        return self.adversary

    def _check_crops(self, shapes: Mapping[str, tuple[int, ...]], stage: str) -> None:
        options = self.options
        (height, width), (large_height, large_width) = shapes["low"][1:], shapes["high"][1:]
        if (large_height, large_width) != (options.scale * height, options.scale * width):
            raise RecipeError(
                f"low resolution is {width}x{height}, high resolution {large_width}x{large_height}",
                where="data.options.scale",
                expected=f"{options.scale} times the size, as model.scale says",
                remedy="make both scales equal",
            )
        multiple: int = options.generator.unshuffle
        if height % multiple or width % multiple:
            raise RecipeError(
                f"low resolution is {width}x{height}",
                where="data.options.crop",
                expected=f"multiples of {multiple}, as model.generator.unshuffle asks for",
                remedy="change the crop",
            )
        if stage != ADVERSARIAL:
            return
        vgg = options.discriminator.architecture == "vgg"
        multiple = (VGGDiscriminator if vgg else UNetDiscriminator).multiple
        smallest = self.perceptual.smallest_side if options.perceptual.weight else 1
        if (
            large_height % multiple
            or large_width % multiple
            or (vgg and large_height != large_width)
            or min(large_height, large_width) < smallest
        ):
            raise RecipeError(
                f"crops are {large_width}x{large_height}",
                where="data.options.crop",
                expected=f"{'squares, ' if vgg else ''}multiples of {multiple} pixels"
                + (f", at least {smallest}" if smallest > 1 else ""),
                remedy="change the crop, or what judges it",
            )


class _Layered(nn.Module):
    """A discriminator that shows what its layers give, for features to be matched."""

    def __init__(self, network: VGGDiscriminator | UNetDiscriminator) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[tuple[Tensor, ...]]:
        return (self.network.layers(x),)
