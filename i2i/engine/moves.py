"""Play one training step: advance the family's generators and make each move they yield."""

from collections.abc import Generator, Mapping, Sequence

import torch
from torch import Tensor, nn

from i2i.engine.graph import sequence_number, stale_parameter
from i2i.engine.optim import PlayerOptimizer
from i2i.engine.window import Played, non_finite
from i2i.errors import PluginError
from i2i.translator import Translator
from i2i.types import Batch, Progress, Update, derive_seed

Moves = Generator[Update, None, None]


class Game:
    """Plays the steps of one stage with one optimizer a player."""

    def __init__(
        self,
        translator: Translator,
        optimizers: Mapping[str, PlayerOptimizer],
        *,
        precision: torch.dtype,
        num_micro_batches: int,
        device: torch.device,
    ) -> None:
        self.translator = translator
        self.optimizers = optimizers
        self.precision = precision
        self.num_micro_batches = num_micro_batches
        self.device = device
        self._names = {parameter: name for name, parameter in translator.named_parameters()}
        self._moved: dict[nn.Parameter, int] = {}
        self._seen: set[tuple[object, ...]] = set()

    def play(self, batch: Batch, now: Progress) -> Played:
        """Play one step; raises PluginError for a broken rule and NonFiniteLoss."""
        parts = batch.split(self.num_micro_batches)
        shares = [len(part) / len(batch) for part in parts]
        steps = [self._start(part, now) for part in parts]
        played, move = Played(), 0
        try:
            while self._move(steps, shares, played, now, move):
                move += 1
        finally:
            for step in steps:
                step.close()
        if not move:
            raise self._broken(now, "yields no move", "at least one Update a step")
        return played

    def _start(self, batch: Batch, now: Progress) -> Moves:
        step = self.translator.training_step(batch, now)
        if not isinstance(step, Generator):
            raise self._broken(now, f"returns {type(step).__name__}", "a generator function")
        return step

    def _move(
        self,
        steps: Sequence[Moves],
        shares: Sequence[float],
        played: Played,
        now: Progress,
        move: int,
    ) -> bool:
        """Make one move on every micro-batch in turn; return False where the step is over."""
        first = self._advance(steps[0], now, move, 0)
        optimizers = self._begin(first, played, now) if first else []
        for index, (step, share) in enumerate(zip(steps, shares, strict=True)):
            update = self._advance(step, now, move, index) if index else first
            if _signature(update) != _signature(first):
                wrong = (
                    "yields different moves on micro-batches of one step, "
                    f"{_signature(first)} and {_signature(update)}"
                )
                raise self._broken(now, wrong, "moves that depend on 'now' and options alone")
            if update is not None:
                self._descend(update, share, played, now, move)
        if first is not None:
            self._step(optimizers, played, now)
        return first is not None

    def _advance(self, step: Moves, now: Progress, move: int, micro_batch: int) -> Update | None:
        """Run the family up to its next yield, under a seed of its own and fresh autocast."""
        torch.manual_seed(derive_seed(now.seed, now.stage, now.step, micro_batch, move))
        lowered = self.precision != torch.float32
        with (
            torch.autograd.set_multithreading_enabled(False),  # graph.py compares nodes' numbers
            torch.autocast(self.device.type, self.precision if lowered else None, enabled=lowered),
        ):
            inside = _modes()
            update = next(step, None)
            if _modes() != inside:
                wrong = "yields inside a 'with' block that changes how gradients are computed"
                raise self._broken(now, wrong, "every 'with' block closed before a yield")
        if update is not None and not isinstance(update, Update):
            raise self._broken(now, f"yields {type(update).__name__}", "an Update a move")
        return update

    def _begin(self, update: Update, played: Played, now: Progress) -> list[PlayerOptimizer]:
        """Check a move and clear its players' gradients."""
        for player in update.players:
            if player not in self.optimizers:
                known = ", ".join(self.optimizers)
                raise self._broken(now, f"moves an unknown player {player!r}", f"one of {known}")
        if len(set(update.players)) < len(update.players):
            raise self._broken(now, f"moves {update.players}, one of them twice", "each once")
        names = [*played.terms, *played.measured, *update.measured]
        names += [term.name for term in update.terms]
        if not update.terms:
            wrong = f"moves {' and '.join(update.players)} without a Term"
            raise self._broken(now, wrong, "a loss a move")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise self._broken(now, f"names two values {twice!r}", "names unique within a step")
        optimizers = [self.optimizers[name] for name in update.players]
        for optimizer in optimizers:
            optimizer.clear()
        return optimizers

    def _descend(
        self, update: Update, share: float, played: Played, now: Progress, move: int
    ) -> None:
        """Add one micro-batch's gradients to those of the players that move."""
        values = {f"the term {term.name!r}": term.value for term in update.terms}
        values |= {f"the measurement {name!r}": each for name, each in update.measured.items()}
        for name, value in values.items():
            if not isinstance(value, Tensor) or value.numel() != 1:
                kind = f"the shape {tuple(value.shape)}" if isinstance(value, Tensor) else value
                raise self._broken(now, f"gives {name} {kind}", "a scalar tensor, such as a mean")
        loss = torch.stack([t.value.float().reshape(()) * t.weight for t in update.terms]).sum()
        for term in update.terms:
            _add(played.terms, term.name, term.value, share)
        for name, value in update.measured.items():
            _add(played.measured, name, value, share)
        _check_finite(played.terms, now)
        if not loss.requires_grad:
            wrong = f"makes a move of {' and '.join(update.players)} whose loss needs no gradient"
            raise self._broken(now, wrong, "a loss computed from the players' parameters")
        targets = [p for name in update.players for p in self.optimizers[name].parameters]
        key = (now.stage, move, update.players, tuple(term.name for term in update.terms))
        if key not in self._seen:
            self._refuse_stale(loss, targets, update, now)
            self._seen.add(key)
        torch.autograd.backward(loss * share, inputs=targets)

    def _refuse_stale(
        self, loss: Tensor, targets: list[nn.Parameter], update: Update, now: Progress
    ) -> None:
        stale = stale_parameter(loss, targets, self._moved, self._names)
        if stale is not None:
            wrong = (
                f"moves {' and '.join(update.players)} down a loss that was computed with "
                f"{self._names[stale]!r} before that parameter moved"
            )
            raise self._broken(now, wrong, "what passed through it computed again after the yield")

    def _step(self, optimizers: Sequence[PlayerOptimizer], played: Played, now: Progress) -> None:
        for optimizer in optimizers:
            if not _reached(optimizer):
                wrong = f"makes a move of {optimizer.name} that reaches none of its parameters"
                raise self._broken(now, wrong, "a loss that was not detached from them")
        for optimizer in optimizers:
            norm = optimizer.clip()
            name = f"gradient_norm_{optimizer.name}"
            while name in played.measured:  # a player may move more than once a step
                name += "_again"
            played.measured[name] = norm
            _check_finite({name: norm}, now)
        for optimizer in optimizers:
            optimizer.step(now.images)
            # fused optimizers raise no version: without this, autograd's own check stays silent
            torch.autograd.graph.increment_version(_reached(optimizer))
        number = sequence_number()
        for optimizer in optimizers:
            self._moved.update(dict.fromkeys(_reached(optimizer), number))

    def _broken(self, now: Progress, wrong: str, expected: str) -> PluginError:
        family = type(self.translator)
        return PluginError(
            f"it {wrong}",
            where=f"{family.__module__}.{family.__qualname__}.training_step, stage {now.stage!r}",
            expected=expected,
            remedy="change the step as the rules in i2i.translator say",
        )


def _check_finite(values: Mapping[str, Tensor], now: Progress) -> None:
    """Raise NonFiniteLoss for the first bad value, before anything moves.

    On devices this would make the host wait at every move: there the window checks, later.
    """
    if next(iter(values.values())).device.type != "cpu":
        return
    if not torch.isfinite(torch.stack([*values.values()])).all():
        name = next(name for name, value in values.items() if not torch.isfinite(value))
        raise non_finite(name, float(values[name]), now.stage, now.step)


def _reached(optimizer: PlayerOptimizer) -> list[nn.Parameter]:
    """Return the parameters that a move reached: the optimizer leaves the others alone."""
    return [parameter for parameter in optimizer.parameters if parameter.grad is not None]


def _modes() -> tuple[bool, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
    )


def _signature(update: Update | None) -> tuple[object, ...] | None:
    if update is None:
        return None
    terms = tuple((term.name, term.weight) for term in update.terms)
    return update.players, terms, *update.measured


def _add(values: dict[str, Tensor], name: str, value: Tensor, share: float) -> None:
    part = value.detach().float().reshape(()) * share
    values[name] = values[name] + part if name in values else part
