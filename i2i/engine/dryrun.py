"""What a folder job would do, from headers and hashes alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from i2i.engine.discovery import Plan, Task
from i2i.engine.job import check_family, check_variants, foreign_files
from i2i.engine.manifest import read_manifest
from i2i.engine.pictures import IF_TOO_LARGE, Pictures
from i2i.engine.records import Settings
from i2i.errors import I2IError
from i2i.imaging import picture_size, pillow_unbound
from i2i.model_file import Model


@dataclass(frozen=True)
class Forecast:
    """What would become of one picture, or of one variant of it."""

    input: Path
    output: Path
    status: str  # "translate", "kept", "in the way" (a file that no job wrote) or "fail"
    num_pixels: int = 0  # that would be translated
    error: str | None = None


def forecast(plan: Plan, model: Model, settings: Settings) -> Iterator[Forecast]:
    """Yield what a job would do with each picture; nothing is written, no pixel is decoded.

    Transparency, frames and damage behind a header are not seen. Raises UsageError as a job would
    for its family.
    """
    check_family(model, settings)
    check_variants(plan, model, settings)
    manifest = read_manifest(plan.out)
    pictures = Pictures(plan, model, settings, manifest)
    foreign = set() if settings.overwrite else {*foreign_files(plan, manifest)}
    for folder, reason in plan.unreadable:
        result = pictures.unreadable(folder, reason)
        yield Forecast(folder, plan.out, "fail", error=result.error)
    with pillow_unbound():
        for task in plan.tasks:
            if task.output in foreign:
                yield Forecast(task.input, task.output, "in the way")
                continue
            try:
                yield _forecast(task, pictures)
            except I2IError as error:
                yield Forecast(task.input, task.output, "fail", error=str(error))


def _forecast(task: Task, pictures: Pictures) -> Forecast:
    if kept := pictures.kept(task):
        return Forecast(task.input, Path(kept.output or task.output), "kept")
    size = picture_size(task.input, pictures.settings.max_pixels, if_too_large=IF_TOO_LARGE)
    placed, _ = pictures.placed(task, size, has_alpha=False)
    return Forecast(task.input, placed.output, "translate", size[0] * size[1])
