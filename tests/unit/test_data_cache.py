import errno
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from i2i.data import cache, loading
from i2i.errors import DataError, I2IError
from tests.unit.high_resolution import INPUTS, batches, layout, noise, write, write_five


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a cache of its own; workers inherit it."""
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/pixels"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_five(tmp_path / "data")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tell the names of the files that are decoded."""
    names: list[str] = []
    original = loading.read_rgb
    monkeypatch.setattr(loading, "read_rgb", lambda path: names.append(path.name) or original(path))
    return names


def test_a_picture_is_decoded_once_for_all_its_crops(root: Path, reads: list[str]) -> None:
    batches(layout(root), count=10)
    assert sorted(reads) == [f"{number}.png" for number in range(5)]
    batches(layout(root, crop=16), count=10)
    assert len(reads) == 5, "another crop needs no other pixels"
    batches(layout(root, scale=2), count=10)
    assert len(reads) == 10
    batches(layout(root, cache=False), count=10)
    assert len(reads) == 40


def test_a_changed_picture_is_decoded_anew(tmp_path: Path, reads: list[str]) -> None:
    path = write(tmp_path / "train/1.bmp", noise(40, 40))
    source = layout(tmp_path)
    (before,) = batches(source, count=1)
    then = path.stat()
    write(path, 255 - noise(40, 40))
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns + 1_000_000))
    assert path.stat().st_size == then.st_size
    (after,) = batches(source, count=1)
    assert reads == ["1.bmp", "1.bmp"]
    assert torch.allclose(after.images["high"], -before.images["high"], atol=1e-6)


@pytest.mark.parametrize("damage", ["short", "empty", "header", "other"])
def test_a_damaged_file_of_the_cache_is_made_again(
    root: Path, kept: Path, reads: list[str], damage: str
) -> None:
    source = layout(root)
    before = batches(source)
    contents = {path: path.read_bytes() for path in kept.rglob("*.npy")}
    for path, content in contents.items():
        if damage == "other":
            np.save(path, np.zeros((3, 3)))
        else:
            bad = {"short": content[:-1], "empty": b"", "header": b"\0" + content[1:]}[damage]
            path.write_bytes(bad)
    after = batches(source)
    assert len(reads) == 10
    assert {path: path.read_bytes() for path in kept.rglob("*.npy")} == contents
    for one, two in zip(before, after, strict=True):
        assert all(torch.equal(one.images[role], two.images[role]) for role in INPUTS.images)


def test_a_process_that_dies_while_writing_leaves_no_file_of_the_name(
    root: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(os, "fsync", die)  # written, but not renamed
    with pytest.raises(Killed):
        batches(layout(root))
    assert kept.is_dir()
    assert not list(kept.rglob("*.npy"))


def test_a_cache_that_cannot_be_written_is_told_with_the_way_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(code: int) -> I2IError:
        def fail(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(cache, "write_atomically", fail)
        with pytest.raises(DataError) as seen:
            batches(layout(root))
        return seen.value

    for code in (errno.ENOSPC, errno.EACCES):
        error = refuse(code)
        assert os.strerror(code) in error.wrong
        assert error.where == str(tmp_path / "cache/pixels")
        assert "set data.options.cache = false" in error.remedy
    monkeypatch.undo()
    (tmp_path / "file").touch()
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot be kept"):
        batches(layout(root))
    assert batches(layout(root, cache=False))


def test_a_file_that_another_process_has_mapped_meanwhile_is_as_good(
    root: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to replace a file that is mapped."""
    original = cache.write_atomically

    def late(path: Path, content: bytes) -> None:
        original(path, content)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(cache, "write_atomically", late)
    made = batches(layout(root))
    assert len(list(kept.rglob("*.npy"))) == 10
    for one, two in zip(made, batches(layout(root, cache=False)), strict=True):
        assert all(torch.equal(one.images[role], two.images[role]) for role in INPUTS.images)


def test_a_disk_without_room_is_found_before_any_picture_is_decoded(
    root: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    room = 3 * 68 * (3 * 60 + 2 * 64) * 17 // 16  # high resolution, and low a sixteenth of it

    def left(free: int) -> None:
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)

    left(room - 1)
    with pytest.raises(DataError, match=r"cannot be kept \(they take .* are free") as seen:
        layout(root)
    assert "data.options.cache = false" in seen.value.remedy
    assert not reads
    layout(root, cache=False)
    layout(root, "test", test="train")
    left(room)
    batches(layout(root), count=5)
    left(0)
    layout(root)
