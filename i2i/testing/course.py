"""Lead a family through its stages with the engine's own classes, as the trainer would."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from i2i.engine.moves import Game
from i2i.engine.optim import PlayerOptimizer
from i2i.model_file import grow
from i2i.recipe import Player
from i2i.testing.subject import SEED, Subject, fault, untouched
from i2i.translator import Translator
from i2i.types import Batch, Progress, Update

LENGTH = 1_000_000  # images in a made stage: the rates stay flat

State = dict[str, Tensor]


@dataclass
class Step:
    """What one step yielded, and the values of its terms and measurements."""

    moves: list[tuple[object, ...]] = field(default_factory=list)
    kinds: dict[str, torch.dtype] = field(default_factory=dict)  # of each term
    values: dict[str, float] = field(default_factory=dict)


class Course:
    """A family on its way through its stages."""

    def __init__(
        self,
        subject: Subject,
        *,
        precision: torch.dtype = torch.float32,
        num_micro_batches: int = 1,
        player: Player | None = None,
    ) -> None:
        self.subject = subject
        self.precision = precision
        self.num_micro_batches = num_micro_batches
        self.player = player or Player()
        with untouched(subject.family, "__init__", torchs=True):
            self.translator = subject.build()
        self.stage = ""
        self.optimizers: dict[str, PlayerOptimizer] = {}

    def grow(self, stage: str) -> None:
        """Let the family build what ``stage`` needs."""
        with untouched(self.subject.family, "grow", torchs=True):
            grow(self.translator, stage, self.subject.shapes, SEED)

    def enter(self, stage: str) -> None:
        """Begin a stage that was grown: its players, their optimizers, the game."""
        self.stage = stage
        owners = _checked_players(self.subject, self.translator, stage)
        self.translator.train()
        self.optimizers = {
            name: PlayerOptimizer(name, parameters, self.player, LENGTH)
            for name, parameters in owners.items()
        }
        self.game = Game(
            self.translator,
            self.optimizers,
            precision=self.precision,
            num_micro_batches=self.num_micro_batches,
            device=torch.device("cpu"),
        )

    def step(self, index: int, batch: Batch) -> Step:
        """Play step ``index`` of the stage."""
        now = Progress(SEED, self.stage, index, index * len(batch))
        step = Step()
        with untouched(self.subject.family, "training_step", torchs=False):
            self._play(batch, now, step)
        with untouched(self.subject.family, "after_step", torchs=True), torch.no_grad():
            self.translator.after_step(now, step.values)
        return step

    def _play(self, batch: Batch, now: Progress, step: Step) -> None:
        original = self.translator.training_step

        def listened(batch: Batch, now: Progress) -> Iterator[Update]:
            for update in original(batch, now):
                if isinstance(update, Update):
                    step.moves.append(_signature(update))
                    step.kinds |= {term.name: term.value.dtype for term in update.terms}
                yield update

        self.translator.training_step = listened  # type: ignore[method-assign]
        try:
            played = self.game.play(batch, now)
        finally:
            del self.translator.training_step
        values: dict[str, Tensor] = played.terms | played.measured
        step.values = {name: float(value) for name, value in values.items()}

    def state(self) -> State:
        """Return a copy of every parameter and buffer that a checkpoint holds."""
        return {name: each.detach().clone() for name, each in self.translator.state_dict().items()}

    def optimizer_states(self) -> dict[str, Any]:
        """Return the optimizers' states, as copies."""
        return {name: _copied(each.state_dict()) for name, each in self.optimizers.items()}


def _signature(update: Update) -> tuple[object, ...]:
    terms = tuple((term.name, term.weight) for term in update.terms)
    return update.players, terms, tuple(sorted(update.measured))


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _checked_players(
    subject: Subject, translator: Translator, stage: str
) -> Mapping[str, list[nn.Parameter]]:
    """Return who owns what; raises PluginError for players that cannot move."""
    players = translator.players(stage)
    if not isinstance(players, Mapping) or not players:
        expected, remedy = "a mapping with a player at least", "name who owns which parameters"
        wrong = f"returns {players!r} for stage {stage!r}"
        raise fault(subject.family, "players", wrong, expected, remedy)
    owners = {name: list(parameters) for name, parameters in players.items()}
    registered = {id(parameter) for parameter in translator.parameters()}
    for name, parameters in owners.items():
        wrong = ""
        if not parameters:
            wrong = f"gives the player {name!r} no parameters in stage {stage!r}"
        elif not all(isinstance(each, nn.Parameter) for each in parameters):
            wrong = f"gives the player {name!r} something that is no parameter"
        elif not all(id(each) in registered for each in parameters):
            wrong = f"gives the player {name!r} a parameter that the translator does not hold"
        elif not all(each.requires_grad for each in parameters):
            wrong = f"gives the player {name!r} a parameter that takes no gradient"
        if wrong:
            expected = "parameters of the translator's own submodules"
            remedy = "assign the module to self, and leave requires_grad alone"
            raise fault(subject.family, "players", wrong, expected, remedy)
    return owners
