"""Train a family by its recipe, so that a killed run resumes as if nothing had happened."""

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from i2i.data import HostAugment, Layout, example_shapes, make_loader
from i2i.engine.averaging import Averages
from i2i.engine.checkpoint import (
    NAME,
    Checkpoint,
    cut_back,
    differences,
    environment,
    lengths,
    load_checkpoint,
    only_one,
    save_checkpoint,
)
from i2i.engine.events import Events
from i2i.engine.moves import Game
from i2i.engine.optim import PlayerOptimizer, learning_rate
from i2i.engine.preview import preview_pairs
from i2i.engine.run import Run, StepReport
from i2i.engine.window import Played, Window
from i2i.errors import RecipeError, suggest
from i2i.model_file import Header, build, grow, save_model
from i2i.plugins import Plugins
from i2i.recipe import Recipe, Stage
from i2i.translator import Translator
from i2i.types import Batch, Progress, derive_seed


class Trainer:
    """Runs the stages of a recipe in ``folder``; goes on from the checkpoint there, if any."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        plugins: Plugins,
        *,
        observers: Sequence[object],
        warn: Callable[[str], None],
        device: torch.device | None = None,
        num_workers: int = 0,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.device = device or torch.device("cpu")
        self.num_workers = num_workers
        family = plugins.family(recipe.family)
        self.translator = build(family, recipe.model, recipe.run.seed)
        self.distribution = _distribution(plugins, recipe.family)
        _check_stages(recipe, self.translator)
        root = Path(recipe.data.root or ".")
        kind = plugins.layout(recipe.data.layout)
        self.layout: Layout = kind(root, recipe.data.options, family.inputs, "train")
        self.augment = HostAugment(recipe.augment.host)
        self.run = Run(folder, recipe, self.translator)
        self.events = Events(plugins, observers, warn)
        self.warn = warn
        self.window = Window()
        self.shapes: dict[str, Mapping[str, tuple[int, ...]]] = {}
        self._stop = False

    def train(self) -> str:
        """Train to the end, or until SIGTERM or Ctrl-C: return "finished" or "interrupted"."""
        outcome = "failed"
        try:
            with only_one(self.folder), self._signals():
                outcome = self._train()
        finally:
            self.events.tell("i2i_run_finished", run=self.run, outcome=outcome)
            self.events.close()
        return outcome

    def _train(self) -> str:
        kept = load_checkpoint(self.folder) if (self.folder / NAME).exists() else None
        stages = list(self.translator.stages)
        if kept is not None:
            if kept.finished:
                return "finished"
            self._restore(kept, stages)
            stages = stages[stages.index(kept.stage) :]
        else:
            cut_back(self.folder, {})
        for name in stages:
            state = StageRun(self, name, kept if kept and kept.stage == name else None)
            if name == stages[0]:
                self.events.tell("i2i_run_started", run=self.run)
            if not state.train():
                return "interrupted"
            state.averages.adopt()
        self.save(state, finished=True)
        return "finished"

    def _restore(self, kept: Checkpoint, stages: Sequence[str]) -> None:
        """Bring back modules, logs and the unfinished line of the log."""
        if changed := list(differences(kept.environment)):
            self.warn(f"resumed elsewhere, so not bit-identical: {', '.join(changed)}")
        for name in stages[: stages.index(kept.stage) + 1]:
            self.shapes[name] = kept.stages[name]
            grow(self.translator, name, self.shapes[name], self.recipe.run.seed)
        self.translator.load_state_dict(kept.modules)
        self.window.load(kept.window)
        cut_back(self.folder, kept.logs)

    def save(self, state: "StageRun", *, finished: bool = False) -> None:
        """Write the checkpoint, after the observers have written what they hold."""
        self.events.tell("i2i_checkpoint_saving", run=self.run)
        if finished:
            self.save_model(self.folder / "model.safetensors")
        path = save_checkpoint(
            self.folder,
            Checkpoint(
                stage=state.name,
                step=state.step,
                finished=finished,
                modules=self.translator.state_dict(),
                optimizers={n: o.state_dict() for n, o in state.optimizers.items()},
                averages=state.averages.tensors,
                stages=self.shapes,
                window=self.window.state(),
                logs=lengths(self.folder),
                environment=environment(),
            ),
        )
        self.events.tell("i2i_checkpoint_saved", run=self.run, path=path)

    def save_model(self, path: Path) -> None:
        """Write the translator's present weights as a model file that says how it was trained."""
        recipe = self.recipe
        shared = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": None})})
        header = Header(
            family=recipe.family,
            distribution=self.distribution,
            options=recipe.model.model_dump(mode="json"),
            request=recipe.request.model_dump(mode="json"),
            translate=recipe.translate.model_dump(mode="json"),
            stages=self.shapes,
            recipe=shared.to_toml(),
            training={
                "stage": self.run.stage,
                "images": self.run.images,
                "seed": recipe.run.seed,
                "data": Path(recipe.data.root or ".").resolve().name,
                "torch": torch.__version__.partition("+")[0],
            },
            licence=recipe.licence,
        )
        save_model(path, self.translator, header)

    @property
    def stopping(self) -> bool:
        """Whether somebody asked the run to stop after this step."""
        return self._stop

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn the first SIGTERM or Ctrl-C into a stop after the step; a second acts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def stop(number: int, _: object) -> None:
            self._stop = True
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class StageRun:
    """One stage while it runs: its players, its averages and its place in the data."""

    def __init__(self, trainer: Trainer, name: str, kept: Checkpoint | None) -> None:
        self.trainer = trainer
        self.name = name
        self.options: Stage = trainer.recipe.stages[name]
        self.seed = trainer.recipe.run.seed
        self.num_steps = math.ceil(self.options.images / self.options.batch_size)
        translator = trainer.translator
        if kept is None:
            shapes = example_shapes(trainer.layout, trainer.augment, seed=self._data_seed())
            trainer.shapes[name] = shapes
            grow(translator, name, shapes, self.seed)
        translator.to(trainer.device).train()
        self.optimizers = self._players(translator)
        self.averages = Averages(translator, self.options.average_half_life)
        self.step = 0
        if kept is not None:
            self._load(kept)
        if self.options.compile:
            for child in translator.children():
                if any(True for _ in child.parameters()):
                    child.compile()
        self.game = Game(
            translator,
            self.optimizers,
            precision=getattr(torch, self.options.precision),
            num_micro_batches=self.options.micro_batches,
            device=trainer.device,
        )
        self._tell_place()

    def train(self) -> bool:
        """Run the stage's remaining steps; return False where it was stopped before its end."""
        trainer, batch_size = self.trainer, self.options.batch_size
        if self.step == 0:
            trainer.save(self)
        loader = make_loader(
            trainer.layout,
            trainer.augment,
            seed=self._data_seed(),
            batch_size=batch_size,
            start_step=self.step,
            num_steps=self.num_steps - self.step,
            num_workers=trainer.num_workers,
        )
        for batch in loader:
            self._step(batch.to(trainer.device))
            if self._due(trainer.recipe.validate_.every):
                self._preview()
            if trainer.stopping or self._due(trainer.recipe.run.checkpoint_every):
                trainer.save(self)
            if trainer.stopping:
                return False
        return True

    def _step(self, batch: Batch) -> None:
        trainer = self.trainer
        now = Progress(self.seed, self.name, self.step, self.step * self.options.batch_size)
        played = self.game.play(batch, now)
        self._after_step(now, played)
        self.averages.update(len(batch))
        trainer.window.add(self.name, self.step, played)
        rates = {
            name: learning_rate(optimizer.options, now.images, self.options.images)
            for name, optimizer in self.optimizers.items()
        }
        self.step += 1
        self._tell_place()
        due = self.step % trainer.recipe.run.log_every == 0 or self.step == self.num_steps
        report = StepReport(rates, trainer.window.line() if due else None)
        trainer.events.tell("i2i_step_finished", run=trainer.run, report=report)

    def _after_step(self, now: Progress, played: Played) -> None:
        """Call the family's ``after_step`` if it has one: reading the values makes devices wait."""
        translator = self.trainer.translator
        if type(translator).after_step is Translator.after_step:
            return
        values: dict[str, Tensor] = played.terms | played.measured
        with torch.no_grad():
            translator.after_step(now, {name: float(value) for name, value in values.items()})

    def _preview(self) -> None:
        """Translate the same few pictures by the averaged weights, and write that model."""
        trainer = self.trainer
        with self.averages.applied():
            if trainer.recipe.validate_.pictures:
                pairs = preview_pairs(
                    trainer.layout, trainer.recipe, trainer.translator, trainer.device
                )
                trainer.events.tell("i2i_preview", run=trainer.run, pairs=pairs)
            trainer.save_model(trainer.folder / "model.safetensors")
            if trainer.recipe.validate_.snapshots:
                snapshots = trainer.folder / "snapshots"
                snapshots.mkdir(exist_ok=True)
                name = f"{self.name}-{trainer.run.images:09d}.safetensors"
                trainer.save_model(snapshots / name)
        trainer.translator.train()

    def _due(self, every: int) -> bool:
        """Whether this step crossed a multiple of ``every`` images, or ended the stage."""
        images = self.step * self.options.batch_size
        crossed = images // every != (images - self.options.batch_size) // every
        return crossed or self.step == self.num_steps

    def _data_seed(self) -> int:
        return derive_seed(self.seed, "data", self.name)

    def _players(self, translator: Translator) -> dict[str, PlayerOptimizer]:
        owners = translator.players(self.name)
        for name in self.options.players:
            if name not in owners:
                raise RecipeError(
                    f"there is no player {name!r}",
                    where=f"stages.{self.name}.players",
                    expected=f"one of {', '.join(owners)}",
                    remedy=suggest(name, owners, "remove it"),
                )
        missing = sorted(owners.keys() - self.options.players.keys())
        if missing:
            raise RecipeError(
                f"the player {missing[0]!r} has no optimizer",
                where=f"stages.{self.name}.players",
                expected=f"a table for each of {', '.join(owners)}",
                remedy=f"add [stages.{self.name}.players.{missing[0]}]",
            )
        return {
            name: PlayerOptimizer(name, owners[name], options, self.options.images)
            for name, options in self.options.players.items()
        }

    def _load(self, kept: Checkpoint) -> None:
        self.step = kept.step
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(kept.optimizers[name])
        for name, tensor in self.averages.tensors.items():
            tensor.copy_(kept.averages[name])

    def _tell_place(self) -> None:
        run, stages = self.trainer.run, self.trainer.translator.stages
        earlier = [self.trainer.recipe.stages[n] for n in stages[: stages.index(self.name)]]
        run.stage, run.step, run.length = self.name, self.step, self.options.images
        run.images = self.step * self.options.batch_size
        run.total_step = self.step + sum(math.ceil(s.images / s.batch_size) for s in earlier)


def _check_stages(recipe: Recipe, translator: Translator) -> None:
    for name in translator.stages:
        if name not in recipe.stages:
            raise RecipeError(
                "the stage is missing",
                where=f"stages.{name}",
                expected=f"a table for each of {', '.join(translator.stages)}",
                remedy=f"add [stages.{name}]",
            )
    for name in recipe.stages:
        if name not in translator.stages:
            raise RecipeError(
                f"there is no stage {name!r}",
                where=f"stages.{name}",
                expected=f"one of {', '.join(translator.stages)}",
                remedy=suggest(name, translator.stages, "remove it"),
            )


def _distribution(plugins: Plugins, family: str) -> str:
    offer = plugins.families[family]
    return f"{offer.distribution} {offer.version}".strip()
