"""How the weights of a network are first drawn."""

from torch import nn
from torch.nn.utils import parametrize


def initialise(module: nn.Module) -> None:
    """Draw the weights of one convolution or batch normalisation; ``network.apply(initialise)``.

    Convolutions from N(0, 0.02) (appendix 6.2 of arXiv:1611.07004), batch normalisations from
    N(1, 0.02), as in its authors' code; biases are zero, other modules stay as they are. Raises
    ValueError for a weight under a parametrisation, whose drawn values would be lost: initialise
    first, then parametrise.
    """
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
        return
    if parametrize.is_parametrized(module, "weight"):
        raise ValueError("the weight is parametrised already: initialise first, then parametrise")
    if module.weight is not None:
        mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
        nn.init.normal_(module.weight, mean, 0.02)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
