"""Translate the sources of pairs, and measure how near the results come to their targets.

What a table compares was measured on the same pictures: one that fails for the model counts for
the baseline neither, and is named.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import numpy as np
from PIL import Image

from i2i.engine.compute import Computer
from i2i.engine.inference import begin, finish, is_out_of_memory, resolve_work_size
from i2i.engine.job import check_family
from i2i.engine.memory import available
from i2i.engine.pairs import Pair
from i2i.engine.records import Settings
from i2i.engine.resample import Size
from i2i.engine.variants import only_request
from i2i.errors import DataError, I2IError, ImageError
from i2i.imaging import Picture, Pixels, on_white, pillow_unbound, printable, read_picture, rgb8
from i2i.metrics import Metric, Score, score_of
from i2i.metrics.metric import Bytes
from i2i.metrics.score import plain
from i2i.model_file import Model
from i2i.translator import Translator

_log = logging.getLogger(__name__)

_PACKAGES = ("i2i-gan", "numpy", "pillow", "pyvips", "torch")
"""What decodes, computes and measures: their versions are in a report."""


@dataclass(frozen=True)
class Measured:
    """What the metrics said of one picture, by their names, or why they could say nothing."""

    pair: Pair
    size: Size | None = None  # of the result: height and width in pixels
    pixels_sha256: str = ""  # of the source's and the target's pixels
    model: Mapping[str, Any] | None = None
    baseline: Mapping[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """The scores of the model and of doing without it, on the same pictures."""

    pictures: tuple[Measured, ...]
    model: tuple[Score, ...]
    baseline: tuple[Score, ...]
    per_picture: tuple[str, ...] = ()  # the metrics whose values say something of a picture alone

    @property
    def num_measured(self) -> int:
        """How many pictures the scores are over."""
        return sum(each.error is None for each in self.pictures)


def evaluate(
    model: Model,
    pairs: Sequence[Pair],
    metrics: Sequence[Metric],
    settings: Settings,
    data: str,
    on_picture: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Translate and measure ``pairs``; ``data`` names them in the scores.

    The metrics are prepared already. One picture is in memory at a time, in tiles where the family
    allows them; transparent ones are laid on white, as in training. ``on_picture`` hears how many
    are done. Raises UsageError as a job would for its family, and for a request for several
    variants; what goes wrong with one picture is in its place, and there are no scores where all
    went wrong.
    """
    check_family(model, settings)
    request = only_request(type(model.translator), settings.request)
    settings = replace(settings, request=request)
    model.translator.to(settings.device)
    bench = _Bench(model.translator, metrics, settings)
    pictures = []
    with pillow_unbound():
        for done, pair in enumerate(pairs, start=1):
            pictures.append(bench.measured(pair))
            on_picture(done)
    good = [each for each in pictures if each.error is None]
    scale = model.translator.fit.scale
    digest = hashlib.sha256("".join(each.pixels_sha256 for each in good).encode()).hexdigest()

    def scores(said: Sequence[Mapping[str, Any] | None]) -> tuple[Score, ...]:
        values = [each for each in said if each is not None]
        return tuple(
            score_of(metric, scale, data, digest, [each[metric.name] for each in values])
            for metric in metrics
            if values
        )

    return Evaluation(
        tuple(pictures),
        scores([each.model for each in good]),
        scores([each.baseline for each in good]),
        tuple(metric.name for metric in metrics if metric.per_picture),
    )


def baseline_name(scale: int) -> str:
    """Return what the results are compared with: no model at all."""
    return "Pillow bicubic" if scale > 1 else "the source itself"


def report(
    name: str, model: Model, settings: Settings, data: Mapping[str, Any], evaluation: Evaluation
) -> dict[str, Any]:
    """Return all that was found as JSON may hold it, "inf" and "nan" standing for such numbers.

    ``name`` is what the model is called, ``data`` what is to be said of the pictures.
    """
    options = {
        key: getattr(settings, key)
        for key in ("work_size", "restore", "precision", "ensemble", "tile")
    }
    said = {
        "model": {
            "name": name,
            "sha256": model.sha256,
            "family": model.header.family,
            "distribution": model.header.distribution,
            "request": settings.request.model_dump(mode="json"),
        },
        "settings": {**options, "device": str(settings.device)},
        "data": {**data, "num_measured": evaluation.num_measured},
        "scores": {
            "model": [score.to_dict() for score in evaluation.model],
            "baseline": [score.to_dict() for score in evaluation.baseline],
        },
        "pictures": [_record(each, evaluation.per_picture) for each in evaluation.pictures],
        "versions": {name: _version(name) for name in _PACKAGES},
    }
    return cast("dict[str, Any]", plain(said))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # such as ours, run from a checkout that is not installed
        return None


def _record(picture: Measured, per_picture: Sequence[str]) -> dict[str, Any]:
    def values(said: Mapping[str, Any] | None) -> dict[str, Any] | None:
        return None if said is None else {name: said[name] for name in per_picture}

    pair = picture.pair
    return {
        "name": pair.name,
        "source": printable(pair.source.path),
        "target": printable(pair.target.path),
        "size": None if picture.size is None else [picture.size[1], picture.size[0]],
        "pixels_sha256": picture.pixels_sha256 or None,
        "model": values(picture.model),
        "baseline": values(picture.baseline),
        "error": picture.error,
    }


class _Bench:
    """Measures picture after picture; remembers what memory allows."""

    def __init__(
        self, translator: Translator, metrics: Sequence[Metric], settings: Settings
    ) -> None:
        self.fit, self.metrics, self.settings = translator.fit, metrics, settings
        self.computer = Computer(translator, settings)
        self.short_side = resolve_work_size(settings.work_size, self.fit)
        self.bug_shown = False

    def measured(self, pair: Pair) -> Measured:
        """Translate and measure one pair; a failure is in what is returned."""
        try:
            return self._measured(pair)
        except Exception as error:
            text = printable(self._explain(error, pair))
            return Measured(pair, error=text)

    def _measured(self, pair: Pair) -> Measured:
        source, target = _read(pair)
        result = self._translated(source)
        shown = rgb8(Picture(source))
        size = result.shape[0], result.shape[1]
        target = _aligned(rgb8(Picture(target)), size, self.fit.scale, pair)
        self._check_size(size, pair)
        enlarged = _enlarged(shown, self.fit.scale)
        digest = hashlib.sha256()
        for pixels in (shown, target):
            digest.update(str(pixels.shape).encode())
            digest.update(np.ascontiguousarray(pixels).data)
        return Measured(
            pair,
            size,
            digest.hexdigest(),
            model=self._values(result, target),
            baseline=self._values(enlarged, target),
        )

    def _translated(self, source: Pixels) -> Bytes:
        eight = np.dtype(np.uint8)
        work = begin(source, self.fit, self.short_side, restore_size=True)
        output = self.computer.compute([work], [eight])[0]
        if isinstance(output, Exception):
            raise output
        pixels = finish(output, work, self.fit, self.settings.restore, eight)
        assert isinstance(pixels, np.ndarray)
        return rgb8(Picture(pixels))

    def _values(self, result: Bytes, target: Bytes) -> dict[str, Any]:
        scale = self.fit.scale
        return {each.name: each.measure(result, target, scale) for each in self.metrics}

    def _check_size(self, size: Size, pair: Pair) -> None:
        for metric in self.metrics:
            smallest = metric.smallest(self.fit.scale)
            if min(size) < smallest:
                raise ImageError(
                    f"its {size[1]}x{size[0]} pixels are too few for {metric.name}",
                    where=str(pair.target.path),
                    expected=f"at least {smallest} a side",
                    remedy="leave it out, or choose other --metrics",
                )
            needed, free = size[0] * size[1] * metric.bytes_a_pixel, available()
            if needed > free:
                raise ImageError(
                    f"measuring {metric.name} of {size[1]}x{size[0]} pixels needs about "
                    f"{needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free",
                    where=str(pair.target.path),
                    expected="a picture that fits in memory",
                    remedy="leave it out, or choose other --metrics",
                )

    def _explain(self, error: Exception, pair: Pair) -> str:
        """Return a message that names the picture, whatever kind of error it was."""
        where = str(pair.source.path)
        if isinstance(error, I2IError):
            text = str(error)
            named = any(text.startswith(str(part.path)) for part in (pair.source, pair.target))
            return text if named else f"{where}: {text}"
        if is_out_of_memory(error):
            wrong, remedy = "memory ran out", "give a smaller --tile, or leave it out"
        else:
            if not self.bug_shown:  # a traceback for whoever can repair it, and not one a picture
                self.bug_shown = True
                _log.error("measuring %s failed unexpectedly", printable(where), exc_info=error)
            wrong = " ".join(f"failed unexpectedly ({type(error).__name__}: {error})".split())
            remedy = "report it to the makers of the family or of the metrics"
        return str(ImageError(wrong, where=where, expected="a measured picture", remedy=remedy))


def _read(pair: Pair) -> tuple[Pixels, Pixels]:
    """Return the pixels of source and target; a file is read once."""
    paths = dict.fromkeys((pair.source.path, pair.target.path))
    files = {path: on_white(read_picture(path)).pixels for path in paths}
    source, target = (part.cut(files[part.path]) for part in (pair.source, pair.target))
    return source, target


def _aligned(target: Bytes, size: Size, scale: int, pair: Pair) -> Bytes:
    """Cut off what no whole pixel of the source stands for: fewer than ``scale`` rows, columns."""
    height, width = target.shape[:2]
    if not (0 <= height - size[0] < scale and 0 <= width - size[1] < scale):
        raise DataError(
            f"the target has {width}x{height} pixels, and the result {size[1]}x{size[0]}",
            where=str(pair.target.path),
            expected=f"{scale} times the source's size" if scale > 1 else "the source's size",
            remedy="correct the data folder, or choose another --layout",
        )
    return target[: size[0], : size[1]]


def _enlarged(source: Bytes, scale: int) -> Bytes:
    """Return the picture as large as the model's results are, without a model."""
    if scale == 1:
        return source
    size = source.shape[1] * scale, source.shape[0] * scale
    return np.asarray(Image.fromarray(source).resize(size, Image.Resampling.BICUBIC))
