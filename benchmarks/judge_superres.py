"""Judge models that enlarge four times: how near results come to what the pictures were.

    python benchmarks/judge_superres.py MODEL[@KEY=VALUE] [MODEL ...] [--set KEY=VALUE]
        [--data DIR] [--judge FILE.pth] [--pictures N] [--json FILE] [--sheet FILE.png]

Protocol ``superres-effnet-1``, also in benchmarks/README.md:

1. Pictures: every pair of ``HR`` and ``LR`` of the data folder, 8-bit RGB; BSD100, unless told.
   What of a target no whole pixel of its source stands for is cut off at the right and below.
2. Enlarging: as ``i2i translate`` does, by the engine's ``translate_batch`` in float32, with the
   model file's request and what ``--set``, or ``@`` behind a model, changes of it; the result
   rounded to 8 bits. Pillow's bicubic and Lanczos filters are judged as well.
3. PSNR and SSIM of the brightness: the metrics ``psnr_y`` and ``ssim_y`` of ``i2i evaluate``.
4. Feature distance: the metric ``features``, SqueezeNet 1.0 with unit weights. Models may have been
   trained with this network: it says nothing against one that was not.
5. EffNet distance: the same formula in the features of EfficientNet-lite0, which no training here
   saw: ``effnet.py``. It decides between vivid models, for PSNR favours a blur.

Each is the mean over pictures, with its standard error. Two models are compared picture by picture:
the mean of the differences and its standard error, which is far smaller than that of either mean.
"""

import argparse
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from effnet import EffNetDistance
from numpy.typing import NDArray
from PIL import Image

from i2i.cli.chosen import Chosen, choose
from i2i.data.loading import read_rgb
from i2i.engine.inference import translate_batch
from i2i.errors import DataError, I2IError, UsageError
from i2i.imaging import from_tensor, to_tensor
from i2i.metrics import Metric
from i2i.metrics.score import plain
from i2i.plugins import Plugins, load_plugins

PROTOCOL = "superres-effnet-1"
DECIDING, BETTER = "effnet_distance", "lower"  # for tools/ship.py
METRICS = ("psnr_y", "ssim_y", "features")
FILTERS = {"Pillow bicubic": Image.Resampling.BICUBIC, "Pillow Lanczos": Image.Resampling.LANCZOS}
SCALE = 4
CELL, GAP = 160, 4  # pixels of a sheet

Pixels = NDArray[np.uint8]  # (H, W, 3)
Values = dict[str, NDArray[np.float64]]  # of each picture, by metric


@dataclass(frozen=True)
class Pair:
    """A low-resolution picture and the one it was made of, four times its size."""

    name: str
    low: Pixels
    high: Pixels


@dataclass(frozen=True)
class Judged:
    """What one way to enlarge reaches: the values of each picture, and what is to be said of it."""

    name: str
    values: Values
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A model of the command line, with what is asked of it."""

    path: Path
    settings: tuple[str, ...] = ()  # "key=value"

    @property
    def name(self) -> str:
        """The file's name, as tools/ship.py looks for it, and what was changed."""
        return " ".join((self.path.name, *self.settings))


def read_pairs(data: Path, count: int | None = None) -> list[Pair]:
    """Read the pairs of ``data``/HR and ``data``/LR, all or ``count`` evenly spread, by name."""
    if not all((data / folder).is_dir() for folder in ("HR", "LR")):
        raise DataError(
            "it has no folders HR and LR",
            where=str(data),
            expected="a benchmark of the literature, such as BSD100",
            remedy="give its folder with --data, or set I2I_SHARED_DATA",
        )
    names = sorted(path.name for path in (data / "HR").iterdir())
    if count is not None:
        count = min(count, len(names))
        names = [names[place * len(names) // count] for place in range(count)]
    return [_pair(data, name) for name in names]


def enlarged(chosen: Chosen, low: Pixels) -> Pixels:
    """Enlarge one picture, step 2 of the protocol."""
    (result,) = translate_batch(
        chosen.model.translator,
        [to_tensor(low)],
        chosen.request,
        work_size=chosen.defaults.work_size,
        restore=chosen.defaults.restore,
    )
    return from_tensor(result).astype(np.uint8, copy=False)


def resized(low: Pixels, kind: Image.Resampling) -> Pixels:
    """Enlarge one picture by a filter of Pillow's."""
    size = low.shape[1] * SCALE, low.shape[0] * SCALE
    return np.asarray(Image.fromarray(low).resize(size, kind))


def measure(results: Sequence[Pixels], pairs: Sequence[Pair], metrics: Sequence[Metric]) -> Values:
    """Measure each result against its pair's target, steps 3 to 5 of the protocol."""
    return {
        metric.name: np.array(
            [
                metric.measure(result, pair.high, SCALE)
                for result, pair in zip(results, pairs, strict=True)
            ]
        )
        for metric in metrics
    }


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean and its standard error: NaN for one value alone, or an infinite one."""
    count = len(values)
    if count < 2 or not np.isfinite(values).all():
        return float(values.mean()), math.nan
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(count)


def row(judged: Judged) -> dict[str, Any]:
    """Return one line of the table, and one object of the JSON file."""
    said: dict[str, Any] = {"name": judged.name}
    for name, values in judged.values.items():
        mean, error = mean_and_error(values)
        said |= {name: mean, f"{name}_se": error}
    return said | dict(judged.about)


def difference(one: Judged, other: Judged, metrics: Sequence[Metric]) -> dict[str, Any]:
    """Return by how much ``one`` exceeds ``other``, picture by picture, and where it is better."""
    said: dict[str, Any] = {"name": f"{one.name} minus {other.name}"}
    for metric in metrics:
        with np.errstate(invalid="ignore"):  # two exact results: infinite PSNR
            apart = one.values[metric.name] - other.values[metric.name]
        mean, error = mean_and_error(apart)
        better = apart > 0 if metric.better == "higher" else apart < 0
        said |= {
            metric.name: mean,
            f"{metric.name}_se": error,
            f"{metric.name}_num_better": int(better.sum()),
        }
    return said


def judge(
    asked: Sequence[Asked], pairs: Sequence[Pair], metrics: Sequence[Metric], plugins: Plugins
) -> tuple[list[Judged], list[list[Pixels]]]:
    """Judge Pillow's filters and every model; returns the models' results too."""
    chosen = [choose(None, each.path, each.settings, plugins) for each in asked]
    for each, found in zip(asked, chosen, strict=True):
        scale = found.model.translator.fit.scale
        if scale != SCALE:
            raise _other_scale(each, scale)
        enlarged(found, pairs[0].low[:16, :16])  # what is refused is said before the work
    judged = []
    for name, kind in FILTERS.items():
        results = [resized(pair.low, kind) for pair in pairs]
        judged.append(Judged(name, measure(results, pairs, metrics)))
    shown = []
    for each, found in zip(asked, chosen, strict=True):
        started = time.process_time()
        shown.append([enlarged(found, pair.low) for pair in pairs])
        print(f"{each.name}: {time.process_time() - started:.1f} processor seconds", flush=True)
        about = {
            "request": found.request.model_dump(mode="json"),
            "images": found.model.header.training.get("images"),
            "sha256": found.model.sha256,
        }
        judged.append(Judged(each.name, measure(shown[-1], pairs, metrics), about))
    return judged, shown


def described(data: Path, count: int, metrics: Sequence[Metric]) -> dict[str, Any]:
    """Return the protocol, as the JSON file and a model's header have it."""
    return {
        "protocol": PROTOCOL,
        "measures": {metric.name: metric.protocol(SCALE) for metric in metrics},
        "data": data.resolve().name,
        "num_pictures": count,
        "scale": SCALE,
        "precision": "float32",
        "output_bits": 8,
        "versions": {"i2i": version("i2i-gan"), "torch": torch.__version__.partition("+")[0]},
        "deciding": DECIDING,
        "better": BETTER,
    }


def print_table(
    said: Mapping[str, Any], judged: Sequence[Judged], metrics: Sequence[Metric]
) -> None:
    """Print the rows for people, and how the deciding measure differs between any two."""
    print(f"protocol {said['protocol']}, {said['num_pictures']} pictures of {said['data']}")
    for metric in metrics:
        print(f"  {metric.name} ({metric.better} is better): {said['measures'][metric.name]}")
    width = max(len(each.name) for each in judged)
    print(f"{'':{width}}" + "".join(f"  {metric.name:>17}" for metric in metrics))
    for each in judged:
        cells = (_with_error(*mean_and_error(each.values[metric.name])) for metric in metrics)
        print(f"{each.name:{width}}" + "".join(f"  {cell:>17}" for cell in cells))
    print(f"differences in {DECIDING}, picture by picture, in standard errors, and where better:")
    for one, other in itertools.combinations(judged, 2):
        found = difference(other, one, metrics)
        mean, error = found[DECIDING], found[f"{DECIDING}_se"]
        errors = f"{mean / error:+.1f}" if error > 0 else "-"
        better = f"{found[f'{DECIDING}_num_better']}/{said['num_pictures']}"
        print(f"  {found['name']}: {_with_error(mean, error)}  {errors}  {better}")


def write_json(
    path: Path, said: Mapping[str, Any], judged: Sequence[Judged], metrics: Sequence[Metric]
) -> None:
    """Write the rows with their protocol for programs; those of differences are rows as well."""
    rows = [row(each) for each in judged]
    rows += [difference(other, one, metrics) for one, other in itertools.combinations(judged, 2)]
    content = plain({**said, "rows": rows})
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_sheet(
    path: Path, pairs: Sequence[Pair], results: Sequence[Sequence[Pixels]], count: int = 8
) -> None:
    """Write middles of some pictures, pixel for pixel: bicubic, each model's result, target."""
    chosen = [place * len(pairs) // count for place in range(min(count, len(pairs)))]
    width, height = (len(results) + 2) * (CELL + GAP), len(chosen) * (CELL + GAP)
    sheet = Image.new("RGB", (width, height), "grey")
    for down, index in enumerate(chosen):
        pair = pairs[index]
        strip = [
            resized(pair.low, Image.Resampling.BICUBIC),
            *(r[index] for r in results),
            pair.high,
        ]
        for across, pixels in enumerate(strip):
            top, left = ((side - min(side, CELL)) // 2 for side in pixels.shape[:2])
            cell = np.ascontiguousarray(pixels[top : top + CELL, left : left + CELL])
            place = across * (CELL + GAP), down * (CELL + GAP)
            sheet.paste(Image.fromarray(cell), place)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parsed = _parse(arguments)
    try:
        plugins = load_plugins()
        metrics = [EffNetDistance(parsed.judge), *(plugins.metric(name) for name in METRICS)]
        pairs = read_pairs(parsed.data, parsed.pictures)
        for metric in metrics:
            metric.prepare()
        asked = [asked_of(text, parsed.settings) for text in parsed.models]
        judged, results = judge(asked, pairs, metrics, plugins)
    except I2IError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    said = described(parsed.data, len(pairs), metrics)
    print_table(said, judged, metrics)
    if parsed.json:
        write_json(parsed.json, said, judged, metrics)
    if parsed.sheet:
        write_sheet(parsed.sheet, pairs, results)
    return 0


def asked_of(text: str, settings: Sequence[str] = ()) -> Asked:
    """Take ``MODEL@KEY=VALUE@KEY=VALUE`` apart; ``settings`` are for every model."""
    path, *own = text.split("@")
    while own and "=" not in own[0]:  # the name of a file may have the sign too
        path = f"{path}@{own.pop(0)}"
    return Asked(Path(path), (*settings, *own))


def _with_error(mean: float, error: float) -> str:
    return f"{mean:.4f} ± {error:.4f}"


def _pair(data: Path, name: str) -> Pair:
    low_path = data / "LR" / name
    if not low_path.is_file():
        raise DataError(
            "the target has no source",
            where=str(data / "HR" / name),
            expected=str(low_path),
            remedy="complete the data folder",
        )
    low, high = (np.array(read_rgb(data / folder / name)) for folder in ("LR", "HR"))
    height, width = low.shape[0] * SCALE, low.shape[1] * SCALE
    beyond = high.shape[0] - height, high.shape[1] - width
    if not all(0 <= side < SCALE for side in beyond):
        raise DataError(
            f"{low.shape[1]}x{low.shape[0]} pixels are beside {high.shape[1]}x{high.shape[0]}",
            where=name,
            expected=f"{SCALE} times the size",
            remedy="correct the data folder",
        )
    return Pair(name, low, high[:height, :width])


def _other_scale(asked: Asked, scale: int) -> UsageError:
    return UsageError(
        f"it enlarges {scale} times",
        where=asked.name,
        expected=f"models that enlarge {SCALE} times",
        remedy="leave it out",
    )


def _shared_data() -> Path:
    beside = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("I2I_SHARED_DATA", beside))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models_help = "model files, each with what is asked of it alone, such as @strength=0.5"
    parser.add_argument("models", nargs="*", metavar="MODEL", help=models_help)
    set_help = "a field of the request of every model"
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help=set_help
    )
    data = _shared_data() / "sr/BSD100"
    parser.add_argument("--data", type=Path, default=data, metavar="DIR", help="of HR and LR")
    judge_help = "EfficientNet-lite0's weights, where their package is not installed"
    parser.add_argument("--judge", type=Path, metavar="FILE.pth", help=judge_help)
    parser.add_argument("--pictures", type=int, metavar="N", help="judge no more than N, spread")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table here")
    sheet_help = "write the middles of some pictures here: bicubic, results, target"
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help=sheet_help)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
