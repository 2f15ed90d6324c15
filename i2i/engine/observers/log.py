"""``log.jsonl``: one line of means every few steps; only its ``time`` depends on the machine."""

import json
import time
from typing import IO, Any

from i2i.engine.run import Run, StepReport
from i2i.hookspecs import hookimpl


class JsonLog:
    """Appends to ``log.jsonl`` in the run folder."""

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._since = time.perf_counter()
        self._images = 0

    @hookimpl
    def i2i_run_started(self, run: Run) -> None:
        """Open the log, which the trainer has cut back to the checkpoint."""
        self._file = (run.folder / "log.jsonl").open("a", encoding="utf-8")
        self._since, self._images = time.perf_counter(), run.images

    @hookimpl
    def i2i_step_finished(self, run: Run, report: StepReport) -> None:
        """Write a line where one is due."""
        if report.line is None or self._file is None:
            return
        now = time.perf_counter()
        images = run.images - self._images
        line: dict[str, Any] = {
            "stage": run.stage,
            "step": run.step,
            "images": run.images,
            "terms": report.line.terms,
            "measured": report.line.measured,
            "learning_rates": report.rates,
            "time": {
                "at": round(time.time(), 3),
                "images_per_second": round(images / max(now - self._since, 1e-9), 3),
            },
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()  # for whoever watches it
        self._since, self._images = now, run.images

    @hookimpl
    def i2i_run_finished(self) -> None:
        """Close the log."""
        if self._file is not None:
            self._file.close()
