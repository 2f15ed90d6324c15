"""Memory: how much there is, how much a family needs, and what happens where it is short."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from i2i.engine import compute as compute_module
from i2i.engine.compute import Computer
from i2i.engine.inference import begin
from i2i.engine.memory import available, bytes_a_pixel
from i2i.engine.records import Settings
from i2i.errors import ImageError
from i2i.types import Fit
from tests.engine.test_tiles import Network, Nothing, plain

BYTE = np.dtype(np.uint8)


def settings(**changes: object) -> Settings:
    return Settings(Nothing(), **changes)


def works(family: Network, *sizes: tuple[int, int]) -> list:
    generator = np.random.default_rng(0)
    return [
        begin(generator.integers(0, 256, (*size, 3), dtype=np.uint8), family.fit, None, True)
        for size in sizes
    ]


def test_the_smaller_of_machine_and_control_group_counts(tmp_path):
    own = tmp_path / "own"
    machine = pytest.approx(psutil.virtual_memory().available, rel=0.2)
    assert available(tmp_path, own) == machine  # no Linux
    own.write_text("0::/jobs/one\n")
    group = tmp_path / "jobs" / "one"
    group.mkdir(parents=True)
    assert available(tmp_path, own) == machine
    (group / "memory.max").write_text("3000000\n")
    (group / "memory.current").write_text("2500000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 100000\nactive_file 7\n")
    assert available(tmp_path, own) == 600_000
    for name in ("memory.max", "memory.current", "memory.stat"):
        (group.parent / name).write_bytes((group / name).read_bytes())
    (group.parent / "memory.max").write_text("2800000")
    assert available(tmp_path, own) == 400_000  # of those around it, the tightest
    for each in (group, group.parent):
        (each / "memory.max").write_text("max\n")
    assert available(tmp_path, own) == machine


def test_control_groups_of_version_1_count_too(tmp_path):
    own = tmp_path / "own"
    own.write_text("5:cpu:/x\n4:memory:/docker/1\n")
    old = tmp_path / "memory" / "docker" / "1"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("2000")
    (old / "memory.usage_in_bytes").write_text("1900")
    (old / "memory.stat").write_text("total_inactive_file 400")
    assert available(tmp_path, own) == 500


def test_a_familys_need_a_pixel_is_what_it_holds_at_once():
    image = torch.zeros(1, 3, 32, 48)
    wide = nn.Conv2d(3, 16, 3, padding=1)
    narrow = nn.Conv2d(16, 2, 3, padding=1)
    with torch.no_grad():
        need = bytes_a_pixel(lambda batch: narrow(wide(batch)), image)
        twice = bytes_a_pixel(lambda batch: narrow(wide(batch)), torch.zeros(1, 3, 64, 96))
    assert need == pytest.approx(1.5 * 4 * (16 + 2), rel=0.05)
    assert twice == pytest.approx(need, rel=0.05)
    with torch.no_grad():
        three = bytes_a_pixel(lambda batch: [wide(batch) for _ in range(3)], image)
        one = bytes_a_pixel(lambda batch: [wide(batch).sum() for _ in range(3)], image)
    assert three == pytest.approx(1.5 * 4 * 48, rel=0.05)
    assert one == pytest.approx(1.5 * 4 * 16, rel=0.1)  # what is let go of does not add up


def test_tiles_are_sized_from_the_memory_there_is(monkeypatch):
    family = plain()
    (work,) = works(family, (1100, 1300))
    seen = {}
    for memory in (10**12, 30 * 10**6):
        monkeypatch.setattr(compute_module, "available", lambda m=memory: m)
        family.seen.clear()
        computer = Computer(family, settings())
        (result,) = computer.compute([work], [BYTE])
        assert isinstance(result, np.ndarray)
        seen[memory] = (computer.tile, result)
    assert seen[10**12][0] == 1024
    assert 64 <= seen[30 * 10**6][0] <= 330
    assert max(max(shape[2:]) for shape in family.seen) <= 330
    assert np.abs(seen[10**12][1].astype(int) - seen[30 * 10**6][1]).max() <= 1


def test_a_picture_too_large_for_a_family_that_takes_it_whole_is_refused_before(monkeypatch):
    family = plain()
    family.fit = Fit(smallest=8)
    monkeypatch.setattr(compute_module, "available", lambda: 30 * 10**6)
    (work,) = works(family, (1000, 1500))
    (failure,) = Computer(family, settings()).compute([work], [BYTE])
    assert isinstance(failure, ImageError)
    assert failure.remedy.startswith("reduce it with --work-size ")
    fitting = int(failure.remedy.rpartition(" ")[2])
    assert 200 < fitting < 700
    assert not [shape for shape in family.seen if shape[2] > 100]
    (work,) = works(family, (fitting, int(fitting * 1.5)))
    (result,) = Computer(family, settings()).compute([work], [BYTE])
    assert isinstance(result, np.ndarray)


class Short(Network):
    """Runs out of memory, as a GPU does, on more pixels at once than it has room for."""

    room = 0

    def translate(self, images, request):
        if images.shape[0] * images.shape[2] * images.shape[3] > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().translate(images, request)


def short(room: int, fit: Fit) -> Short:
    family = plain()
    result = Short(family.net, fit)
    result.room = room
    return result


def test_out_of_memory_halves_the_batch_then_the_tile_and_stays_there():
    family = short(100 * 100, Fit(tiles=True, halo=4, smallest=8))
    many = works(family, *[(60, 70)] * 8)
    computer = Computer(family, settings(batch_size=8))
    assert all(isinstance(each, np.ndarray) for each in computer.compute(many, [BYTE] * 8))
    assert computer.batch_size == 2
    (large,) = works(family, (300, 400))
    (result,) = computer.compute([large], [BYTE])
    assert isinstance(result, np.ndarray)
    assert computer.batch_size == 1
    assert computer.tile is not None
    assert computer.tile <= 100
    exact = Computer(plain_like(family), settings()).compute([large], [BYTE])[0]
    assert np.abs(exact.astype(int) - result).max() <= 1
    family.seen.clear()
    computer.compute([large], [BYTE])
    first = family.seen[0]
    assert set(family.seen) == {first}  # nothing is tried in vain again


def plain_like(family: Network) -> Network:
    return Network(family.net, family.fit)


@pytest.mark.parametrize(
    ("fit", "tile"),
    [
        (Fit(smallest=8), "auto"),
        (Fit(tiles=True, halo=4), "off"),
        (Fit(tiles=True, halo=4), "auto"),
    ],
    ids=["whole", "tiles off", "no tile is small enough"],
)
def test_where_nothing_can_shrink_the_picture_is_named_and_no_other(fit, tile):
    family = short(50 * 50, fit)
    small, large, last = works(family, (20, 30), (200, 300), (20, 30))
    computer = Computer(family, settings(batch_size=4, tile=tile))
    first, failure, third = (computer.compute([each], [BYTE])[0] for each in (small, large, last))
    assert isinstance(first, np.ndarray)
    assert isinstance(failure, torch.OutOfMemoryError)
    assert isinstance(third, np.ndarray)


def test_a_tile_that_fails_fails_its_picture_and_no_other():
    class Picky(Network):
        def translate(self, images, request):
            if (images == 1).all(1).any():  # white is nowhere but in one corner of one picture
                raise ValueError("white")
            return super().translate(images, request)

    family = Picky(plain().net, Fit(tiles=True, halo=4, smallest=8))
    sound = works(family, (150, 150), (150, 150))
    pixels = np.zeros((150, 150, 3), np.uint8)
    pixels[148, 148] = 255
    broken = begin(pixels, family.fit, None, True)
    computer = Computer(family, settings(batch_size=3, tile=64))
    outputs = computer.compute([sound[0], broken, sound[1]], [BYTE] * 3)
    assert [type(each) for each in outputs] == [np.ndarray, ValueError, np.ndarray]
    alone = [computer.compute([work], [BYTE])[0] for work in sound]
    assert np.array_equal(outputs[0], alone[0])
    assert np.array_equal(outputs[2], alone[1])


LIMITED = """
import resource, sys
import numpy as np
import torch
from i2i.engine.inference import is_out_of_memory
from tests.engine.test_memory import *

torch.set_num_threads(1)
family = plain()
with torch.no_grad():
    family.net(torch.zeros(1, 3, 64, 64))
pixels = np.zeros((4096, 4096, 3), np.uint8)
pixels[::7, ::5] = 200
work = begin(pixels, family.fit, None, True)
used = psutil.Process().memory_info().vms
resource.setrlimit(resource.RLIMIT_AS, (used + 500 * 2**20,) * 2)
computer = Computer(family, settings(tile=4096))
(result,) = computer.compute([work], [BYTE])
print(type(result).__name__, computer.tile)
family.fit = Fit(smallest=8)
(result,) = Computer(family, settings(tile="off")).compute([work], [BYTE])
print(type(result).__name__, is_out_of_memory(result))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux")
def test_an_allocation_that_really_fails_halves_the_tile_until_it_fits():
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    tiled, whole = done.stdout.splitlines(), done.stderr
    assert len(tiled) == 2, whole
    kind, tile = tiled[0].split()
    assert kind == "ndarray"
    assert 64 <= int(tile) < 4096
    assert tiled[1] == "RuntimeError True"
