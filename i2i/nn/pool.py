"""The history of made pictures that a discriminator is trained on."""

import torch
from torch import Tensor, nn

from i2i.errors import DataError
from i2i.types import Batch, Progress


class ImagePool(nn.Module):
    """Shows a discriminator older pictures half of the time (arXiv:1612.07828, section 2.3).

    Pictures are (C, H, W); they live in a buffer, so a resumed run continues with the same ones.
    """

    pictures: Tensor
    num_filled: Tensor

    def __init__(self, name: str, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("pictures", torch.zeros(size, *shape))
        self.register_buffer("num_filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, images: Tensor, batch: Batch, now: Progress) -> Tensor:
        """Return (N, C, H, W) float32, detached: each picture itself, or an older one.

        A picture goes in while there is room, and afterwards in place of the one it is exchanged
        for; which ones are exchanged is drawn by sample key. Raises DataError for another size.
        """
        size, shape = len(self.pictures), tuple(self.pictures.shape[1:])
        if size == 0:
            return images.detach().float()
        if images.shape[1:] != shape:
            raise DataError(
                f"a picture of {tuple(images.shape[1:])} comes after those of {shape}",
                where="augment.host",
                expected="pictures of one size",
                remedy="add a RandomCrop to [augment] that every picture is large enough for",
            )
        seen = images.detach().float().clone()
        filled = int(self.num_filled)  # once a call: on a device the host waits for it
        for index, (coin, place) in enumerate(now.uniform(batch, self.name, 2).tolist()):
            if filled < size:
                self.pictures[filled] = seen[index]
                filled += 1
            elif coin < 0.5:
                chosen = min(int(place * size), size - 1)
                older = self.pictures[chosen].clone()
                self.pictures[chosen] = seen[index]
                seen[index] = older
        self.num_filled.fill_(filled)
        return seen
