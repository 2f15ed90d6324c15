"""One training stage while it runs."""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from i2i.augment import DeviceAugment
from i2i.engine.averaging import Averages
from i2i.engine.checkpoint import Checkpoint
from i2i.engine.moves import Game
from i2i.engine.optim import PlayerOptimizer, learning_rate
from i2i.engine.window import Played
from i2i.errors import I2IError, RecipeError, suggest
from i2i.recipe import Stage
from i2i.translator import Translator
from i2i.types import Batch, Progress


class StageRun:
    """The players of a stage, their averages, and how far they are."""

    def __init__(
        self,
        name: str,
        options: Stage,
        translator: Translator,
        *,
        seed: int,
        device: torch.device,
        augment: DeviceAugment,
        kept: Checkpoint | None = None,
    ) -> None:
        self.name = name
        self.options = options
        self.translator = translator.to(device).train()
        self.seed = seed
        self.device = device
        self.augment = augment
        self.num_steps = math.ceil(options.images / options.batch_size)
        self.step = 0  # steps done
        self.optimizers = make_players(name, options, translator.players(name))
        self.averages = Averages(translator, options.average_half_life)
        if kept is not None:
            self._load(kept)
        if options.compile:
            for child in translator.children():
                if any(True for _ in child.parameters()):
                    child.compile()
        self._game = Game(
            translator,
            self.optimizers,
            precision=getattr(torch, options.precision),
            num_micro_batches=options.micro_batches,
            device=device,
        )

    @property
    def images(self) -> int:
        """The images that were seen in this stage."""
        return self.step * self.options.batch_size

    def play(self, batch: Batch) -> Played:
        """Play one step on a batch, and all that follows from it in the stage."""
        now = Progress(self.seed, self.name, self.step, self.images)
        # before the batch is split, so that the number of micro-batches changes nothing
        batch = self.augment(batch.to(self.device), now)
        try:
            played = self._game.play(batch, now)
        except RuntimeError as error:
            raise _explain(error, self.name) or error from error
        self._after_step(now, played)
        self.averages.update(len(batch))
        self.step += 1
        return played

    def rates(self) -> dict[str, float]:
        """Return each player's learning rate at the newest step."""
        before = max(self.images - self.options.batch_size, 0)
        return {
            name: learning_rate(optimizer.options, before, self.options.images)
            for name, optimizer in self.optimizers.items()
        }

    def due(self, every: int) -> bool:
        """Whether the newest step crossed a multiple of ``every`` images, or ended the stage."""
        crossed = self.images // every != (self.images - self.options.batch_size) // every
        return crossed or self.step == self.num_steps

    def _after_step(self, now: Progress, played: Played) -> None:
        """Call the family's ``after_step``, which reads what it needs: devices wait for that."""
        with torch.no_grad():
            self.translator.after_step(now, _Values(played.terms | played.measured))

    def _load(self, kept: Checkpoint) -> None:
        self.step = kept.step
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(kept.optimizers[name])
        for name, tensor in self.averages.tensors.items():
            tensor.copy_(kept.averages[name])


class _Values(Mapping[str, float]):
    """Numbers that stay where they are until one is asked for, and then come all at once."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    @cached_property
    def _read(self) -> Mapping[str, float]:
        tensors = list(self._tensors.values())
        together = torch.stack([each.to(tensors[0].device) for each in tensors])
        return dict(zip(self._tensors, together.tolist(), strict=True))

    def __getitem__(self, name: str) -> float:
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def make_players(
    stage: str, options: Stage, owners: Mapping[str, Iterable[nn.Parameter]]
) -> dict[str, PlayerOptimizer]:
    """Return an optimizer for each player; raises RecipeError where names do not match."""
    for name in options.players:
        if name not in owners:
            raise RecipeError(
                f"there is no player {name!r}",
                where=f"stages.{stage}.players",
                expected=f"one of {', '.join(owners)}",
                remedy=suggest(name, owners, "remove it"),
            )
    missing = [name for name in owners if name not in options.players]
    if missing:
        raise RecipeError(
            f"the player {missing[0]!r} has no optimizer",
            where=f"stages.{stage}.players",
            expected=f"a table for each of {', '.join(owners)}",
            remedy=f"add [stages.{stage}.players.{missing[0]}]",
        )
    return {
        name: PlayerOptimizer(name, owners[name], each, options.images)
        for name, each in options.players.items()
    }


def _explain(error: RuntimeError, stage: str) -> I2IError | None:
    """Return a message for what is no bug of ours: a machine that cannot compile networks."""
    from torch._inductor.exc import InvalidCxxCompiler  # imports the compiler's front end

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InvalidCxxCompiler):
        cause = getattr(cause, "inner_exception", None) or cause.__cause__
    if cause is None:
        return None
    return RecipeError(
        "the networks cannot be compiled: there is no C++ compiler",
        where=f"stages.{stage}.compile",
        expected="g++ or clang++ on this machine",
        remedy=f"install one, or go without: --set stages.{stage}.compile=false",
    )
