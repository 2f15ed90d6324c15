"""One picture of a folder job, from its file to the file of its translation."""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from i2i.engine.discovery import Plan, Task
from i2i.engine.inference import (
    adds_detail,
    begin,
    compose,
    divide,
    is_out_of_memory,
    resized_pixels,
    resolve_work_size,
)
from i2i.engine.manifest import NAME, Manifest
from i2i.engine.opened import Opened
from i2i.engine.outputs import save, unwritten
from i2i.engine.records import Result, Settings
from i2i.engine.resample import Size
from i2i.engine.sizes import Sizes, fitting_size
from i2i.engine.tiles import Source
from i2i.engine.variants import variants_of
from i2i.errors import I2IError, ImageError
from i2i.imaging import (
    Picture,
    decode,
    encode,
    fill_hidden,
    fitted,
    greyed,
    holds_16_bits,
    left_out,
    on_white,
    printable,
    read_bytes,
    refusal,
    scaled_density,
    without_gps,
)
from i2i.model_file import Model
from i2i.provenance import COMPOSITE, TRAINED, Provenance, stamp
from i2i.signing import check_format

_log = logging.getLogger(__name__)

IF_TOO_LARGE = "raise --max-pixels if the file is to be trusted"


class Pictures:
    """Opens and writes the pictures of one job; both run in threads."""

    def __init__(self, plan: Plan, model: Model, settings: Settings, manifest: Manifest) -> None:
        self.plan, self.model, self.settings, self.manifest = plan, model, settings, manifest
        self.fit = model.translator.fit
        self.short_side = resolve_work_size(settings.work_size, self.fit)
        self.sizes = Sizes(self.short_side, settings.restore_size, self.fit.scale, settings.box)
        self.requests = variants_of(type(model.translator), settings.request)  # by variant
        asked = {"": settings.request} | self.requests
        self._said = {name: each.model_dump(mode="json") for name, each in asked.items()}
        self.options = settings.options()
        # Manifests inside an input may say where it was taken
        self._signs_inputs = settings.signing is not None and not settings.strip_gps
        self.bug_shown = False

    def open(self, task: Task, cost: int) -> Opened | Result:
        """Read and decode one picture; a failure, and one done before, become its result."""
        started = time.monotonic()
        name = self.plan.name_of(task.output)
        sha256 = None
        try:
            content = read_bytes(task.input)
            sha256 = hashlib.sha256(content).hexdigest()
            if kept := self._kept(task, name, sha256):
                return kept
            picture = decode(
                content,
                str(task.input),
                self.settings.max_pixels,
                if_too_large=IF_TOO_LARGE,
                frames=self.settings.frames,
            )
            begun = self._begun(task, name, sha256, picture, cost, started)
            return replace(begun, content=content) if self._signs_inputs else begun
        except Exception as error:
            return self._failed(task, name, sha256, error, time.monotonic() - started)

    def divided(self, opened: Opened) -> Opened | Result:
        """Ask the family for the regions of a picture: where the model runs, and nowhere else."""
        started = time.monotonic()
        request = self.requests[opened.task.variant]
        try:
            works = divide(self.model.translator, opened.works[0].whole, request, self.short_side)
        except Exception as error:
            spent = opened.seconds + time.monotonic() - started
            return self._failed(opened.task, opened.name, opened.sha256, error, spent)
        if not works:
            return opened
        notes = *opened.notes, f"{len(works)} region{'s'[: len(works) > 1]} translated"
        seconds = opened.seconds + time.monotonic() - started
        return replace(opened, works=tuple(works), notes=notes, seconds=seconds)

    def write(
        self, opened: Opened, outputs: Sequence[Source] | Exception, seconds: float
    ) -> Result:
        """Finish, encode and write one picture."""
        started = time.monotonic()
        task = opened.task
        try:
            if isinstance(outputs, Exception):
                raise outputs
            content, notes = self._encoded(opened, outputs)
            self._check_free(task.output)
            self._claim(opened.name, task.output)
            save(task.output, content)
        except Exception as error:
            spent = opened.seconds + seconds + time.monotonic() - started
            return self._failed(task, opened.name, opened.sha256, error, spent)
        return self._result(
            task,
            opened.name,
            "done",
            input_sha256=opened.sha256,
            output=str(task.output),
            output_sha256=hashlib.sha256(content).hexdigest(),
            notes=(*opened.notes, *notes),
            seconds=opened.seconds + seconds + time.monotonic() - started,
        )

    def kept(self, task: Task) -> Result | None:
        """Return the result of a picture that was done before; raises ImageError if unreadable."""
        name = self.plan.name_of(task.output)
        if self.manifest.find(name) is None:  # which spares reading it
            return None
        return self._kept(task, name, hashlib.sha256(read_bytes(task.input)).hexdigest())

    def placed(self, task: Task, size: Size, *, has_alpha: bool) -> tuple[Task, list[str]]:
        """Return the task in a format that can hold its result, and what is to be said of it.

        ``size`` is the picture's. Raises ImageError where no format can, or the place is taken.
        """
        if self.settings.signing is not None:
            check_format(task.format, str(task.input))
        reason = refusal(task.format, self.sizes.final(size), has_alpha=has_alpha)
        notes = []
        if reason is not None:
            if task.fallback is None:
                too_large = refusal(task.format, (1, 1), has_alpha=has_alpha) is None
                smaller = ", or a smaller result with --max-side" if too_large else ""
                raise ImageError(
                    f"{task.format} cannot hold the translation ({reason})",
                    where=str(task.input),
                    expected="a format that can",
                    remedy=f"choose another with --format, such as png{smaller}",
                )
            notes.append(f"written as PNG, as {task.format} cannot hold it ({reason})")
            task = replace(task, output=task.fallback, format="png")
        self._check_free(task.output)
        return task, notes

    def unreadable(self, folder: Path, reason: str) -> Result:
        """Return the result of a folder that could not be looked into."""
        error = ImageError(
            f"the folder cannot be read ({reason})",
            where=str(folder),
            expected="a readable folder",
            remedy="correct its permissions, and start the job again",
        )
        task = Task(folder, self.plan.out, "")
        return self._failed(task, "", None, error, 0)

    def _begun(
        self,
        task: Task,
        name: str,
        sha256: str,
        picture: Picture,
        cost: int,
        started: float,
    ) -> Opened:
        notes = []
        if picture.alpha is not None and self.settings.background == "white":
            picture = on_white(picture)
            notes.append("laid on white, as translate.background says; the result is opaque")
        pixels = picture.pixels
        if picture.alpha is not None:
            pixels = fill_hidden(pixels, picture.alpha)
        work = begin(pixels, self.fit, self.short_side, self.settings.restore_size)
        task, more = self.placed(task, picture.size, has_alpha=picture.alpha is not None)
        notes += more
        sixteen = pixels.dtype == np.uint16 and holds_16_bits(task.format)
        if pixels.dtype == np.uint16 and not sixteen:
            notes.append(f"16 bits became 8, as {task.format} holds no more")
        if picture.is_grey and self.fit.channels_out == 3 and not self.fit.keeps_grey:
            notes.append("grey became RGB, as the family's results are")
        notes += self.sizes.notes(picture.size)
        return Opened(
            task=task,
            name=name,
            sha256=sha256,
            content=None,
            picture=picture,
            works=(work,),
            dtype=np.dtype(np.uint16 if sixteen else np.uint8),
            notes=(*picture.notes, *notes),
            seconds=time.monotonic() - started,
            cost=cost,
        )

    def _check_free(self, output: Path) -> None:
        """Raise ImageError where what lies in an output's place must stay there."""
        owned = self.manifest.owns(self.plan.name_of(output)) or self.settings.overwrite
        if output.is_dir() or (output.is_file() and not owned):
            kind = "folder" if output.is_dir() else "file that no i2i job wrote"
            raise ImageError(
                f"a {kind} is in the way",
                where=str(output),
                expected="a name that is free",
                remedy="move it away, choose another folder with --out, or use --overwrite",
            )

    def _claim(self, name: str, output: Path) -> None:
        try:
            self.manifest.claim(name, self.plan.name_of(output))
        except OSError as error:
            raise unwritten(self.plan.out / NAME, error) from error

    def _encoded(self, opened: Opened, outputs: Sequence[Source]) -> tuple[bytes, tuple[str, ...]]:
        """Return the file of a result, and what of its metadata the format has no room for."""
        settings, picture, dtype = self.settings, opened.picture, opened.dtype
        pixels = compose(picture.pixels, opened.works, outputs, self.fit, settings.restore, dtype)
        assert isinstance(pixels, np.ndarray)
        if picture.is_grey and self.fit.keeps_grey and pixels.shape[2] == 3:
            pixels = greyed(pixels)
        if opened.in_regions:  # the photograph was not reduced, only its crops
            size = fitting_size(picture.size, settings.box)
        else:
            size = self.sizes.final(picture.size)
        pixels = resized_pixels(pixels, size, dtype, "lanczos")
        alpha = picture.alpha
        if alpha is not None:  # bicubic throughout: Lanczos rings, which shows where nothing is
            alpha = resized_pixels(alpha, size, dtype)
        # By the longer side, of which rounding to a pixel is the smaller part
        metadata = scaled_density(picture.metadata, max(size) / max(picture.size))
        if settings.strip_gps:
            metadata = without_gps(metadata)
        provenance = self._provenance(opened)
        format_, where = opened.task.format, str(opened.task.input)
        result = Picture(pixels, alpha, metadata)
        notes = left_out(result, format_, keep_profile=settings.keep_profile)
        stamped = stamp(metadata, provenance if settings.provenance else None)
        stamped, more = fitted(stamped, format_)
        result = replace(result, metadata=stamped)
        content = encode(result, format_, where, keep_profile=settings.keep_profile)
        if settings.signing is not None:
            content = settings.signing.sign(content, format_, where, provenance, opened.content)
        return content, (*notes, *more)

    def _provenance(self, opened: Opened) -> Provenance:
        header = self.model.header
        detailed = self.settings.restore == "detail" and adds_detail(opened.works[0], self.fit)
        asked = {"request": self._said[opened.task.variant], "options": self.options}
        return Provenance(
            digital_source_type=COMPOSITE if detailed or opened.in_regions else TRAINED,
            recipe=self.settings.recipe or "",
            family=header.family,
            version=header.distribution,
            model_sha256=self.model.sha256,
            request=json.dumps(asked, sort_keys=True),
            input_sha256=opened.sha256,
        )

    def _kept(self, task: Task, name: str, sha256: str) -> Result | None:
        """Return the result of a picture that was done before, where all of it still holds."""
        record = self.manifest.find(name)
        if self.settings.overwrite or record is None:
            return None
        places = [self.plan.name_of(each) for each in (task.output, task.fallback) if each]
        wanted = {
            "input_sha256": sha256,
            "model_sha256": self.model.sha256,
            "request": self._said[task.variant],
            "options": self.options,
        }
        different = any(record[key] != value for key, value in wanted.items())
        if different or record["file"] not in places:
            if record["input_sha256"] != sha256:
                self._check_same_input(task, Path(record["input"]))
            return None
        output = self.plan.out / record["file"]
        try:
            same = hashlib.sha256(output.read_bytes()).hexdigest() == record["output_sha256"]
        except OSError:
            return None
        if not same:
            return None
        return self._result(
            task,
            name,
            "kept",
            input_sha256=sha256,
            output=str(output),
            output_sha256=record["output_sha256"],
            notes=tuple(record["notes"]),
        )

    def _check_same_input(self, task: Task, before: Path) -> None:
        """Raise ImageError where a place holds the translation of another picture that exists."""
        try:
            other = not before.samefile(task.input)
        except OSError:  # it is no more: this one has taken its place
            return
        if other:
            raise ImageError(
                f"its place holds the translation of another picture, {before}",
                where=str(task.input),
                expected="one folder of outputs for each folder of inputs",
                remedy="choose another folder with --out, or use --overwrite",
            )

    def _failed(
        self, task: Task, name: str, sha256: str | None, error: Exception, seconds: float
    ) -> Result:
        text = printable(self._explain(error, str(task.input)))
        return self._result(task, name, "failed", input_sha256=sha256, error=text, seconds=seconds)

    def _result(
        self,
        task: Task,
        name: str,
        status: Literal["done", "kept", "failed"],
        *,
        input_sha256: str | None,
        output: str | None = None,
        output_sha256: str | None = None,
        error: str | None = None,
        notes: tuple[str, ...] = (),
        seconds: float = 0.0,
    ) -> Result:
        return Result(
            name=name,
            input=str(task.input),
            input_sha256=input_sha256,
            output=output,
            output_sha256=output_sha256,
            model_sha256=self.model.sha256,
            request=self._said[task.variant],
            options=self.options,
            status=status,
            error=error,
            notes=notes,
            seconds=round(seconds, 3),
            variant=task.variant,
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
                    remedy="reduce it with --work-size, or lower --workers",
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
