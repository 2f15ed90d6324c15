"""Folder jobs that are short of space or memory, or are given folders in a bad way."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from i2i.engine.manifest import NAME, open_manifest
from tests.cli.folder import (
    environment,
    files_in,
    picture,
    pixels,
    records,
    run,
    saved,
    sha256,
    translate,
)

NOBODY = 65534


def test_a_file_system_without_room_names_each_picture_and_keeps_the_rest(
    tmp_path, model, site, photos
):
    """RLIMIT_FSIZE fails large writes as a full disk does, half-way through the file."""
    picture(200, 300, 5).save(photos / "large.png")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    out = tmp_path / "out"
    done = run([photos, "-o", out, "--model", model], site, preexec_fn=limit)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{photos / 'large.png'}: {out / 'large.png'}: cannot be written (File")
    assert "free some space" in line
    assert files_in(out) == ["0.png", "1.png", "2.png", "3.png", "sub/9.png"]
    assert not [file for file in out.rglob("*") if file.suffix == ".part"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_names_each_picture_and_a_larger_one_ends_the_job(
    tmp_path, model, site, photos
):
    picture(300, 300, 5).save(photos / "large.png")
    out = tmp_path / "out"
    out.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(out)])
    if mounted.returncode:
        pytest.skip("this machine mounts nothing")
    try:
        done = run([photos, "-o", out, "--model", model], site)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "No space left on device" in line
        assert "large.png" in line
        assert len(files_in(out)) == 5
        assert not [file for file in out.rglob("*") if file.suffix == ".part"]
        subprocess.run(["mount", "-o", "remount,size=8m", str(out)], check=True)
        done = run([photos, "-o", out, "--model", model], site)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("1 done, 5 done before, 0 failed")
    finally:
        subprocess.run(["umount", str(out)], check=True)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="becomes another user")
def test_unreadable_folders_and_unwritable_outputs_are_said_in_one_line(
    tmp_path, model, site, photos, monkeypatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    model = shutil.copy(model, tmp_path)
    out, locked = tmp_path / "out", tmp_path / "locked"
    translate(photos / "0.png", "-o", tmp_path / "first", "--model", model)  # imports all
    for folder, mode in [(photos / "sub", 0), (locked, 0o755), (out, 0o777)]:
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    with becoming(NOBODY, [site, tmp_path, *tmp_path.parents[:3]]):
        done = translate(photos, "-o", out, "--model", model)
        refused = translate(photos, "-o", locked, "--model", model)
        nowhere = translate(photos, "-o", locked / "deeper", "--model", model)
    assert done.exit_code == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{photos / 'sub'}: the folder cannot be read (Permission denied)")
    assert files_in(out) == ["0.png", "1.png", "2.png", "3.png"]
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"Error: {locked / NAME}: the job's manifest cannot be used (Permission")
    assert nowhere.exit_code == 2
    assert "the folder cannot be made (Permission denied)" in nowhere.stderr


@contextlib.contextmanager
def becoming(user: int, folders: Sequence[Path]) -> Iterator[None]:
    """Do without root's rights for a while, with these folders open to everybody."""
    modes = {folder: folder.stat().st_mode for folder in folders}
    for folder in folders:
        folder.chmod(0o755)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        for folder, mode in modes.items():
            folder.chmod(mode)


def test_a_picture_that_vanishes_is_named(tmp_path, model, photos, monkeypatch):
    from i2i.engine import pictures

    read = pictures.read_bytes

    def vanishing(path: Path) -> bytes:
        if path.name == "2.png":
            path.unlink()
        return read(path)

    monkeypatch.setattr(pictures, "read_bytes", vanishing)
    result = translate(photos, "-o", tmp_path / "out", "--model", model)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{photos / '2.png'}: cannot be read (No such file or directory)")
    assert files_in(tmp_path / "out") == ["0.png", "1.png", "3.png", "sub/9.png"]


def test_links_that_lead_in_a_circle_end(tmp_path, model, photos):
    (photos / "sub" / "round").symlink_to(photos)
    (photos / "self.png").symlink_to("self.png")
    result = translate(photos, "-o", tmp_path / "out", "--model", model)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{photos / 'self.png'}: cannot be read (")
    assert len(files_in(tmp_path / "out")) == 5


def test_what_the_inputs_format_cannot_hold_becomes_png_and_is_kept(tmp_path, plugins):
    """WebP ends at 16,383 pixels; a free name is found, and no other picture's result is taken."""
    model = saved(tmp_path / "large.safetensors", plugins, scale=4)
    photos, out, report = tmp_path / "photos", tmp_path / "out", tmp_path / "report.jsonl"
    photos.mkdir()
    picture(2, 4200).save(photos / "a.webp", lossless=True)
    arguments = [photos, "-o", out, "--model", model, "--report", report]
    result = translate(*arguments)
    assert result.exit_code == 0, result.stderr
    assert files_in(out) == ["a.png"]
    assert "1 picture: written as PNG, as webp cannot hold it (16800x8 pixels" in result.stdout
    assert "\n0 done, 1 done before" in translate(*arguments).stdout
    picture(3, 5, 7).save(photos / "a.png")
    assert translate(*arguments).exit_code == 0
    assert files_in(out) == ["a.png", "a.webp.png"]
    assert pixels(out / "a.png").shape == (12, 20, 3)
    assert pixels(out / "a.webp.png").shape == (8, 16800, 3)
    (out / "b.png").write_bytes(b"mine")
    picture(2, 4200).save(photos / "b.webp", lossless=True)
    taken = translate(*arguments)
    assert taken.exit_code == 1
    assert f"{out / 'b.png'}: a file that no i2i job wrote is in the way" in taken.stderr
    assert (out / "b.png").read_bytes() == b"mine"
    dry = translate(*arguments, "--dry-run")
    assert (dry.exit_code, dry.stderr) == (1, taken.stderr.replace(f"{photos / 'b.webp'}: ", "", 1))


def test_a_file_that_appears_while_the_job_runs_is_not_replaced(
    tmp_path, model, photos, monkeypatch
):
    from i2i.engine import pictures

    encode = pictures.encode

    def slow(*arguments: object, **options: object) -> bytes:
        (tmp_path / "out" / "2.png").write_bytes(b"mine")
        return encode(*arguments, **options)

    monkeypatch.setattr(pictures, "encode", slow)
    result = translate(photos / "2.png", "-o", tmp_path / "out", "--model", model)
    assert result.exit_code == 1
    assert "2.png: a file that no i2i job wrote is in the way" in result.stderr
    assert (tmp_path / "out" / "2.png").read_bytes() == b"mine"


def test_a_name_whose_writing_failed_is_not_ours(tmp_path, model, photos, monkeypatch):
    from i2i.engine import outputs

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    arguments = [photos / "2.png", "-o", tmp_path / "out", "--model", model]
    with monkeypatch.context() as patched:
        patched.setattr(outputs, "write_atomically", full)
        assert translate(*arguments).exit_code == 1
    (tmp_path / "out" / "2.png").write_bytes(b"mine")
    assert translate(*arguments).exit_code == 2
    assert (tmp_path / "out" / "2.png").read_bytes() == b"mine"


def test_a_folder_of_other_pictures_does_not_replace_results(tmp_path, model, photos):
    others, out = tmp_path / "others", tmp_path / "out"
    others.mkdir()
    picture(12, 16, 50).save(others / "0.png")
    shutil.copy(photos / "1.png", others / "1.png")
    translate(photos, "-o", out, "--model", model)
    before = sha256(out / "0.png")
    for more in ([], ["--dry-run"]):
        result = translate(others, "-o", out, "--model", model, *more)
        assert result.exit_code == 1
        assert f"holds the translation of another picture, {photos / '0.png'}" in result.stderr
        assert "1 done before" in result.stdout  # equal bytes are the same picture
    assert sha256(out / "0.png") == before
    (photos / "0.png").unlink()
    assert translate(others, "-o", out, "--model", model).exit_code == 0
    assert sha256(out / "0.png") != before


def test_claims_are_on_the_disk_before_what_they_claim(tmp_path, model, photos, monkeypatch):
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve().suffix)
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", noted)
    translate(photos / "2.png", "-o", tmp_path / "out", "--model", model)
    assert synced == [".jsonl", ".part"]


def test_a_damaged_manifest_costs_its_records_and_nothing_else(tmp_path, model, photos):
    out = tmp_path / "out"
    arguments = [photos, "-o", out, "--model", model, "--overwrite"]
    translate(*arguments)
    lines = (out / NAME).read_bytes().splitlines(keepends=True)
    damaged = [
        b"[" * 100_000 + b"\n",
        b'{"name": 3}\n',
        b"\xff\xfe\n",
        lines[-1].replace(b'"notes"', b'"nots"'),
    ]
    (out / NAME).write_bytes(b"".join([*damaged, *lines[:-1], b"\n"]))
    result = translate(*arguments[:-1])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("1 done, 4 done before, 0 failed")


def test_a_manifest_without_room_fails_pictures_and_says_why(tmp_path, model, site, photos):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    out = tmp_path / "out"
    done = run([photos, "-o", out, "--model", model], site, preexec_fn=limit)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{out / NAME}: cannot be written (File too large)" in done.stderr
    for name in files_in(out):
        assert np.array_equal(pixels(out / name), 255 - pixels(photos / name))
    again = run([photos, "-o", out, "--model", model], site)
    assert again.returncode == 0, again.stderr
    assert len(files_in(out)) == 5


def test_a_report_may_lie_beside_the_outputs(tmp_path, model, photos):
    out = tmp_path / "out"
    out.mkdir()
    arguments = [photos, "-o", out, "--model", model, "--report", out / "report.jsonl", "--sheet"]
    for _ in range(2):
        assert translate(*arguments).exit_code == 0
        assert len(records(out / "report.jsonl")) == 5


def test_a_report_of_a_job_that_never_began_is_left_alone(tmp_path, model, photos):
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    arguments = [photos, "-o", out, "--model", model, "--report", report]
    translate(*arguments)
    before = report.read_bytes()
    with open_manifest(out):
        assert translate(*arguments).exit_code == 2
    assert report.read_bytes() == before
    assert translate(*arguments).exit_code == 0
    assert len(records(report)) == 5
    guarded = translate(photos, "-o", out, "--model", model, "--report", out / NAME)
    assert guarded.exit_code == 2
    assert "would overwrite the job's manifest" in guarded.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_report_without_room_does_not_end_the_job(tmp_path, model, photos):
    out = tmp_path / "out"
    result = translate(photos, "-o", out, "--model", model, "--report", "/dev/full")
    assert result.exit_code == 1
    assert "the report cannot be written (No space left on device) and ends here" in result.stderr
    assert len(files_in(out)) == 5


def test_the_sheet_replaces_no_file_of_others(tmp_path, model, photos):
    out = tmp_path / "out"
    out.mkdir()
    (out / "contact-sheet.png").write_bytes(b"mine")
    arguments = [photos, "-o", out, "--model", model, "--sheet"]
    assert translate(*arguments).exit_code == 2
    assert (out / "contact-sheet.png").read_bytes() == b"mine"
    (out / "contact-sheet.png").unlink()
    for _ in range(2):
        assert translate(*arguments).exit_code == 0


def test_outputs_of_another_job_inside_the_input_are_left_out(tmp_path, model, photos):
    translate(photos, "-o", photos / "first", "--model", model)
    result = translate(photos, "-o", photos / "second", "--model", model)
    assert result.exit_code == 0
    assert f"{photos / 'first'}: left out, as it holds the outputs of another job" in result.stderr
    assert len(files_in(photos / "second")) == 5
    assert translate(photos / "first", "-o", tmp_path / "x", "--model", model).exit_code == 0


def test_short_memory_lets_one_picture_in_at_a_time(tmp_path, model, photos, monkeypatch):
    from i2i.engine import job, pictures

    for index in range(20):
        picture(12, 8 + 4 * (index % 7), index).save(photos / f"z{index}.png")
    begun = finished = most = 0
    decode, save = pictures.decode, pictures.save

    def counted(*arguments: object, **options: object) -> object:
        nonlocal begun, most
        begun += 1
        most = max(most, begun - finished)
        return decode(*arguments, **options)

    def written(*arguments: object) -> None:
        nonlocal finished
        save(*arguments)
        finished += 1

    monkeypatch.setattr(job, "available", lambda: 1)
    monkeypatch.setattr(pictures, "decode", counted)
    monkeypatch.setattr(pictures, "save", written)
    arguments = [photos, "-o", tmp_path / "out", "--model", model, "--batch-size", 4]
    assert translate(*arguments).stdout.startswith("25 done, 0 failed")
    assert most == 1


def test_tile_and_workers_reach_their_effects(tmp_path, plugins, photos, monkeypatch):
    from i2i.engine import pictures

    model = saved(tmp_path / "tiled.safetensors", plugins, tiles=True)
    family = sys.modules["tiny_negative"]
    picture(100, 150).save(tmp_path / "a.png")
    for tile, largest in [("48", 40), ("off", 152), ("auto", 152)]:  # four cores of 40
        family.seen.clear()
        out = tmp_path / f"out-{tile}"
        assert translate(tmp_path / "a.png", "-o", out, "--model", model, "--tile", tile)
        assert max(max(shape[2:]) for shape in family.seen) == largest
        assert np.array_equal(pixels(out / "a.png"), 255 - pixels(tmp_path / "a.png"))
    threads = set()
    decode = pictures.decode

    def noted(*arguments: object, **options: object) -> object:
        threads.add(threading.current_thread().name)
        time.sleep(0.02)
        return decode(*arguments, **options)

    monkeypatch.setattr(pictures, "decode", noted)
    translate(photos, "-o", tmp_path / "out", "--model", model, "--workers", 3)
    assert len(threads) == 3


@pytest.mark.parametrize("what", ["long", "circle"])
def test_odd_paths_are_said_in_one_line(tmp_path, model, photos, what):
    arguments = [photos, "-o", tmp_path / "out"]
    if what == "long":
        arguments[0] = tmp_path / ("x" * 300)
    else:
        (tmp_path / "loop").symlink_to("loop")
        arguments[2] = tmp_path / "loop"
    result = translate(*arguments, "--model", model)
    assert result.exit_code == 2, result.exception
    assert len(result.stderr.splitlines()) == 1


def test_names_outside_the_terminals_letters_are_printed(tmp_path, model, site):
    folder = tmp_path / "日本"
    folder.mkdir()
    picture(8, 8).save(folder / "日:horse:.png")
    command = [sys.executable, "-m", "i2i", "translate", str(folder), "-o", str(folder / "out")]
    done = subprocess.run(
        [*command, "--model", str(model), "--dry-run"],
        env=environment(site) | {"PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u65e5:horse:.png" in done.stdout


def test_a_folder_keeps_its_own_name_and_not_that_of_a_link(tmp_path, model, photos):
    (photos / "alias").symlink_to(photos / "sub")
    assert translate(photos, "-o", tmp_path / "out", "--model", model).exit_code == 0
    assert "sub/9.png" in files_in(tmp_path / "out")
    assert "alias/9.png" not in files_in(tmp_path / "out")
