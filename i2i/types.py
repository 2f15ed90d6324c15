"""What passes between a family and the engine: batches, moves, progress and sizes."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


def derive_seed(*parts: object) -> int:
    """Return a seed in [0, 2**63) that depends on every part and on their order."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True)
class Inputs:
    """What a family trains on.

    ``images`` are the roles a batch brings, ``labels`` the names of its labels; ``paired`` says
    whether pictures of one index belong together.
    """

    images: tuple[str, ...]
    paired: bool
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fit:
    """Which pictures ``translate`` takes, and what it returns; sizes in pixels.

    The engine pads height and width to ``multiple`` and to at least ``smallest``, resizes to
    ``exact_size`` (height, width) where a family knows one size only, and removes both again.
    """

    multiple: int = 1
    exact_size: tuple[int, int] | None = None
    trained_size: int | None = None  # short side of the training crops
    scale: int = 1  # output pixels an input pixel, a side
    smallest: int = 1
    channels_in: int = 3
    channels_out: int = 3
    tiles: bool = False  # False where a normalisation sees the whole picture
    keeps_grey: bool = False  # the result of a grey picture is written as grey
    halo: int = 0  # margin a tile needs to equal the untiled result within 1/255


@dataclass(frozen=True)
class Region:
    """A part of a photograph that is cut out, translated and pasted back.

    ``size`` is the crop's (height, width) in pixels. ``matrix`` (2x3) takes the centres of its
    pixels, (x, y, 1) with (0, 0) the first, to the photograph's: it may turn, shear and mirror,
    and reach beyond the photograph.
    """

    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]
    size: tuple[int, int]


@dataclass(frozen=True)
class Batch:
    """Samples for one step: ``images`` of (N, C, H, W) float32 in [-1, 1] by role.

    ``labels`` are (N, ...) by name; ``keys`` (N,) int64 identify each sample by seed, epoch and
    index, so that random draws follow the sample and not its place in a batch.
    """

    images: Mapping[str, Tensor]
    keys: Tensor
    labels: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on ``device``; keys stay on the CPU, where draws are made."""
        return Batch(
            {role: image.to(device, non_blocking=True) for role, image in self.images.items()},
            self.keys,
            {name: label.to(device, non_blocking=True) for name, label in self.labels.items()},
        )

    def split(self, num_parts: int) -> list["Batch"]:
        """Return at most ``num_parts`` micro-batches, in order, sizes differing by one at most."""
        parts = torch.arange(len(self)).tensor_split(min(num_parts, len(self)))
        return [
            Batch(
                {role: image[i[0] : i[-1] + 1] for role, image in self.images.items()},
                self.keys[i],
                {name: label[i[0] : i[-1] + 1] for name, label in self.labels.items()},
            )
            for i in parts
        ]


@dataclass(frozen=True)
class Term:
    """One summand of a loss: a scalar ``value``, kept unweighted so that logs show it so."""

    name: str
    value: Tensor
    weight: float = 1.0


class Update:
    """One move: the named players step together, down the gradient of the weighted terms.

    ``Update("generators", Term(...), ...)`` moves one player, a tuple of names moves several on
    one loss. ``measured`` are further scalars for the log and for ``after_step``.
    """

    def __init__(self, players: str | tuple[str, ...], *terms: Term, **measured: Tensor) -> None:
        self.players = (players,) if isinstance(players, str) else tuple(players)
        self.terms = terms
        self.measured = {
            name: value.detach() if isinstance(value, Tensor) else value
            for name, value in measured.items()
        }


@dataclass(frozen=True)
class Progress:
    """Where training stands, and the draws of this step: the family's ``now``.

    ``step`` counts within ``stage`` from 0, ``images`` are those seen before this step in the
    stage. Draws are keyed by seed, stage, step, sample and name: micro-batches and processes draw
    what the whole batch would.
    """

    seed: int
    stage: str
    step: int
    images: int

    def every(self, num_steps: int) -> bool:
        """Whether this step is one of every ``num_steps``, the stage's first included."""
        return self.step % num_steps == 0

    def normal(self, batch: Batch, name: str, *shape: int) -> Tensor:
        """Draw (N, *shape) float32 from N(0, 1), on the device of the batch."""
        return self._draw(torch.randn, batch, name, shape)

    def uniform(self, batch: Batch, name: str, *shape: int) -> Tensor:
        """Draw (N, *shape) float32 from [0, 1), on the device of the batch."""
        return self._draw(torch.rand, batch, name, shape)

    def _draw(
        self, draw: Callable[..., Tensor], batch: Batch, name: str, shape: tuple[int, ...]
    ) -> Tensor:
        generator = torch.Generator()
        samples = []
        for key in batch.keys.tolist():
            generator.manual_seed(derive_seed(self.seed, self.stage, self.step, key, name))
            samples.append(draw(shape, generator=generator))
        device = next(iter(batch.images.values())).device
        return torch.stack(samples).to(device)
