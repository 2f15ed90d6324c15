"""Perceptual losses: distances between what a trained classifier sees in two pictures."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from i2i.errors import UsageError
from i2i.nn.backbones import Backbone, BackboneName

DEFAULT_LAYERS: dict[BackboneName, tuple[str, ...]] = {
    "squeezenet": ("relu1", "fire4", "fire8", "fire9"),  # before each pooling, and the last
    "squeezenet1_1": ("relu1", "fire3", "fire5", "fire9"),
    "alexnet": ("relu1", "relu2", "relu3", "relu4", "relu5"),
    "vgg16": ("relu2_2",),  # arXiv:1603.08155, section 4
    "vgg19": ("relu5_4",),  # arXiv:1609.04802, section 3.4
}
"""The layers compared where none are named."""

_TYPICAL: dict[BackboneName, dict[str, float]] = {
    "squeezenet": {
        "conv1": 66.0,
        "relu1": 47.0,
        "pool1": 69.0,
        "fire2": 137.0,
        "fire3": 259.0,
        "fire4": 227.0,
        "pool4": 365.0,
        "fire5": 351.0,
        "fire6": 170.0,
        "fire7": 127.0,
        "fire8": 48.0,
        "pool8": 92.0,
        "fire9": 38.0,
    }
}
"""Root mean square of features over 40 photographs of 256x256 pixels, by layer.

They are divided by it: SqueezeNet sees 0..255, and one layer would drown the others. Torchvision's
networks see pictures of unit variance, and their features are of order one as they are.
"""


class PerceptualOptions(BaseModel):
    """A distance between features of two pictures, nested in a family's options.

    That of SRGAN, its VGG54: backbone ``vgg19``, layers ``["relu5_4"]``, distance ``l2`` and
    feature_scale 1/12.75 = 0.0784 (arXiv:1609.04802, section 3.2), or, the same, feature_scale 1
    and 0.00615 times the weight.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(0.0, ge=0, description="The weight of the perceptual term; 0 is off.")
    backbone: BackboneName = Field(
        "squeezenet",
        description="The classifier: squeezenet ships with i2i; the others are fetched once by "
        "'i2i models fetch NAME', vgg19 with 575 MB.",
    )
    layers: tuple[str, ...] = Field(
        (), description="Layers to compare, as relu5_4 (after the activation) or conv5_4 (before)."
    )
    distance: Literal["l1", "l2"] = Field(
        "l1", description="Mean absolute (l1) or mean squared (l2) difference of features."
    )
    feature_scale: float = Field(
        1.0,
        gt=0,
        description="What features are multiplied by before they are compared.",
    )

    @model_validator(mode="after")
    def _check(self) -> "PerceptualOptions":
        if self.layers:
            try:
                Backbone(self.backbone).check_layers(self.layers)
            except UsageError as error:
                raise ValueError(f"{error.wrong}; expected {error.expected}") from error
        fields = type(self).model_fields
        given = [n for n in fields if n != "weight" and getattr(self, n) != fields[n].default]
        if given and self.weight == 0:
            raise ValueError(f"{', '.join(given)} without a weight has no effect; give a weight")
        return self

    @property
    def compared(self) -> tuple[str, ...]:
        """The layers that are compared: those named, or else the backbone's default."""
        return self.layers or DEFAULT_LAYERS[self.backbone]


class PerceptualLoss:
    """Compares what a backbone sees in pictures: ``sum_l  mean |s phi_l(x) - s phi_l(y)|^p``.

    ``phi_l`` are the features of layer ``l`` (squeezenet's divided by their typical size), ``s``
    the feature scale, and ``p`` is 1 or 2; the mean is over pictures, channels and positions
    (arXiv:1603.08155, equation 2; arXiv:1609.04802, equation 5, which leaves the channels open).
    Not a module: a family keeps it as an attribute, and nothing of it is saved or trained. The
    backbone's weights are read at the first call: see ``Backbone``. Squeezenet's first windows are
    not padded and end one pixel before an even side: that row and column get no gradient from it.
    """

    def __init__(self, options: PerceptualOptions, backbone: Backbone | None = None) -> None:
        self.options = options
        self.backbone = backbone or Backbone(options.backbone)

    @property
    def smallest_side(self) -> int:
        """The least height and width in pixels of the pictures that can be compared."""
        return max(self.backbone.smallest_side(layer) for layer in self.options.compared)

    def __call__(self, image: Tensor, target: Tensor) -> Tensor:
        """Return the unweighted loss, a float32 scalar; no gradient reaches ``target``.

        Both are RGB (N, 3, H, W) in [-1, 1]. Raises UsageError for other shapes, and DownloadError
        where the backbone can be had neither here nor from the network.
        """
        check_pair(image, target)
        layers, typical = self.options.compared, _TYPICAL.get(self.backbone.name, {})
        with torch.no_grad():
            wanted = self.backbone.features(target, layers)
        found = self.backbone.features(image, layers)
        terms = []
        for layer, x, y in zip(layers, found, wanted, strict=True):
            difference = (x - y) * (self.options.feature_scale / typical.get(layer, 1.0))
            size = difference.abs() if self.options.distance == "l1" else difference.square()
            terms.append(size.mean())
        return torch.stack(terms).sum()


def check_pair(image: Tensor, target: Tensor) -> None:
    """Refuse two batches of different shape, which would be compared one with many."""
    if image.shape != target.shape:
        raise UsageError(
            f"pictures of shape {tuple(image.shape)} meet targets of {tuple(target.shape)}",
            where="perceptual distance",
            expected="the same shape",
            remedy="bring both to one size before they are compared",
        )
