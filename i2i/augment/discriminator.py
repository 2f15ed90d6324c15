"""What discriminators see, so that little data is not learnt by heart."""

from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from i2i.augment import adaptive, differentiable
from i2i.augment.chance import Chance
from i2i.augment.warp import warp
from i2i.counts import Images
from i2i.errors import PluginError
from i2i.types import Batch, Progress

Operation = Literal["pixels", "geometry", "colour", "translation", "cutout"]

OPERATIONS: dict[str, tuple[Operation, ...]] = {
    "none": (),
    "diffaugment": ("colour", "translation", "cutout"),
    "adaptive": ("pixels", "geometry", "colour"),
}
"""What each policy knows, in the order in which it is done."""


class DiscriminatorAugmentOptions(BaseModel):
    """How pictures are changed before a discriminator sees them: a family's ``augment``."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    policy: Literal["none", "diffaugment", "adaptive"] = Field(
        "none",
        description="diffaugment changes every picture (arXiv:2006.10738); adaptive changes with a "
        "probability, which it can find itself (arXiv:2006.06676).",
    )
    operations: tuple[Operation, ...] | None = Field(
        None,
        description="colour, translation and cutout for diffaugment; pixels, geometry and colour "
        "for adaptive; all of the policy's if unset.",
    )
    target: float | None = Field(
        None,
        gt=-1,
        lt=1,
        description="The mean sign of the discriminator on real pictures that adaptive aims for, "
        "0.6 in the paper; the probability stays as it is if unset.",
    )
    speed: Images = Field(
        500_000,
        description="Images over which the probability can rise from 0 to 1; fewer for short runs.",
    )
    limit: float = Field(
        0.8,
        gt=0,
        le=1,
        description="The largest probability: above 0.8 the generator begins to imitate the "
        "augmentations.",
    )
    probability: float = Field(
        0.0, ge=0, le=1, description="Of each operation, where training begins."
    )

    @model_validator(mode="after")
    def _check_used(self) -> Self:
        """Refuse what would have no effect; a default may stand, for a run's recipe has all."""
        known = OPERATIONS[self.policy]
        if self.policy != "adaptive":
            for key in ("target", "speed", "limit", "probability"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"no {key} beside {self.policy}: {key} is for adaptive")
        for each in self.operations or ():
            if each not in known:
                users = [name for name, theirs in OPERATIONS.items() if each in theirs]
                raise ValueError(
                    f"no operation {each} beside {self.policy}: it is for {' and '.join(users)}"
                )
        if self.operations is not None and len({*self.operations}) < max(len(self.operations), 1):
            raise ValueError("operations: each once, and at least one")
        if self.policy == "adaptive":
            self._check_adaptive()
        return self

    def _check_adaptive(self) -> None:
        if self.probability > self.limit:
            raise ValueError(f"a probability of at most limit, which is {self.limit}")
        if self.target is None and self.probability == 0:
            raise ValueError("adaptive without target and probability changes nothing: give one")
        if self.target is None and self.speed != type(self).model_fields["speed"].default:
            raise ValueError("no speed without target: the probability does not move")
        if self.target is None and self.limit != type(self).model_fields["limit"].default:
            raise ValueError("no limit without target: the probability does not move")


class DiscriminatorAugment(nn.Module):
    """Changes pictures as ``options`` say; real and generated ones go through it alike.

    Draws are keyed by sample. Gradients, second ones as well, reach the pictures. ``probability``
    is a buffer: how often each operation of ``adaptive`` happens at present.
    """

    probability: Tensor

    def __init__(self, options: DiscriminatorAugmentOptions) -> None:
        super().__init__()
        self.options = options
        known = OPERATIONS[options.policy]
        chosen = known if options.operations is None else options.operations
        self.operations = tuple(each for each in known if each in chosen)
        self.register_buffer("probability", torch.tensor(options.probability))

    def forward(self, images: Tensor, batch: Batch, now: Progress, name: str) -> Tensor:
        """Return (N, C, H, W) of ``images`` as the discriminator sees them, in their dtype.

        C is a multiple of 3: RGB pictures side by side, such as a source and its translation, are
        moved and coloured alike. Values may leave [-1, 1]. ``name`` tells the draws of one step
        apart: the same name on the same sample draws the same. Raises PluginError for pictures
        that are not one a sample or not in groups of three channels.
        """
        if not self.operations:
            return images
        if len(images) != len(batch) or images.shape[1] % 3:
            raise PluginError(
                f"it cannot change pictures of the shape {tuple(images.shape)}",
                where=f"i2i.augment.DiscriminatorAugment, for {name!r}",
                expected=f"({len(batch)}, C, H, W): one a sample of the batch, C a multiple of 3",
                remedy="give RGB pictures, several a sample side by side in channels",
            )
        if images.device.type == "cpu" and self._rests():
            return images  # elsewhere reading the probability would make the host wait
        with torch.autocast(images.device.type, enabled=False):
            precise = images if images.dtype == torch.float64 else images.float()
            chance = Chance(batch, now, name)
            if self.options.policy == "adaptive":
                changed = self._adaptive(precise, chance)
            else:
                changed = self._always(precise, chance)
        return changed.to(images.dtype)

    @torch.no_grad()
    def adapt(self, sign: float, num_images: int) -> None:
        """Move the probability after a step of ``num_images``; nothing happens without a target.

        ``sign`` is the mean over real pictures of the sign of the discriminator's logits: r_t of
        section 3 of the paper. It goes up where ``sign`` is above the target and down elsewhere, by
        ``num_images / speed``, and stays from 0 to ``limit``.
        """
        target = self.options.target
        if target is not None:
            step = num_images / self.options.speed
            self.probability.add_(step if sign > target else -step).clamp_(0, self.options.limit)

    def _rests(self) -> bool:
        return self.options.policy == "adaptive" and not self.probability

    def _adaptive(self, images: Tensor, chance: Chance) -> Tensor:
        size = images.shape[2], images.shape[3]
        p = self.probability.float()
        maps = []
        if "pixels" in self.operations:
            maps.append(adaptive.draw_pixels(chance, p, size))
        if "geometry" in self.operations:
            maps.append(adaptive.draw_geometry(chance, p, size))
        if maps:
            images = warp(images, maps[0] @ maps[1] if len(maps) > 1 else maps[0])
        if "colour" in self.operations:
            images = adaptive.recolour(images, adaptive.draw_colour(chance, p))
        return images

    def _always(self, images: Tensor, chance: Chance) -> Tensor:
        if "colour" in self.operations:
            images = differentiable.colour(images, chance)
        if "translation" in self.operations:
            images = differentiable.translation(images, chance)
        if "cutout" in self.operations:
            images = differentiable.cutout(images, chance)
        return images
