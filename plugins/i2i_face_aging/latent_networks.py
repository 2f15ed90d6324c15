"""The networks of Age-cGAN: a generator of faces from latents, its discriminator, its encoder."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.nn import BatchNorm, initialise
from i2i_face_aging.ages import AGE_GROUPS

NUM_GROUPS = len(AGE_GROUPS)
_SMALLEST = 4  # places a side of the smallest features


def _widths(side: int, width: int) -> list[int]:
    """Return the channels of features from the largest (half the side) to those of 4x4 places."""
    count = (side // _SMALLEST).bit_length() - 1
    return [width * 2**place for place in range(count)]


class LatentGenerator(nn.Module):
    """DCGAN's generator (arXiv:1511.06434, figure 1), with the age group beside the latent.

    Latents (N, Z) and groups, one-hot (N, 6), to faces (N, 3, side, side) in [-1, 1].
    """

    def __init__(self, side: int, latent_size: int, width: int) -> None:
        super().__init__()
        widths = _widths(side, width)[::-1]
        self.first = nn.ConvTranspose2d(latent_size + NUM_GROUPS, widths[0], _SMALLEST, bias=False)
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(seen, made, 4, stride=2, padding=1, bias=False)
            for seen, made in pairwise(widths)
        )
        self.norms = nn.ModuleList(BatchNorm(channels) for channels in widths)
        self.last = nn.ConvTranspose2d(widths[-1], 3, 4, stride=2, padding=1)
        self.apply(initialise)

    def forward(self, latents: Tensor, groups: Tensor, running: bool = False) -> Tensor:
        """Generate; with ``running`` by the statistics kept in training, each face alone."""
        x = torch.cat([latents, groups], 1)[:, :, None, None]
        for layer, norm in zip([self.first, *self.enlarge], self.norms, strict=True):
            x = F.relu(norm(layer(x), running))
        return torch.tanh(self.last(x))


class LatentDiscriminator(nn.Module):
    """DCGAN's discriminator; the age group joins behind its first convolution.

    Faces (N, 3, side, side) and groups, one-hot (N, 6), to logits (N, 1, 1, 1).
    """

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        widths = _widths(side, width)
        self.first = nn.Conv2d(3, width, 4, stride=2, padding=1)
        self.others = nn.ModuleList(
            nn.Conv2d(seen, made, 4, stride=2, padding=1, bias=False)
            for seen, made in zip([width + NUM_GROUPS, *widths[1:]], widths[1:], strict=False)
        )
        self.norms = nn.ModuleList(BatchNorm(channels) for channels in widths[1:])
        self.last = nn.Conv2d(widths[-1], 1, _SMALLEST)
        self.apply(initialise)

    def forward(self, faces: Tensor, groups: Tensor) -> tuple[tuple[Tensor, ...]]:
        """Return what each layer gives, logits last."""
        x = F.leaky_relu(self.first(faces), 0.2)
        given = [x]
        x = torch.cat([x, groups[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
        for layer, norm in zip(self.others, self.norms, strict=True):
            x = F.leaky_relu(norm(layer(x)), 0.2)
            given.append(x)
        return ((*given, self.last(x)),)


class LatentEncoder(nn.Module):
    """Faces (N, 3, side, side) in [-1, 1] to latents (N, Z).

    5x5 convolutions that stride, and two linear layers, as the encoder of arXiv:1611.06355 (table
    2), from which Age-cGAN takes its design; ``hidden`` is 4096 there.
    """

    def __init__(self, side: int, latent_size: int, width: int, hidden: int) -> None:
        super().__init__()
        widths = _widths(side, width)
        self.reduce = nn.ModuleList(
            nn.Conv2d(seen, made, 5, stride=2, padding=2, bias=False)
            for seen, made in pairwise([3, *widths])
        )
        self.norms = nn.ModuleList(BatchNorm(channels) for channels in widths)
        self.hidden = nn.Conv2d(widths[-1], hidden, _SMALLEST, bias=False)  # linear in all places
        self.hidden_norm = BatchNorm(hidden)
        self.last = nn.Linear(hidden, latent_size)
        self.apply(initialise)

    def forward(self, faces: Tensor, running: bool = False) -> Tensor:
        """Estimate; with ``running`` by the statistics kept in training, each face alone."""
        x = faces
        for layer, norm in zip(self.reduce, self.norms, strict=True):
            x = F.relu(norm(layer(x), running))
        x = F.relu(self.hidden_norm(self.hidden(x), running))
        latents: Tensor = self.last(x.flatten(1))
        return latents
