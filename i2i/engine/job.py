"""Translate a plan's pictures: threads decode, this thread computes, threads encode and write.

Between the three stand short queues, and no picture is begun while those under way fill a share of
memory; so memory is bounded whatever the number of pictures, and one that fails anywhere fails
alone.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from i2i.engine.compute import Computer
from i2i.engine.discovery import Plan, Task
from i2i.engine.ensemble import check_ensemble
from i2i.engine.events import Events
from i2i.engine.inference import reduced_size, resolve_work_size
from i2i.engine.manifest import Manifest, open_manifest
from i2i.engine.memory import available
from i2i.engine.opened import Opened
from i2i.engine.pictures import Pictures
from i2i.engine.records import Result, Settings, Summary
from i2i.engine.resample import Size
from i2i.engine.tiles import Source
from i2i.engine.variants import variants_of
from i2i.errors import I2IError, UsageError
from i2i.files import leftovers
from i2i.imaging import picture_size, pillow_unbound, printable
from i2i.model_file import Model

_SHARE = 1 / 3  # of the memory there is, for pictures under way
_BYTES_A_PIXEL = 8  # of a picture under way: RGBA in 8 bits, twice; 16 bits are rare


def run_job(
    plan: Plan,
    model: Model,
    settings: Settings,
    events: Events,
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Translate every picture of ``plan``; each result goes to the hook ``i2i_image_translated``.

    Pictures that an earlier job had done are kept. When ``stop`` returns true, no further picture
    is begun, and those already translated are still written. Raises UsageError for an output folder
    that cannot be made, that another job writes into or that holds files of others where outputs
    go, and for a family whose pictures have neither one nor three channels; what goes wrong with
    one picture is in its result.
    """
    started = time.monotonic()
    check_family(model, settings)
    check_variants(plan, model, settings)
    _make_folder(plan)
    model.translator.to(settings.device)
    counts: Counter[str] = Counter()
    notes: Counter[str] = Counter()

    def done_early() -> bool:
        return stop() or (settings.fail_fast and counts["failed"] > 0)

    with pillow_unbound(), open_manifest(plan.out) as manifest:
        if not settings.overwrite:
            _refuse_foreign(plan, manifest)
        for file in manifest.unfinished():
            for leftover in leftovers(plan.out / file):
                with suppress(OSError):  # untidy, and no reason to stop
                    leftover.unlink()
        for path in plan.extras:
            manifest.claim(plan.name_of(path), plan.name_of(path))
        job = _Job(plan, model, settings, manifest)
        record = _Recorder(plan, manifest, events)
        for result in job.results(done_early):
            counts[result.status] += 1
            notes.update(result.notes)
            if result.status != "kept":
                record(result)
            events.tell("i2i_image_translated", result=result)
    return Summary(
        num_done=counts["done"],
        num_kept=counts["kept"],
        num_failed=counts["failed"],
        num_skipped=plan.num_skipped,
        num_left=len(plan.tasks) + len(plan.unreadable) - counts.total(),
        seconds=time.monotonic() - started,
        notes=notes,
    )


class _Job:
    def __init__(self, plan: Plan, model: Model, settings: Settings, manifest: Manifest) -> None:
        self.plan, self.settings = plan, settings
        self.fit = model.translator.fit
        self.pictures = Pictures(plan, model, settings, manifest)
        self.computer = Computer(model.translator, settings)
        self.under_way = 0  # bytes

    def results(self, stop: Callable[[], bool]) -> Iterator[Result]:
        """Yield the result of each picture as it is finished."""
        for folder, reason in self.plan.unreadable:
            yield self.pictures.unreadable(folder, reason)
        num_workers = self.settings.num_workers
        with (
            ThreadPoolExecutor(num_workers, "decode") as decoders,
            ThreadPoolExecutor(num_workers, "encode") as encoders,
        ):
            writing: deque[tuple[Future[Result], int]] = deque()
            ahead = num_workers + self.settings.batch_size
            for group in self._groups(self._opened(decoders, ahead, stop), stop):
                if isinstance(group, Result):
                    yield group
                    continue
                for each, output, seconds in self._computed(group or []):
                    future = encoders.submit(self.pictures.write, each, output, seconds)
                    writing.append((future, each.cost))
                longest = ahead if group else 0
                while writing and (len(writing) > longest or writing[0][0].done()):
                    yield self._settled(writing.popleft())
            while writing:
                yield self._settled(writing.popleft())

    def _opened(
        self, decoders: ThreadPoolExecutor, ahead: int, stop: Callable[[], bool]
    ) -> Iterator[Opened | Result | None]:
        """Yield each picture as it is read, in order; None where memory is short for the next."""
        pending: deque[tuple[Future[Opened | Result], int]] = deque()
        for task in self.plan.tasks:
            cost = self._cost(task)
            while self.under_way and self.under_way + cost > self._budget():
                if not pending:
                    yield None  # whoever holds pictures lets go of them
                    break
                yield self._taken(pending.popleft())
            if stop():
                break
            self.under_way += cost
            pending.append((decoders.submit(self.pictures.open, task, cost), cost))
            if len(pending) > ahead:
                yield self._taken(pending.popleft())
        while pending and not stop():
            yield self._taken(pending.popleft())
        for future, _ in pending:
            future.cancel()

    def _groups(
        self, opened: Iterator[Opened | Result | None], stop: Callable[[], bool]
    ) -> Iterator[list[Opened] | Result | None]:
        """Gather pictures of one padded size and request into batches; none waits for long.

        None comes behind the last one where memory is short: all that is under way is to end.
        """
        waiting: dict[tuple[frozenset[Size], str], list[Opened]] = {}
        num_variants = len(self.plan.variants)
        for each in opened:
            batch_size = self.computer.batch_size
            if isinstance(each, Result):
                yield each
            elif each is None:
                yield from waiting.values()
                waiting.clear()
                yield None
            else:
                sizes = frozenset(work.frame.padded for work in each.works)
                key = sizes, each.task.variant
                waiting.setdefault(key, []).append(each)
                if sum(len(one.works) for one in waiting[key]) >= batch_size:
                    yield waiting.pop(key)
                elif sum(map(len, waiting.values())) >= 4 * batch_size * num_variants:
                    yield waiting.pop(next(iter(waiting)))
        for group in waiting.values():
            if stop():
                return
            yield group

    def _computed(
        self, group: list[Opened]
    ) -> list[tuple[Opened, list[Source] | Exception, float]]:
        if not group:
            return []
        started = time.monotonic()
        outputs = self.computer.compute_divided(
            [each.works for each in group],
            [each.dtype for each in group],
            self.pictures.requests[group[0].task.variant],
        )
        seconds = (time.monotonic() - started) / len(group)
        return [(each, output, seconds) for each, output in zip(group, outputs, strict=True)]

    def _cost(self, task: Task) -> int:
        """Estimate the bytes that a picture takes while it is under way, from its header."""
        try:
            height, width = picture_size(task.input)
        except I2IError:
            return 0  # it will say so when it is read
        enlarged = 1 + self.fit.scale**2
        cost = height * width * _BYTES_A_PIXEL * enlarged // 2
        seen = self.fit.exact_size or reduced_size((height, width), self.pictures.short_side)
        if seen != (height, width):  # it waits in float32, and so does its result
            cost += seen[0] * seen[1] * 4 * 3 * enlarged
        if self.settings.box is not None:  # reduced while the whole result is there
            final = self.pictures.sizes.final((height, width))
            cost += final[0] * final[1] * _BYTES_A_PIXEL // 2
        return cost

    def _budget(self) -> int:
        return int((available() + self.under_way) * _SHARE)

    def _taken(self, entry: tuple[Future[Opened | Result], int]) -> Opened | Result:
        result = entry[0].result()
        if isinstance(result, Opened):
            result = self.pictures.divided(result)
        if isinstance(result, Result):
            self.under_way -= entry[1]
        return result

    def _settled(self, entry: tuple[Future[Result], int]) -> Result:
        result = entry[0].result()
        self.under_way -= entry[1]
        return result


def _make_folder(plan: Plan) -> None:
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder cannot be made ({error.strerror})",
            where=printable(plan.out),
            expected="a folder that can be written to",
            remedy="choose another with --out",
        ) from error


def _refuse_foreign(plan: Plan, manifest: Manifest) -> None:
    """Raise UsageError where an output's place holds a file that no job has written."""
    foreign = foreign_files(plan, manifest)
    if foreign:
        more = f" (and {len(foreign) - 1} other files)" if len(foreign) > 1 else ""
        raise UsageError(
            f"no i2i job wrote this file{more}, and an output would replace it",
            where=printable(foreign[0]),
            expected="names that are free, or outputs of an earlier job",
            remedy="choose another folder with --out, or allow it with --overwrite",
        )


def foreign_files(plan: Plan, manifest: Manifest) -> list[Path]:
    """Return the places of outputs that hold a file which no job wrote."""
    return [
        path
        for path in (*(task.output for task in plan.tasks), *plan.extras)
        if path.is_file() and not manifest.owns(plan.name_of(path))
    ]


class _Recorder:
    """Writes results to the manifest; says once that it cannot, for pictures matter more."""

    def __init__(self, plan: Plan, manifest: Manifest, events: Events) -> None:
        self._plan, self._manifest, self._events = plan, manifest, events
        self._said = False

    def __call__(self, result: Result) -> None:
        file = None if result.output is None else self._plan.name_of(Path(result.output))
        try:
            self._manifest.record({**asdict(result), "file": file})
        except OSError as error:
            if not self._said:
                self._said = True
                self._events.warn(
                    f"the job's manifest cannot be written ({error.strerror or error}): what is "
                    "done from here will be done again if the job is started again"
                )


def check_variants(plan: Plan, model: Model, settings: Settings) -> None:
    """Raise UsageError for a plan that was made for other variants than the request stands for."""
    family = type(model.translator)
    wanted = tuple(variants_of(family, settings.request))
    if plan.variants != wanted:
        raise UsageError(
            f"the plan has the variants {', '.join(map(repr, plan.variants))}",
            where=f"family {family.name!r}",
            expected=f"{', '.join(map(repr, wanted))}, as the request stands for",
            remedy="pass variants=tuple(variants_of(family, request)) to make_plan",
        )


def check_family(model: Model, settings: Settings) -> None:
    """Raise UsageError for a family that no picture file can be given to, or not in this size."""
    fit = model.translator.fit
    resolve_work_size(settings.work_size, fit)
    if settings.ensemble:
        check_ensemble(fit)
    if not {fit.channels_in, fit.channels_out} <= {1, 3}:
        raise UsageError(
            f"it takes {fit.channels_in} channels and returns {fit.channels_out}",
            where=f"family {model.header.family!r}",
            expected="one (grey) or three (RGB), as picture files have",
            remedy="call its translate from Python",
        )
