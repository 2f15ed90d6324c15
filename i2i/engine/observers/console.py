"""The progress display of a run: images a second, time left, and the newest means."""

import time

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from i2i.engine.run import Run, StepReport
from i2i.hookspecs import hookimpl


class Console:
    """A bar on a terminal; elsewhere a plain line at each line of the log."""

    def __init__(self) -> None:
        self._console = RichConsole(stderr=True)
        self._bar: Progress | None = None
        self._stage = ""
        self._started = (0.0, 0)

    @hookimpl
    def i2i_run_started(self, run: Run) -> None:
        """Begin the display."""
        self._print(f"training {run.recipe.family} in {run.folder}")
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]} images/s, left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[terms]}"),
                console=self._console,
            )
            self._bar.start()

    @hookimpl
    def i2i_step_finished(self, run: Run, report: StepReport) -> None:
        """Move the bar, or print a line where one is due."""
        if run.stage != self._stage:
            self._begin_stage(run)
        seconds = time.perf_counter() - self._started[0]
        speed = (run.images - self._started[1]) / max(seconds, 1e-9)
        line = report.line
        terms = " ".join(f"{n} {v:.3f}" for n, v in line.terms.items()) if line else ""
        if self._bar is not None:
            task = self._bar.task_ids[-1]
            self._bar.update(task, completed=run.images, speed=f"{speed:.1f}")
            if terms:
                self._bar.update(task, terms=terms)
        elif terms:
            left = max(run.length - run.images, 0) / max(speed, 1e-9)
            self._print(
                f"{run.stage} {run.images}/{run.length} images, {speed:.1f} images/s, "
                f"{left / 60:.0f} min left: {terms}"
            )

    @hookimpl
    def i2i_run_finished(self, run: Run, outcome: str) -> None:
        """End the display with the outcome and what to do next."""
        if self._bar is not None:
            self._bar.stop()
        if outcome == "finished":
            text = f"finished: the model is {run.folder / 'model.safetensors'}"
        else:
            text = f"{outcome}: the checkpoint stays; i2i train --resume {run.folder} goes on"
        self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _begin_stage(self, run: Run) -> None:
        self._stage = run.stage
        self._started = (time.perf_counter(), run.images)
        if self._bar is not None:
            self._bar.add_task(
                run.stage, total=run.length, completed=run.images, speed="?", terms=""
            )
