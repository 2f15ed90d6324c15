"""What a recipe's ``[model]`` says of super-resolution; the defaults are SRGAN's."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from i2i.adversary import GameOptions
from i2i.augment.degradation import DegradationOptions
from i2i.losses.perceptual import PerceptualOptions
from i2i.nn.backbones import BackboneName
from i2i_srgan.networks import (
    SCALES,
    Activation,
    Body,
    Closing,
    Compact,
    MSRResNet,
    Norm,
    RRDBNet,
    Scale,
    SRResNet,
)

_USERS = {
    "norm": ("srresnet",),
    "closing": ("srresnet",),
    "bounded": ("srresnet",),
    "growth": ("rrdb",),
    "unshuffle": ("rrdb",),
    "body": ("compact",),
    "activation": ("compact",),
}
"""The keys that not every architecture knows."""

_MOST_HALO = 32
"""Places; further away weights of trained networks reach, but change less than 1/255."""


class GeneratorOptions(BaseModel):
    """What the generator is built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal["srresnet", "msrresnet", "rrdb", "compact"] = Field(
        "srresnet",
        description="SRGAN's, that of ESRGAN's authors without normalisation, ESRGAN's own, or "
        "plain convolutions that do all work at the small size.",
    )
    width: int = Field(64, ge=1, description="Channels of its convolutions.")
    num_blocks: int = Field(
        16, ge=1, description="Residual blocks; 23 in ESRGAN. Convolutions of a plain body."
    )
    norm: Norm = Field("batch", description="The normalisation in srresnet's blocks.")
    closing: Closing = Field(
        "norm", description="What ends srresnet's blocks: a normalisation, or a PReLU instead."
    )
    bounded: bool = Field(False, description="Let srresnet's result pass through tanh.")
    growth: int = Field(32, ge=1, description="Channels that each dense layer of rrdb adds.")
    unshuffle: Literal[1, 2, 4] = Field(
        1, description="Let rrdb work on the picture that many times smaller, in more channels."
    )
    body: Body = Field(
        "plain", description="Of compact: convolutions, or pairs of them that add to what they see."
    )
    activation: Activation = Field("prelu", description="Of compact, between convolutions.")

    @model_validator(mode="after")
    def _check_used(self) -> Self:
        """Refuse what the architecture would ignore; a default may stand."""
        for key, users in _USERS.items():
            is_default = getattr(self, key) == type(self).model_fields[key].default
            if self.architecture not in users and not is_default:
                raise ValueError(f"no {key} beside {self.architecture}: it is {users[0]}'s")
        return self

    def build(self, scale: Scale) -> nn.Module:
        """Return the network: (N, 3, H, W) in [0, 1] to (N, 3, scale * H, scale * W)."""
        size = scale, self.width, self.num_blocks
        if self.architecture == "srresnet":
            return SRResNet(*size, self.norm, self.closing, self.bounded)
        if self.architecture == "msrresnet":
            return MSRResNet(*size)
        if self.architecture == "rrdb":
            return RRDBNet(*size, self.growth, self.unshuffle)
        return Compact(*size, self.body, self.activation)

    @property
    def halo(self) -> int:
        """Pixels of the source around a tile that its result depends on.

        Layers count places of feature maps, which ``unshuffle`` makes larger than pixels.
        """
        layers = {
            "srresnet": 2 * self.num_blocks + 8,
            "msrresnet": 2 * self.num_blocks + 3,
            "rrdb": 15 * self.num_blocks + 4,
            "compact": 2 * self.num_blocks + 3 if self.body == "residual" else self.num_blocks + 2,
        }
        return self.unshuffle * min(layers[self.architecture], _MOST_HALO)


class JudgeOptions(BaseModel):
    """What the discriminator is built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal["vgg", "unet"] = Field(
        "vgg",
        description="SRGAN's, which judges whole crops, or Real-ESRGAN's, which judges each pixel.",
    )
    width: int = Field(64, ge=1, description="Channels after its first convolution.")


class SRGANGame(GameOptions):
    """The published game: the adversarial term weighs a thousandth (equation 3)."""

    adversarial_weight: float = Field(
        1e-3, gt=0, description="The weight of the generator's adversarial term."
    )


class SRGANPerceptual(PerceptualOptions):
    """The published content loss, VGG54 (section 3.2)."""

    weight: float = Field(1.0, ge=0, description="The weight of the perceptual term; 0 is off.")
    backbone: BackboneName = Field(
        "vgg19",
        description="The classifier: squeezenet ships with i2i; the others are fetched once by "
        "'i2i models fetch NAME', vgg19 with 575 MB.",
    )
    distance: Literal["l1", "l2"] = Field(
        "l2", description="Mean absolute (l1) or mean squared (l2) difference of features."
    )
    feature_scale: float = Field(
        0.0784, gt=0, description="What features are multiplied by before they are compared."
    )


class SRGANOptions(BaseModel):
    """Architecture and losses; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Scale = Field(
        4, description="Output pixels an input pixel, a side; 1 is for rrdb and compact."
    )
    generator: GeneratorOptions = Field(GeneratorOptions(), description="What enlarges.")
    degradation: DegradationOptions | None = Field(
        None,
        description="How low resolution comes from high resolution in training, instead of the "
        "layout's: as it does in cameras and on the way to the web.",
    )
    pixel_loss: Literal["l1", "l2"] = Field(
        "l2", description="Mean absolute (l1) or mean squared (l2) difference of pixels."
    )
    adversarial: bool = Field(
        True, description="Whether the stage adversarial follows on the stage pretrain."
    )
    pixel_weight: float = Field(
        0.0, ge=0, description="The weight of the pixel loss in the stage adversarial."
    )
    perceptual: SRGANPerceptual = Field(
        SRGANPerceptual(), description="The content loss in the stage adversarial."
    )
    discriminator: JudgeOptions = Field(JudgeOptions(), description="What judges results.")
    game: SRGANGame = Field(SRGANGame(), description="How it is played.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse what cannot be built, and what would have no effect."""
        if self.scale == 1 and self.generator.architecture not in ("rrdb", "compact"):
            raise ValueError("scale = 1 is for rrdb and compact, as networks for repair have it")
        if self.scale * self.generator.unshuffle not in SCALES:
            raise ValueError(f"scale times unshuffle is one of {', '.join(map(str, SCALES))}")
        for key in ("pixel_weight", "perceptual", "discriminator", "game"):
            is_default = getattr(self, key) == type(self).model_fields[key].default
            if not self.adversarial and not is_default:
                raise ValueError(f"no {key} without the stage adversarial")
        return self
