"""Discriminators that judge patches of a picture."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from i2i.nn.attention import SelfAttention
from i2i.nn.initialisation import initialise
from i2i.nn.norms import InstanceNorm
from i2i.nn.resampling import BlurPool
from i2i.nn.statistics import MinibatchStandardDeviation

NUM_HALVINGS = {1: 0, 16: 1, 70: 3, 286: 5}  # by patch


class DiscriminatorOptions(BaseModel):
    """What a discriminator is built from; the defaults are the 70x70 PatchGAN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(64, ge=1, description="Channels after the first convolution.")
    patch: Literal[1, 16, 70, 286] = Field(
        70, description="Pixels a side that one logit judges, without blur and attention."
    )
    norm: Literal["instance", "batch", "none"] = Field(
        "instance",
        description="The normalisation between the first and the last convolution; batch takes the "
        "statistics of the pictures judged together.",
    )
    spectral_norm: bool = Field(
        False,
        description="Divide each convolution's weight by its largest singular value; bounds how "
        "fast logits change where norm is none.",
    )
    minibatch_stddev: bool = Field(
        False,
        description="Show the last convolution how much the pictures of a batch differ; says "
        "nothing where a step has one.",
    )
    self_attention: bool = Field(
        False, description="Let the places of a picture at a quarter of its size see each other."
    )
    downsampling: Literal["stride", "blur"] = Field(
        "stride", description="Halve by striding, or without aliasing at up to four times the cost."
    )
    num_scales: int = Field(
        1, ge=1, description="Discriminators, each on a picture half the size of the one before."
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.patch == 1 and self.downsampling == "blur":
            raise ValueError("downsampling = blur changes nothing where patch is 1: none is halved")
        if self.patch < 70 and self.self_attention:
            raise ValueError(
                "self_attention sits at a quarter of the picture's size, which a discriminator of "
                "patch 1 or 16 never comes to: use patch 70 or 286"
            )
        return self


class PatchDiscriminator(nn.Module):
    """PatchGAN at one or more scales: (N, C, H, W) in [-1, 1] to raw logits, one a patch.

    Architectures: arXiv:1611.07004, appendix 6.1.2. C64-C128 of 1x1 (patch 1) and 4x4 convolutions
    (16), C64-C128-C256-C512 (70) and C64-C128-C256-C512-C512-C512 (286), leaky ReLU 0.2, no
    normalisation first and last. As in the authors' code the last two convolutions of 4x4 do not
    stride, and only convolutions before a batch normalisation have no biases. Options add:

    - ``num_scales`` (arXiv:1711.11585, section 3.2): one such network a scale, each on the picture
      before it halved by averaging 2x2 pixels;
    - ``spectral_norm`` (arXiv:1802.05957) on every convolution, one power iteration a forward;
    - ``minibatch_stddev`` (arXiv:1710.10196, section 3) directly before the last convolution,
      since any normalisation behind it would subtract a constant channel;
    - ``self_attention`` (arXiv:1805.08318) behind the second convolution's activation;
    - ``blur`` (arXiv:1904.11486, section 3.2): strides become a blur behind the activation, sizes
      stay, and patches of 16, 70 and 286 pixels become 18, 84 and 348.
    """

    def __init__(self, in_channels: int, options: DiscriminatorOptions) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            _layers(in_channels, options) for _ in range(options.num_scales)
        )
        self.apply(initialise)
        if options.spectral_norm:  # after the weights are drawn
            for module in list(self.modules()):
                if isinstance(module, nn.Conv2d):
                    spectral_norm(module)

    def forward(self, x: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """Return each layer's output of each scale, the largest first; raw logits come last.

        Sides are at least ``smallest_side``. Outputs are behind activation, blur and attention.
        """
        judged = []
        for index, layers in enumerate(self.scales):
            x = F.avg_pool2d(x, 2) if index else x
            judged.append(_outputs(layers, x))
        return tuple(judged)


def smallest_side(options: DiscriminatorOptions) -> int:
    """Return the side in pixels below which a picture gives no logit at some scale.

    Where a normalisation would see one value only, and make it zero, there is none to be had.
    """
    if options.patch == 1:
        smallest = 1 if options.norm == "none" else 2
    else:
        smallest = 3 * 2 ** NUM_HALVINGS[options.patch]  # two convolutions take a pixel each
    return int(smallest * 2 ** (options.num_scales - 1))


def _outputs(layers: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    outputs = []
    for layer in layers.children():
        x = layer(x)
        outputs.append(x)
    return tuple(outputs)


def _layers(in_channels: int, options: DiscriminatorOptions) -> nn.ModuleList:
    """Return the network of one scale: each layer a convolution and what belongs to it."""
    num_halvings = NUM_HALVINGS[options.patch]
    widths = [options.width * min(2**index, 8) for index in range(max(num_halvings, 1) + 1)]
    layers = nn.ModuleList()
    for index, (before, after) in enumerate(zip([in_channels, *widths], widths, strict=False)):
        halves = index < num_halvings
        norm = options.norm if index else "none"
        layers.append(_layer(before, after, options, norm, halves, attends=index == 1))
    last = _convolution(widths[-1] + options.minibatch_stddev, 1, options.patch, 1)
    layers.append(
        nn.Sequential(MinibatchStandardDeviation(), last) if options.minibatch_stddev else last
    )
    return layers


def _layer(
    channels_in: int,
    channels_out: int,
    options: DiscriminatorOptions,
    norm: str,
    halves: bool,
    attends: bool,
) -> nn.Sequential:
    blurs = halves and options.downsampling == "blur"
    stride = 2 if halves and not blurs else 1
    convolution = _convolution(channels_in, channels_out, options.patch, stride, norm != "batch")
    layer = nn.Sequential(convolution)
    if norm == "instance":
        layer.append(InstanceNorm())
    elif norm == "batch":  # no running statistics: nothing would read them
        layer.append(nn.BatchNorm2d(channels_out, track_running_stats=False))
    layer.append(nn.LeakyReLU(0.2, inplace=True))
    if blurs:
        layer.append(BlurPool())
    if attends and options.self_attention:
        layer.append(SelfAttention(channels_out))
    return layer


def _convolution(
    channels_in: int, channels_out: int, patch: int, stride: int, bias: bool = True
) -> nn.Conv2d:
    size, padding = (1, 0) if patch == 1 else (4, 1)
    return nn.Conv2d(channels_in, channels_out, size, stride=stride, padding=padding, bias=bias)
