"""Train a family by its recipe, so that a killed run resumes as if nothing had happened."""

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from i2i.augment import DeviceAugment
from i2i.data import HostAugment, Layout, make_loader
from i2i.engine.checkpoint import (
    NAME,
    Checkpoint,
    cut_back,
    differences,
    environment,
    lengths,
    load_checkpoint,
    only_one,
    restore_modules,
    save_checkpoint,
)
from i2i.engine.events import Events
from i2i.engine.preview import preview_pairs, preview_sources
from i2i.engine.rehearsal import data_seed, rehearse, stage_shapes
from i2i.engine.run import Run, StepReport
from i2i.engine.stage import StageRun
from i2i.engine.window import Window
from i2i.model_file import Header, build, grow, save_model
from i2i.plugins import Plugins
from i2i.recipe import Recipe
from i2i.types import Batch


class Trainer:
    """Runs the stages of a recipe in ``folder``; goes on from the checkpoint there, if any.

    What can be wrong with recipe and data is found on construction, before anything is written.
    """

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
        self.warn = warn
        family = plugins.family(recipe.family)
        offer = plugins.families[recipe.family]
        self.distribution = f"{offer.distribution} {offer.version}".strip()
        kind = plugins.layout(recipe.data.layout)
        root = Path(recipe.data.root or ".")
        self.layout: Layout = kind(root, recipe.data.options, family.inputs, "train")
        self.augment = HostAugment(recipe.augment.host)
        self.device_augment = DeviceAugment(recipe.augment.device, family.inputs)
        rehearse(recipe, family, self.layout, self.augment, self.device_augment)
        self.translator = build(family, recipe.model, recipe.run.seed)
        self.sources = preview_sources(self.layout, recipe, self.translator.fit)
        self.run = Run(folder, recipe, self.translator)
        self.environment = environment(self.device, self.layout)
        self.events = Events(plugins, observers, warn)
        self.window = Window()
        self.shapes: dict[str, Mapping[str, tuple[int, ...]]] = {}
        self._stop = False

    def train(self) -> str:
        """Train to the end, or until SIGTERM or Ctrl-C: return "finished" or "interrupted"."""
        try:
            with only_one(self.folder), self._signals():
                return self._train()
        finally:
            self.events.close()

    def _train(self) -> str:
        kept = load_checkpoint(self.folder) if (self.folder / NAME).exists() else None
        if kept is not None and kept.finished:
            self._say_finished(kept)
            return "finished"
        stages = list(self.translator.stages)
        if kept is not None:
            self._restore(kept, stages)
            stages = stages[stages.index(kept.stage) :]
        else:
            cut_back(self.folder, {})
        outcome = "failed"
        self._place(stages[0], kept.step if kept else 0)
        self.events.tell("i2i_run_started", run=self.run)
        try:
            outcome = self._run_stages(stages, kept)
        finally:
            self.events.tell("i2i_run_finished", run=self.run, outcome=outcome)
        return outcome

    def _run_stages(self, stages: Sequence[str], kept: Checkpoint | None) -> str:
        for name in stages:
            stage = self._begin(name, kept if kept and kept.stage == name else None)
            if stage.step == 0:
                self._save(stage)
            for batch in self._batches(stage):
                self._step(stage, batch)
                if stage.due(self.recipe.validate_.every):
                    self._preview(stage)
                if self._stop or stage.due(self.recipe.run.checkpoint_every):
                    self._save(stage)
                if self._stop:
                    return "interrupted"
            stage.averages.adopt()
            if name == stages[-1]:
                self._save_model(self.folder / "model.safetensors")
                self._save(stage, finished=True)
        return "finished"

    def _begin(self, name: str, kept: Checkpoint | None) -> StageRun:
        """Let the family grow for a stage, unless the checkpoint did, and gather its players."""
        if kept is None:
            self.shapes[name] = stage_shapes(
                self.recipe, name, self.layout, self.augment, self.device_augment
            )
            grow(self.translator, name, self.shapes[name], self.recipe.run.seed)
        stage = StageRun(
            name,
            self.recipe.stages[name],
            self.translator,
            seed=self.recipe.run.seed,
            device=self.device,
            augment=self.device_augment,
            kept=kept,
        )
        self._place(name, stage.step)
        return stage

    def _batches(self, stage: StageRun) -> Iterator[Batch]:
        return make_loader(
            self.layout,
            self.augment,
            seed=data_seed(self.recipe, stage.name),
            batch_size=stage.options.batch_size,
            start_step=stage.step,
            num_steps=stage.num_steps - stage.step,
            num_workers=self.num_workers,
        )

    def _step(self, stage: StageRun, batch: Batch) -> None:
        step = stage.step
        self.window.add(stage.name, step, stage.play(batch))
        self._place(stage.name, stage.step)
        due = stage.step % self.recipe.run.log_every == 0 or stage.step == stage.num_steps
        report = StepReport(stage.rates(), self.window.line() if due else None)
        self.events.tell("i2i_step_finished", run=self.run, report=report)

    def _preview(self, stage: StageRun) -> None:
        """Translate the same few pictures by the averaged weights, and write that model."""
        self.window.settle()  # on devices this is where a value that is not finite is found
        with stage.averages.applied():
            if self.sources:
                pairs = preview_pairs(self.sources, self.recipe, self.translator, self.device)
                self.events.tell("i2i_preview", run=self.run, pairs=pairs)
            self._save_model(self.folder / "model.safetensors")
            if self.recipe.validate_.snapshots:
                snapshots = self.folder / "snapshots"
                snapshots.mkdir(exist_ok=True)
                name = f"{stage.name}-{stage.images:09d}.safetensors"
                self._save_model(snapshots / name)
        self.translator.train()

    def _save(self, stage: StageRun, *, finished: bool = False) -> None:
        """Write the checkpoint, after the observers have written what they hold."""
        window = self.window.state()
        self.events.tell("i2i_checkpoint_saving", run=self.run)
        path = save_checkpoint(
            self.folder,
            Checkpoint(
                stage=stage.name,
                step=stage.step,
                finished=finished,
                modules=self.translator.state_dict(),
                optimizers={n: o.state_dict() for n, o in stage.optimizers.items()},
                averages=stage.averages.tensors,
                stages=self.shapes,
                window=window,
                logs=lengths(self.folder),
                environment=self.environment,
            ),
        )
        self.events.tell("i2i_checkpoint_saved", run=self.run, path=path)

    def _save_model(self, path: Path) -> None:
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

    def _restore(self, kept: Checkpoint, stages: Sequence[str]) -> None:
        """Bring back modules, logs and the unfinished line of the log."""
        if changed := differences(kept.environment, self.environment):
            self.warn(f"not bit-identical from here, because of changes: {', '.join(changed)}")
        for name in stages[: stages.index(kept.stage) + 1]:
            self.shapes[name] = kept.stages[name]
            grow(self.translator, name, self.shapes[name], self.recipe.run.seed)
        restore_modules(self.translator, kept, self.folder)
        self.window.load(kept.window)
        cut_back(self.folder, kept.logs)

    def _say_finished(self, kept: Checkpoint) -> None:
        last = self.recipe.stages[self.translator.stages[-1]]
        self.warn(f"{self.folder} finished before; its model is model.safetensors")
        if kept.step < math.ceil(last.images / last.batch_size):
            self.warn("its recipe.toml asks for more images now: that takes a new run")

    def _place(self, name: str, step: int) -> None:
        """Tell the run where it is."""
        stages = self.translator.stages
        earlier = [self.recipe.stages[each] for each in stages[: stages.index(name)]]
        options = self.recipe.stages[name]
        self.run.stage, self.run.step, self.run.length = name, step, options.images
        self.run.images = step * options.batch_size
        self.run.total_step = step + sum(math.ceil(s.images / s.batch_size) for s in earlier)

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
