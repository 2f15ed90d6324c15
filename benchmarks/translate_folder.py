"""A folder job against the pure time of its network: ``python benchmarks/translate_folder.py``.

Pictures of 256x256 go through ``run_job`` (decode, compute, encode, write, record) and, in the same
run on the same threads, their tensors through the network alone. Printed are both times, their
ratio, and the peak of memory above what the loaded model takes; for the full-width ResNet-9
generator, and for honesty for a small network, where reading and writing are the cost. Pictures
come from the folder that is given, or are made of noise.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import torch

from i2i.engine.discovery import make_plan
from i2i.engine.events import Events
from i2i.engine.inference import forward
from i2i.engine.job import run_job
from i2i.engine.records import Settings
from i2i.imaging import Picture, encode, read_picture, rgb8, to_tensor
from i2i.model_file import Header, Model, build
from i2i.plugins import load_plugins

SIDE = 256  # pixels
NETWORKS = {
    "resnet-9": {"width": 64, "num_blocks": 9},  # as published for this size
    "small": {"width": 8, "num_blocks": 2},
}
MOST_HELD = 500  # pictures in memory while the network alone is timed


def main() -> None:
    """Measure both networks and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="A folder of pictures of 256x256.")
    parser.add_argument("--number", type=int, default=500)
    parser.add_argument("--network", choices=NETWORKS, action="append", help="Both if not given.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        gather(photos, arguments.pictures, arguments.number)
        print(f"{arguments.number} JPEG pictures of {SIDE}x{SIDE}, {arguments.threads} threads")
        for name in arguments.network or NETWORKS:
            measure(name, NETWORKS[name], photos, Path(folder) / name)


def gather(photos: Path, source: Path | None, number: int) -> None:
    """Fill ``photos`` with pictures of the source, again and again, or with noise."""
    photos.mkdir()
    found = sorted(source.iterdir()) if source else []
    generator = np.random.default_rng(0)
    for index in range(number):
        target = photos / f"{index:05}.jpg"
        if found:
            source_file = found[index % len(found)]
            if read_picture(source_file).size != (SIDE, SIDE) or source_file.suffix != ".jpg":
                sys.exit(f"{source_file}: not a JPEG of {SIDE}x{SIDE}")
            shutil.copy(source_file, target)
        else:
            pixels = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            target.write_bytes(encode(Picture(pixels), "jpeg", str(target)))


def measure(name: str, options: dict[str, int], photos: Path, out: Path) -> None:
    """Time the job, then the network alone, and print what came out."""
    plugins = load_plugins()
    family = plugins.family("cyclegan")
    chosen = family.Options(**options)
    translator = build(family, chosen, seed=0).eval().requires_grad_(False)
    header = Header(family="cyclegan", distribution="benchmark", options=options, request={})
    settings = Settings(family.Request(), num_workers=2)
    plan = make_plan([photos], out)
    events = Events(plugins, [], print)
    forward(translator, torch.zeros(1, 3, SIDE, SIDE), settings.request)
    with peak_memory() as peak:
        summary = run_job(plan, Model(translator, header, "0" * 64), settings, events)
    events.close()
    if summary.num_failed or summary.num_done != len(plan.tasks):
        sys.exit(f"{summary.num_failed} pictures failed")
    paths = sorted(photos.iterdir())
    tensors = [to_tensor(rgb8(read_picture(path)), 3)[None] for path in paths[:MOST_HELD]]
    started = time.perf_counter()
    for index in range(len(paths)):
        forward(translator, tensors[index % MOST_HELD], settings.request)
    pure = time.perf_counter() - started
    print(
        f"{name}: network {pure:.1f} s, job {summary.seconds:.1f} s, "
        f"ratio {summary.seconds / pure:.2f}, peak memory {peak[0] / 1e6:.0f} MB above the model"
    )


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Give a list whose only entry becomes the most bytes in use above those at the start."""
    process = psutil.Process()
    before = process.memory_info().rss
    most = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


if __name__ == "__main__":
    main()
