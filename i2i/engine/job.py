"""Translate a plan's pictures: threads decode, this thread computes, threads encode and write.

Between the three stand short queues, so memory is bounded whatever the number of pictures, and a
picture that fails at any of them fails alone.
"""

import errno
import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel
from torch import Tensor

from i2i.engine.discovery import Plan, Task
from i2i.engine.events import Events
from i2i.engine.inference import (
    Precision,
    Prepared,
    Restore,
    WorkSize,
    finish,
    forward,
    is_out_of_memory,
    prepare,
    resolve_work_size,
)
from i2i.errors import I2IError, ImageError, UsageError
from i2i.imaging import (
    MAX_PIXELS,
    Picture,
    contact_sheet,
    decode,
    encode,
    from_tensor,
    pillow_unbound,
    printable,
    read_bytes,
    read_picture,
    to_tensor,
)
from i2i.model_file import Model, write_atomically

_log = logging.getLogger(__name__)

_IF_TOO_LARGE = "raise --max-pixels if the file is to be trusted"
_NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows has no quota error


@dataclass(frozen=True)
class Settings:
    """How a job translates; everything but the last three may change the outputs' bytes."""

    request: BaseModel
    work_size: WorkSize = "native"
    restore_size: bool = True
    restore: Restore = "resize"
    precision: Precision = "float32"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch_size: int = 1  # sums in another order: the last bit of a pixel may differ
    num_workers: int = 2  # threads that decode, and as many that encode
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Result:
    """The record of one picture: what the report holds and the hook ``i2i_image_translated``."""

    input: str
    input_sha256: str | None
    output: str | None
    output_sha256: str | None
    model_sha256: str
    request: Mapping[str, Any]
    status: Literal["done", "failed"]
    error: str | None
    seconds: float  # of work on this picture, waiting left out

    def to_json(self) -> str:
        """Return the record as one line of ASCII: names that are no UTF-8 come back from it."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Summary:
    """What became of a job."""

    num_done: int
    num_failed: int
    num_skipped: int
    seconds: float
    interrupted: bool


@dataclass(frozen=True)
class _Opened:
    """A picture that is decoded and padded, and waits to be translated."""

    task: Task
    sha256: str
    picture: Picture
    prepared: Prepared
    seconds: float


def run_job(
    plan: Plan,
    model: Model,
    settings: Settings,
    events: Events,
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Translate every picture of ``plan``; each result goes to the hook ``i2i_image_translated``.

    When ``stop`` returns true, no further picture is begun, and those already translated are still
    written. Raises UsageError for an output folder that cannot be made, or a family whose pictures
    have neither one nor three channels; what goes wrong with one picture is in its result.
    """
    started = time.monotonic()
    _check_channels(model)
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder cannot be made ({error.strerror})",
            where=printable(plan.out),
            expected="a folder that can be written to",
            remedy="choose another with --out",
        ) from error
    model.translator.to(settings.device)
    job = _Job(model, settings)
    counts = {"done": 0, "failed": 0}
    with pillow_unbound():
        for result in job.results(plan.tasks, stop):
            counts[result.status] += 1
            events.tell("i2i_image_translated", result=result)
    num_done, num_failed = counts["done"], counts["failed"]
    seconds = time.monotonic() - started
    interrupted = num_done + num_failed < len(plan.tasks)
    return Summary(num_done, num_failed, plan.num_skipped, seconds, interrupted)


def make_sheet(results: Sequence[Result], max_pixels: int = MAX_PIXELS) -> Picture:
    """Return a contact sheet of results that are done, each input left of its output."""
    with pillow_unbound():
        pairs = [
            (
                read_picture(Path(result.input), max_pixels),
                # written by us a moment ago, and enlarged by some families
                read_picture(Path(result.output), 10**12),
            )
            for result in results
            if result.output is not None
        ]
    return contact_sheet(pairs)


class _Job:
    def __init__(self, model: Model, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.fit = model.translator.fit
        self.short_side = resolve_work_size(settings.work_size, self.fit)
        self.request = settings.request.model_dump(mode="json")
        self.bug_shown = False

    def results(self, tasks: Iterable[Task], stop: Callable[[], bool]) -> Iterator[Result]:
        """Yield the result of each picture as it is finished."""
        num_workers = self.settings.num_workers
        ahead = num_workers + self.settings.batch_size
        with (
            ThreadPoolExecutor(num_workers, "decode") as decoders,
            ThreadPoolExecutor(num_workers, "encode") as encoders,
        ):
            writing: deque[Future[Result]] = deque()
            opened = _map_ahead(decoders, self._open, tasks, ahead, stop)
            for group in self._groups(opened, stop):
                if isinstance(group, Result):
                    yield group
                    continue
                for each, output, seconds in self._translate(group):
                    writing.append(encoders.submit(self._write, each, output, seconds))
                while writing and (len(writing) > ahead or writing[0].done()):
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()

    def _groups(
        self, opened: Iterable[_Opened | Result], stop: Callable[[], bool]
    ) -> Iterator[list[_Opened] | Result]:
        """Gather pictures of one padded size into batches; few wait, and none for long."""
        batch_size = self.settings.batch_size
        waiting: dict[torch.Size, list[_Opened]] = {}
        for each in opened:
            if isinstance(each, Result):
                yield each
                continue
            shape = each.prepared.padded.shape
            waiting.setdefault(shape, []).append(each)
            if len(waiting[shape]) == batch_size:
                yield waiting.pop(shape)
            elif sum(map(len, waiting.values())) >= 4 * batch_size:
                yield waiting.pop(next(iter(waiting)))
        for group in waiting.values():
            if stop():
                return
            yield group

    def _open(self, task: Task) -> _Opened | Result:
        """Read, decode and pad one picture, in a thread; a failure becomes its result."""
        started = time.monotonic()
        sha256 = None
        try:
            content = read_bytes(task.input)
            sha256 = hashlib.sha256(content).hexdigest()
            picture = decode(
                content, str(task.input), self.settings.max_pixels, if_too_large=_IF_TOO_LARGE
            )
            tensor = to_tensor(picture.pixels, self.fit.channels_in)
            prepared = prepare(tensor, self.fit, self.short_side)
        except Exception as error:
            return self._failed(task, sha256, error, time.monotonic() - started)
        return _Opened(task, sha256, picture, prepared, time.monotonic() - started)

    def _translate(self, group: list[_Opened]) -> list[tuple[_Opened, Tensor | Exception, float]]:
        """Run the family on a batch; one that fails is tried again picture by picture."""
        started = time.monotonic()
        failure: Exception | None = None
        try:
            batch = torch.stack([each.prepared.padded for each in group])
            outputs: list[Tensor | Exception] = list(
                forward(
                    self.model.translator,
                    batch,
                    self.settings.request,
                    device=self.settings.device,
                    precision=self.settings.precision,
                )
            )
        except Exception as error:
            failure = error
        if failure is not None:
            if len(group) > 1:  # outside of the handler, which keeps the batch's memory alive
                del failure
                return [entry for each in group for entry in self._translate([each])]
            outputs = [failure]
        seconds = (time.monotonic() - started) / len(group)
        return [(each, output, seconds) for each, output in zip(group, outputs, strict=True)]

    def _write(self, opened: _Opened, output: Tensor | Exception, seconds: float) -> Result:
        """Undo the padding, encode and write one picture, in a thread."""
        started = time.monotonic()
        task = opened.task
        try:
            content = self._encoded(opened, output)
            sha256 = hashlib.sha256(content).hexdigest()
            save(task.output, content)
        except Exception as error:
            spent = opened.seconds + seconds + time.monotonic() - started
            return self._failed(task, opened.sha256, error, spent)
        return Result(
            input=str(task.input),
            input_sha256=opened.sha256,
            output=str(task.output),
            output_sha256=sha256,
            model_sha256=self.model.sha256,
            request=self.request,
            status="done",
            error=None,
            seconds=round(opened.seconds + seconds + time.monotonic() - started, 3),
        )

    def _encoded(self, opened: _Opened, output: Tensor | Exception) -> bytes:
        if isinstance(output, Exception):
            raise output
        where = str(opened.task.input)
        if not torch.isfinite(output).all():
            raise ImageError(
                "its translation is not a number",
                where=where,
                expected="values between -1 and 1",
                remedy="try --precision float32, or another model",
            )
        image = None
        if self.settings.restore == "detail" and opened.prepared.reduced:
            image = to_tensor(opened.picture.pixels, self.fit.channels_in)
        final = finish(output, opened.prepared, self.fit, self.settings.restore_size, image)
        picture = replace(opened.picture, pixels=from_tensor(final))
        return encode(picture, opened.task.format, where)

    def _failed(self, task: Task, sha256: str | None, error: Exception, seconds: float) -> Result:
        return Result(
            input=str(task.input),
            input_sha256=sha256,
            output=None,
            output_sha256=None,
            model_sha256=self.model.sha256,
            request=self.request,
            status="failed",
            error=printable(self._explain(error, str(task.input))),
            seconds=round(seconds, 3),
        )

    def _explain(self, error: Exception, where: str) -> str:
        """Return a message that names the picture, whatever kind of error it was."""
        if isinstance(error, I2IError):
            text = str(error)
            return text if text.startswith(where) else f"{where}: {text}"
        if is_out_of_memory(error):
            return str(
                ImageError(
                    "memory ran out",
                    where=where,
                    expected="a picture that fits in memory",
                    remedy="reduce it with --work-size, or lower --batch-size and --workers",
                )
            )
        if not self.bug_shown:  # a traceback for whoever can repair it, and not one a picture
            self.bug_shown = True
            name = printable(where)
            _log.error("translating %s failed unexpectedly", name, exc_info=error)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        family = self.model.header.family
        return str(
            ImageError(
                f"the family {family!r} failed on it ({reason})",
                where=where,
                expected="a translation",
                remedy=f"report it to the makers of {self.model.header.distribution}",
            )
        )


def _map_ahead(
    pool: ThreadPoolExecutor,
    work: Callable[[Task], _Opened | Result],
    tasks: Iterable[Task],
    ahead: int,
    stop: Callable[[], bool],
) -> Iterator[_Opened | Result]:
    """Yield ``work`` of each task, in order, with at most ``ahead`` of them under way."""
    pending: deque[Future[_Opened | Result]] = deque()
    for task in tasks:
        if stop():
            break
        pending.append(pool.submit(work, task))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending and not stop():
        yield pending.popleft().result()
    for future in pending:
        future.cancel()


def save(path: Path, content: bytes) -> None:
    """Write a picture's file, with its folder; raises ImageError where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        full = error.errno in _NO_SPACE
        raise ImageError(
            f"cannot be written ({error.strerror or error})",
            where=str(path),
            expected="space to write" if full else "a name that is free and may be written",
            remedy=f"{'free some space, or ' if full else ''}choose another folder with --out",
        ) from error


def _check_channels(model: Model) -> None:
    fit = model.translator.fit
    if not {fit.channels_in, fit.channels_out} <= {1, 3}:
        raise UsageError(
            f"it takes {fit.channels_in} channels and returns {fit.channels_out}",
            where=f"family {model.header.family!r}",
            expected="one (grey) or three (RGB), as picture files have",
            remedy="call its translate from Python",
        )
