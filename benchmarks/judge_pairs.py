"""Judge models of paired translation: how near their answers come to the pictures wanted.

    python benchmarks/judge_pairs.py --data DIR MODEL.safetensors [MODEL ...]
        [--layout side_by_side|paired] [--order b a] [--direction a2b|b2a]
        [--json FILE] [--sheet FILE.png] [--sheet-pictures 24]

Protocol ``pairs-squeezenet-1``, also in benchmarks/README.md:

1. Pictures: every pair of the data folder's test split, 8-bit RGB, transparent parts on white.
2. Translation: as ``i2i translate`` does, by the engine's ``translate_batch`` in float32, with the
   request and the work size of the model file; the result rounded to 8 bits.
3. L1: mean absolute difference over pixels and channels, in units of the full range (0 to 1).
4. PSNR: 10 log10(255^2 / mean squared difference over pixels and channels), in dB. An exact answer
   has none: exact ones are counted, and left out of the mean.
5. Feature distance: ``i2i.losses.lpips.FeatureDistance``, SqueezeNet 1.0 with unit weights. It is
   not LPIPS, and comparable within this protocol only.

Each is the mean over pictures. Feature distance decides between two models, for the two others
favour a blur over a sharp guess that is a little off. Answers that need no network are judged too:
the source itself, one colour (the training targets' mean, best for squares, and their median, best
for absolute differences), and the target of the training pair whose source is nearest in L1.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from i2i.data.layouts import Layout, Part, Split
from i2i.data.loading import read_rgb
from i2i.engine.inference import translate_batch
from i2i.errors import DataError, I2IError, UsageError
from i2i.imaging import from_tensor, to_tensor
from i2i.losses.lpips import FeatureDistance
from i2i.model_file import Model, load_model
from i2i.plugins import Plugins, load_plugins
from i2i.types import Inputs

PROTOCOL = "pairs-squeezenet-1"
DECIDING, BETTER = "feature_distance", "lower"  # for tools/ship.py
INPUTS = Inputs(images=("a", "b"), paired=True)
BATCH_SIZE = 8  # pictures
CHUNK = 32  # training pictures compared at once: few enough for a processor's cache
CELL, GAP = 128, 8  # pixels

Direction = Literal["a2b", "b2a"]
Pixels = NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True)
class Pair:
    """A source and the target that belongs to it, of one size; ``name`` is the file's."""

    name: str
    source: Pixels
    target: Pixels


@dataclass(frozen=True)
class Measured:
    """What was measured of each of N answers: (N,) float64; ``psnr`` is infinite where exact."""

    l1: NDArray[np.float64]
    psnr: NDArray[np.float64]
    feature_distance: NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One line of the table, and one object of the JSON file."""

    name: str
    feature_distance: float
    l1: float  # of the full range
    psnr: float | None  # dB; None where every answer is exact
    num_exact: int
    work_size: int | str | None = None
    images: int | None = None  # seen in training
    sha256: str | None = None


@dataclass
class Judgement:
    """The table of a data folder, and what was judged."""

    data: str
    direction: Direction
    pairs: Sequence[Pair]
    rows: list[Row] = field(default_factory=list)
    answers: list[Sequence[Pixels]] = field(default_factory=list)  # of the models


def read_pairs(layout: Layout, direction: Direction) -> list[Pair]:
    """Read every pair of a layout, ordered by the path of picture a."""
    samples = [layout.sample(0, 0, index).images for index in range(len(layout))]
    samples.sort(key=lambda images: (images["a"].path.as_posix(), images["a"].column))
    roles = ("a", "b") if direction == "a2b" else ("b", "a")
    return [_read_pair(*(images[role] for role in roles)) for images in samples]


def measure(answers: Sequence[Pixels], pairs: Sequence[Pair]) -> Measured:
    """Measure each answer against its pair's target, steps 3 to 5 of the protocol."""
    distance = FeatureDistance()
    l1, psnr, features = [], [], []
    for answer, pair in zip(answers, pairs, strict=True):
        if answer.shape != pair.target.shape:
            raise _other_size(pair.name, answer, pair.target)
        difference = answer.astype(np.int32) - pair.target
        l1.append(np.abs(difference).mean() / 255)
        with np.errstate(divide="ignore"):
            psnr.append(10 * np.log10(255**2 / np.square(difference).mean()))
        with torch.no_grad():
            value = distance(to_tensor(answer)[None], to_tensor(pair.target)[None])
        features.append(float(value))
    return Measured(np.array(l1), np.array(psnr), np.array(features))


def row(name: str, measured: Measured, **about: Any) -> Row:
    """Return the means of what was measured; exact answers are left out of PSNR's."""
    finite = measured.psnr[np.isfinite(measured.psnr)]
    return Row(
        name,
        feature_distance=float(measured.feature_distance.mean()),
        l1=float(measured.l1.mean()),
        psnr=float(finite.mean()) if len(finite) else None,
        num_exact=len(measured.psnr) - len(finite),
        **about,
    )


def translate_pairs(model: Model, pairs: Sequence[Pair], direction: Direction) -> list[Pixels]:
    """Translate the sources, step 2 of the protocol."""
    said = model.header.translate
    results: list[Pixels] = []
    for start in range(0, len(pairs), BATCH_SIZE):
        translated = translate_batch(
            model.translator,
            [to_tensor(pair.source) for pair in pairs[start : start + BATCH_SIZE]],
            _request(model, direction),
            work_size=said.get("work_size", "native"),
            restore=said.get("restore", "resize"),
            batch_size=BATCH_SIZE,
        )
        results += [from_tensor(each) for each in translated]
    return results


def trivial_answers(pairs: Sequence[Pair], known: Sequence[Pair]) -> dict[str, list[Pixels]]:
    """Return the answers that need no network, by name; ``known`` are the training pairs."""
    answers = {"the source itself": [pair.source for pair in pairs]}
    for name, colour in zip(("mean", "median"), colours(known), strict=True):
        answers[f"{name} colour"] = [np.broadcast_to(colour, pair.target.shape) for pair in pairs]
    chosen = [nearest(pair.source, known) for pair in pairs]
    if None not in chosen:
        answers["nearest training pair"] = [
            known[index].target for index in chosen if index is not None
        ]
    return answers


def colours(pairs: Sequence[Pair]) -> tuple[Pixels, Pixels]:
    """Return the mean and the median of the targets' pixels, each (3,), by channel."""
    counts = np.zeros((3, 256), np.int64)
    for pair in pairs:
        for channel in range(3):
            counts[channel] += np.bincount(pair.target[..., channel].ravel(), minlength=256)
    total = counts.sum(axis=1, keepdims=True)
    mean = (counts * np.arange(256)).sum(axis=1, keepdims=True) / total
    median = (2 * counts.cumsum(axis=1) >= total).argmax(axis=1)
    return mean[:, 0].round().astype(np.uint8), median.astype(np.uint8)


def nearest(source: Pixels, known: Sequence[Pair]) -> int | None:
    """Return which pair's source has the least L1 distance, the first of equals.

    None where no pair is of this size.
    """
    fitting = [index for index, pair in enumerate(known) if pair.source.shape == source.shape]
    distances: list[int] = []
    for start in range(0, len(fitting), CHUNK):
        others = np.stack([known[index].source for index in fitting[start : start + CHUNK]])
        # In 8 bits: four times fewer bytes than a difference with a sign takes
        apart = np.maximum(others, source) - np.minimum(others, source)
        distances += apart.reshape(len(others), -1).sum(axis=1, dtype=np.int64).tolist()
    return fitting[int(np.argmin(distances))] if distances else None


def write_sheet(path: Path, strips: Sequence[Sequence[Pixels]]) -> None:
    """Write strips of pictures, such as source, translation and target, as one picture."""
    cells = len(strips[0])
    num_columns = max(1, round((len(strips) / cells) ** 0.5))  # about a square
    width, height = cells * (CELL + 2) + GAP, CELL + GAP
    num_rows = -(-len(strips) // num_columns)
    sheet = Image.new("RGB", (num_columns * width, num_rows * height), "grey")
    for place, strip in enumerate(strips):
        left, top = place % num_columns * width, place // num_columns * height
        for index, pixels in enumerate(strip):
            image = Image.fromarray(np.ascontiguousarray(pixels))
            image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(image, (left + index * (CELL + 2), top))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def spread(count: int, total: int) -> list[int]:
    """Return ``count`` places, or all, evenly spread over ``total``."""
    count = min(count, total)
    return [place * total // count for place in range(count)]


def described(data: str, direction: Direction, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the protocol, as the JSON file and a model's header have it."""
    sizes = {f"{pair.target.shape[1]}x{pair.target.shape[0]}" for pair in pairs}
    return {
        "protocol": PROTOCOL,
        "data": data,
        "split": "test",
        "num_pictures": len(pairs),
        "sizes": sorted(sizes),
        "direction": direction,
        "precision": "float32",
        "output_bits": 8,
        "versions": {"i2i": version("i2i-gan"), "torch": torch.__version__.partition("+")[0]},
        "deciding": DECIDING,
        "better": BETTER,
    }


def print_table(judgement: Judgement) -> None:
    """Print the rows for people."""
    said = described(judgement.data, judgement.direction, judgement.pairs)
    versions = ", ".join(f"{name} {number}" for name, number in said["versions"].items())
    print(
        f"protocol {PROTOCOL}, {said['num_pictures']} test pairs of {judgement.data} "
        f"({', '.join(said['sizes'])}), {judgement.direction}; {said['precision']}, results "
        f"rounded to {said['output_bits']} bits; {versions}"
    )
    width = max(len(row.name) for row in judgement.rows)
    print(f"{'':{width}}  feature distance      L1   PSNR dB  exact")
    for each in judgement.rows:
        psnr = "-" if each.psnr is None else f"{each.psnr:.2f}"
        print(
            f"{each.name:{width}}  {each.feature_distance:16.4f}  {each.l1:.4f}  {psnr:>8}  "
            f"{each.num_exact:5}"
        )


def write_json(path: Path, judgement: Judgement) -> None:
    """Write the rows with their protocol for programs."""
    said = described(judgement.data, judgement.direction, judgement.pairs)
    content = said | {"rows": [asdict(each) for each in judgement.rows]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def open_layout(
    plugins: Plugins, name: str, root: Path, options: Mapping[str, Any], split: Split
) -> Layout:
    """Return a split of a data folder; raises UsageError for options that the layout lacks."""
    kind = plugins.layout(name)
    try:
        chosen = kind.Options.model_validate(options)
    except ValidationError as error:
        fault = error.errors()[0]
        raise UsageError(
            f"layout {name!r} has no such option ({fault['loc'][0]}: {fault['msg']})",
            where="--order",
            expected="roles from left to right, for 'side_by_side'",
            remedy="leave it out, or choose another --layout",
        ) from error
    return kind(root, chosen, INPUTS, split)


def run(arguments: argparse.Namespace) -> Judgement:
    """Judge every model, after the answers that need none."""
    plugins = load_plugins()
    options = {"order": tuple(arguments.order)} if arguments.order else {}
    where = (plugins, arguments.layout, arguments.data, options)
    pairs = read_pairs(open_layout(*where, "test"), arguments.direction)
    models = [load_model(path, plugins) for path in arguments.models]
    for model in models:
        _request(model, arguments.direction)  # what cannot be judged is said before the work
    judgement = Judgement(arguments.data.resolve().name, arguments.direction, pairs)
    known = read_pairs(open_layout(*where, "train"), arguments.direction)
    for name, answers in trivial_answers(pairs, known).items():
        judgement.rows.append(row(name, measure(answers, pairs)))
    for path, model in zip(arguments.models, models, strict=True):
        started = time.perf_counter()
        answers = translate_pairs(model, pairs, arguments.direction)
        each = (time.perf_counter() - started) / len(pairs)
        print(f"{path.name}: {1000 * each:.1f} ms a picture, {torch.get_num_threads()} threads")
        about = {
            "work_size": model.header.translate.get("work_size", "native"),
            "images": model.header.training.get("images"),
            "sha256": model.sha256,
        }
        judgement.rows.append(row(path.name, measure(answers, pairs), **about))
        judgement.answers.append(answers)
    return judgement


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parsed = _parse(arguments)
    try:
        judgement = run(parsed)
    except I2IError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print_table(judgement)
    if parsed.json:
        write_json(parsed.json, judgement)
    if parsed.sheet:
        chosen = spread(parsed.sheet_pictures, len(judgement.pairs))
        strips = [
            [
                judgement.pairs[i].source,
                *(a[i] for a in judgement.answers),
                judgement.pairs[i].target,
            ]
            for i in chosen
        ]
        write_sheet(parsed.sheet, strips)
    return 0


def _request(model: Model, direction: Direction) -> Any:
    """Return the model file's request; raises UsageError for a model of the other direction."""
    family = type(model.translator)
    said = dict(model.header.request)
    if "direction" in family.Request.model_fields:
        said["direction"] = direction
    own = getattr(model.translator.options, "direction", direction)
    if own != direction:
        raise UsageError(
            f"it translates {own}",
            where=f"--direction {direction}",
            expected="models of one direction",
            remedy="judge it by itself, with --direction",
        )
    return family.Request.model_validate(said)


def _read_pair(source: Part, target: Part) -> Pair:
    files = {path: read_rgb(path) for path in {source.path, target.path}}
    pixels = [np.array(part.cut(files[part.path])) for part in (source, target)]
    if pixels[0].shape != pixels[1].shape:
        raise _other_size(source.path.name, *pixels)
    return Pair(source.path.name, *pixels)


def _other_size(name: str, found: Pixels, wanted: Pixels) -> DataError:
    sizes = [f"{each.shape[1]}x{each.shape[0]}" for each in (found, wanted)]
    return DataError(
        f"a picture of {sizes[0]} is beside one of {sizes[1]}",
        where=name,
        expected="one size",
        remedy="judge pairs of one size, by a model that keeps it",
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="model files")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data folder")
    parser.add_argument("--layout", default="side_by_side", help="as in a recipe's [data]")
    order_help = "roles from left to right, for side_by_side; after the models"
    parser.add_argument("--order", nargs=2, metavar="ROLE", help=order_help)
    parser.add_argument("--direction", choices=("a2b", "b2a"), default="a2b")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table here")
    sheet_help = "write source, translations and target of some pictures here"
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help=sheet_help)
    parser.add_argument("--sheet-pictures", type=int, default=24, metavar="N", help="how many")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
