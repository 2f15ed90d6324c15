"""What a folder job would do, from headers and hashes alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from i2i.engine.discovery import Plan
from i2i.engine.job import foreign_files
from i2i.engine.manifest import read_manifest
from i2i.engine.pictures import Pictures
from i2i.engine.records import Settings
from i2i.errors import I2IError
from i2i.imaging import picture_size, pillow_unbound
from i2i.model_file import Model


@dataclass(frozen=True)
class Forecast:
    """What would become of one picture: written, kept, replaced against the rules, or failed."""

    input: Path
    output: Path
    status: str  # "translate", "kept", "in the way" or "unreadable"
    num_pixels: int = 0  # that would be translated
    error: str | None = None


def forecast(plan: Plan, model: Model, settings: Settings) -> Iterator[Forecast]:
    """Yield what a job would do with each picture; nothing is written, no pixel is decoded."""
    manifest = read_manifest(plan.out)
    pictures = Pictures(plan, model, settings, manifest)
    foreign = set() if settings.overwrite else {*foreign_files(plan, manifest)}
    for folder, reason in plan.unreadable:
        yield Forecast(
            folder, plan.out, "unreadable", error=pictures.unreadable(folder, reason).error
        )
    with pillow_unbound():
        for task in plan.tasks:
            if task in foreign:
                yield Forecast(task.input, task.output, "in the way")
                continue
            try:
                if kept := pictures.kept(task):
                    yield Forecast(task.input, Path(kept.output or task.output), "kept")
                    continue
                height, width = picture_size(task.input)
            except I2IError as error:
                yield Forecast(task.input, task.output, "unreadable", error=str(error))
                continue
            yield Forecast(task.input, task.output, "translate", height * width)
