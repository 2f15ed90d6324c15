import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from i2i.data import (
    HostAugment,
    Layout,
    Part,
    Sample,
    Unpaired,
    example_shapes,
    loading,
    make_loader,
)
from i2i.errors import DataError
from i2i.recipe.schema import HostTransform
from i2i.types import Batch, Inputs, derive_seed

INPUTS = Inputs(("a", "b"), paired=False)
CROP = HostTransform(transform="RandomCrop", height=8, width=8)
FLIP = HostTransform(transform="HorizontalFlip", p=0.5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    noise = np.random.default_rng(0)
    for folder, count in (("trainA", 5), ("trainB", 3)):
        (root / folder).mkdir()
        for number in range(count):
            pixels = noise.integers(0, 256, (12, 10 + number, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    return root


def layout(root: Path) -> Unpaired:
    return Unpaired(root, Unpaired.Options(), INPUTS, "train")


def batches(
    root: Path, start: int = 0, steps: int = 6, workers: int = 0, size: int = 2
) -> list[Batch]:
    return list(
        make_loader(
            layout(root),
            HostAugment([CROP, FLIP]),
            seed=3,
            batch_size=size,
            start_step=start,
            num_steps=steps,
            num_workers=workers,
        )
    )


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one.keys, two.keys)
        and all(torch.equal(one.images[role], two.images[role]) for role in ("a", "b"))
        for one, two in zip(first, second, strict=True)
    )


def test_a_batch_holds_pictures_as_training_sees_them(root: Path) -> None:
    plain = make_loader(
        layout(root),
        HostAugment([HostTransform(transform="CenterCrop", height=8, width=10)]),
        seed=3,
        batch_size=1,
        start_step=0,
        num_steps=1,
    )
    (batch,) = plain
    path = layout(root).sample(3, 0, 0).images["a"].path
    pixels = np.asarray(Image.open(path)).astype(np.float64)
    left = (pixels.shape[1] - 10) // 2
    expected = pixels[2:10, left : left + 10].transpose(2, 0, 1) / 255 * 2 - 1
    assert batch.images["a"].dtype == torch.float32
    assert batch.images["a"].is_contiguous()
    np.testing.assert_allclose(batch.images["a"][0].numpy(), expected, atol=1e-6)
    assert batch.keys.tolist() == [derive_seed(3, 0, 0)]


def test_a_batch_reaches_from_one_epoch_into_the_next(root: Path) -> None:
    keys = [key for batch in batches(root) for key in batch.keys.tolist()]
    assert keys == [derive_seed(3, place // 5, place % 5) for place in range(12)]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(root: Path, workers: int) -> None:
    alone = batches(root)  # first: what reading leaves in this process must not hang a worker
    assert same(batches(root, workers=workers), alone)


SCRIPT = """
import os, signal, sys, threading, time
from pathlib import Path
from i2i.data import HostAugment, Unpaired, make_loader
from i2i.data.loading import preload_workers
from i2i.types import Inputs

def interrupt():
    for _ in range(100):
        os.killpg(0, signal.SIGINT)  # as Ctrl-C does: everybody
        time.sleep(0.02)

if __name__ == "__main__":
    what, root = sys.argv[1], Path(sys.argv[2])
    layout = Unpaired(root, Unpaired.Options(), Inputs(("a", "b"), paired=False), "train")
    if what == "interrupt":
        signal.signal(signal.SIGINT, lambda *_: None)
        sender = threading.Thread(target=interrupt)
        sender.start()
    else:
        preload_workers()
    settings = dict(seed=1, batch_size=1, start_step=0, num_workers=2)
    for step, batch in enumerate(make_loader(layout, HostAugment(), num_steps=200, **settings)):
        if what == "kill" and step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
    if what == "interrupt":
        sender.join()
        # the server must have lived as well: a second round has other workers
        print(step, len(list(make_loader(layout, HostAugment(), num_steps=3, **settings))))
"""


def run_script(folder: Path, what: str, root: Path) -> tuple[int, str, str]:
    """Run it in a session of its own, and wait until all that it started is gone."""
    script, out, err = (folder / name for name in ("script.py", "out", "err"))
    script.write_text(SCRIPT)
    mark = {"I2I_TEST_MARK": str(folder)}
    with out.open("w") as stdout, err.open("w") as stderr:
        command = [sys.executable, script, what, root]
        code = subprocess.call(
            command, stdout=stdout, stderr=stderr, env=os.environ | mark, start_new_session=True
        )
    deadline = time.monotonic() + 15
    while (left := [each for each in psutil.process_iter() if is_marked(each, mark)]) != []:
        if time.monotonic() > deadline:
            for process in left:
                process.kill()
            pytest.fail(f"left behind: {left}")
        time.sleep(0.1)
    return code, out.read_text(), err.read_text()


def is_marked(process: psutil.Process, mark: dict[str, str]) -> bool:
    try:
        return mark.items() <= process.environ().items()
    except psutil.Error:
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_interrupts_from_the_first_moment_on_reach_the_main_process_alone(
    root: Path, tmp_path: Path
) -> None:
    assert run_script(tmp_path, "interrupt", root) == (0, "199 3\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_leaves_no_worker_behind(root: Path, tmp_path: Path) -> None:
    code, _, _ = run_script(tmp_path, "kill", root)
    assert code == -signal.SIGKILL


def test_starting_late_gives_the_tail_without_decoding_what_is_skipped(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = batches(root, steps=9)
    read = []
    original = loading.read_rgb
    monkeypatch.setattr(loading, "read_rgb", lambda path: read.append(path) or original(path))
    assert same(batches(root, start=6, steps=3), whole[6:])
    assert len(read) == 3 * 2 * 2


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generators_are_left_alone(root: Path, workers: int) -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    batches(root, steps=2, workers=workers)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])


def test_the_same_picture_is_augmented_anew_each_epoch(root: Path) -> None:
    shown = {
        batch.images["a"].numpy().tobytes()
        for batch in make_loader(
            layout(root), HostAugment([CROP]), seed=3, batch_size=1, start_step=0, num_steps=40
        )
    }
    assert len(shown) > 20


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_is_named(tmp_path: Path, workers: int) -> None:
    for folder in ("trainA", "trainB"):
        (tmp_path / folder).mkdir()
        Image.effect_noise((32, 32), 50).save(tmp_path / folder / "1.jpg")
    whole = (tmp_path / "trainB/1.jpg").read_bytes()
    (tmp_path / "trainB/1.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"trainB.1\.jpg: cannot be decoded .*i2i data check"):
        batches(tmp_path, workers=workers)


def test_sizes_that_differ_within_a_batch_are_refused(root: Path) -> None:
    plain = make_loader(
        layout(root), HostAugment(), seed=3, batch_size=5, start_step=0, num_steps=1
    )
    with pytest.raises(DataError, match=r"a batch holds pictures of .*add a resize and a crop"):
        list(plain)


def test_a_crop_larger_than_the_picture_names_the_picture(root: Path) -> None:
    large = HostAugment([HostTransform(transform="RandomCrop", height=64, width=64)])
    with pytest.raises(DataError, match=r"\.png: it cannot be augmented .*resize or pad"):
        example_shapes(layout(root), large)


def test_example_shapes_are_those_of_batches(root: Path) -> None:
    shapes = example_shapes(layout(root), HostAugment([CROP]))
    assert shapes == {"a": (3, 8, 8), "b": (3, 8, 8)}


class Pairs(Layout):
    """A layout as a plugin would bring it: pairs and a label."""

    Options = Unpaired.Options

    @classmethod
    def list_pictures(
        cls, root: Path, options: object, inputs: Inputs, role: str, split: str
    ) -> tuple[Part, ...]:
        return tuple(map(Part, sorted(root.glob("trainA/*.png"))))

    def __len__(self) -> int:
        return 5

    def sample(self, seed: int, epoch: int, index: int) -> Sample:
        part = self.list_pictures(self.root, self.options, self.inputs, "a", "train")[index]
        return Sample({"a": part, "b": part}, {"age": float(index)})


def test_paired_pictures_are_augmented_alike_and_bring_labels(root: Path) -> None:
    pairs = Pairs(root, None, Inputs(("a", "b"), paired=True, labels=("age",)), "train")
    augment = HostAugment([CROP, FLIP])
    loaded = make_loader(pairs, augment, seed=1, batch_size=5, start_step=0, num_steps=2)
    for batch in loaded:
        assert torch.equal(batch.images["a"], batch.images["b"])
        assert batch.labels["age"].tolist() == [0, 1, 2, 3, 4]


def test_unpaired_pictures_are_augmented_independently(root: Path) -> None:
    pairs = Pairs(root, None, Inputs(("a", "b"), paired=False), "train")
    augment = HostAugment([CROP])
    (batch,) = make_loader(pairs, augment, seed=1, batch_size=5, start_step=0, num_steps=1)
    assert not torch.equal(batch.images["a"], batch.images["b"])


def test_any_mode_becomes_rgb(tmp_path: Path) -> None:
    colours = {"1": 255, "L": 200, "P": 3, "RGB": (9, 8, 7), "CMYK": (0, 255, 255, 0)}
    for mode, colour in colours.items():
        image = Image.new(mode, (2, 2), colour)
        if mode == "P":
            image.putpalette([0, 0, 0] * 3 + [10, 20, 30])
        image.save(tmp_path / f"{mode}.tiff")
    Image.fromarray(np.full((2, 2), 51400, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    seen = {path.stem: tuple(loading.read_rgb(path)[0, 0].tolist()) for path in tmp_path.iterdir()}
    red, green, blue = seen.pop("CMYK")  # as printed: the profile says which red that is
    assert red > 200 > 40 > max(green, blue)
    assert seen == {
        "1": (255, 255, 255),
        "L": (200, 200, 200),
        "P": (10, 20, 30),
        "RGB": (9, 8, 7),
        "deep": (200, 200, 200),
        "clear": (255, 255, 255),
    }


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    Image.new("RGB", (6, 2)).save(tmp_path / "1.jpg", exif=exif)
    assert loading.read_rgb(tmp_path / "1.jpg").shape == (6, 2, 3)


def shared_data() -> Path:
    default = Path(__file__).parents[3] / "shared/data"
    folder = Path(os.environ.get("I2I_SHARED_DATA", default)) / "horse2zebra"
    if not folder.is_dir():
        pytest.skip("horse2zebra is not here: set I2I_SHARED_DATA")
    return folder


def test_horse2zebra_loads_as_the_paper_has_it() -> None:
    found = Unpaired(shared_data(), Unpaired.Options(), INPUTS, "train")
    augment = HostAugment(
        [
            HostTransform(transform="Resize", height=286, width=286, interpolation=2),
            HostTransform(transform="RandomCrop", height=256, width=256),
            FLIP,
        ]
    )
    assert len(found) == 1334
    (batch,) = make_loader(found, augment, seed=0, batch_size=4, start_step=9, num_steps=1)
    assert batch.images["b"].shape == (4, 3, 256, 256)
    assert -1 <= float(batch.images["b"].min()) < -0.5 < 0.5 < float(batch.images["b"].max()) <= 1
