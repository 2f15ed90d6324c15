"""Folder jobs that are killed, repeated, looked at beforehand, or stopped."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from i2i.engine.manifest import LOCK, NAME, open_manifest
from tests.cli.folder import (
    environment,
    files_in,
    picture,
    pixels,
    records,
    saved,
    sha256,
    translate,
)

NOBODY = 65534


def statuses(report: Path) -> dict[str, str]:
    return {each["name"]: each["status"] for each in records(report)}


def test_a_job_started_again_does_only_what_is_missing_or_changed(tmp_path, model, photos):
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    arguments = [photos, "-o", out, "--model", model, "--report", report]
    assert translate(*arguments).exit_code == 0
    before = {name: (out / name).stat().st_mtime_ns for name in files_in(out)}
    assert set(statuses(report).values()) == {"done"}

    again = translate(*arguments)
    assert again.stdout.startswith("0 done, 5 done before, 0 failed")
    assert set(statuses(report).values()) == {"kept"}
    assert before == {name: (out / name).stat().st_mtime_ns for name in files_in(out)}
    assert all(each["output_sha256"] == sha256(Path(each["output"])) for each in records(report))

    picture(12, 16, 77).save(photos / "0.png")  # other input
    (out / "1.png").write_bytes(b"other output")
    (out / "2.png").unlink()
    picture(12, 16, 78).save(photos / "new.png")
    assert translate(*arguments).exit_code == 0
    assert statuses(report) == {
        "0.png": "done", "1.png": "done", "2.png": "done", "3.png": "kept",
        "new.png": "done", "sub/9.png": "kept",
    }  # fmt: skip
    for name in files_in(out):
        assert np.array_equal(pixels(out / name), 255 - pixels(photos / name))


@pytest.mark.parametrize(
    "change",
    [
        ("--set", "strength=0.5"),
        ("--work-size", "9"),
        ("--precision", "bfloat16"),
        ("--no-provenance",),
        ("--keep-profile",),
        ("--strip-gps",),
        ("--overwrite",),
    ],
    ids=lambda change: change[0],
)
def test_another_request_is_another_job(tmp_path, model, photos, change):
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    arguments = [photos, "-o", out, "--model", model, "--report", report]
    translate(*arguments)
    assert translate(*arguments, *change).exit_code == 0
    assert set(statuses(report).values()) == {"done"}


def test_another_model_is_another_job(tmp_path, model, photos, plugins):
    other = saved(tmp_path / "other.safetensors", plugins, channels_out=1)
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    translate(photos, "-o", out, "--model", model)
    assert translate(photos, "-o", out, "--model", other, "--report", report).exit_code == 0
    assert set(statuses(report).values()) == {"done"}


def test_what_cannot_change_the_output_does_not_undo_a_job(tmp_path, model, photos):
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    translate(photos, "-o", out, "--model", model)
    arguments = ["--batch-size", 3, "--workers", 1, "--max-pixels", 10**6, "--tile", "off"]
    again = translate(photos, "-o", out, "--model", model, "--report", report, *arguments)
    assert again.exit_code == 0
    assert set(statuses(report).values()) == {"kept"}


def test_killed_job_started_again_ends_with_the_job_it_would_have_been(
    tmp_path, model, site, photos
):
    for index in range(40):
        picture(12, 16, 100 + index).save(photos / f"more-{index}.png")
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert translate(photos, "-o", calm, "--model", model, "--set", "seconds=0.02").exit_code == 0
    command = [sys.executable, "-m", "i2i", "translate", photos, "-o", killed, "--model", model]
    command = [str(each) for each in [*command, "--set", "seconds=0.02"]]
    num_done = 0
    for least in (3, 11, 25):
        process = subprocess.Popen(
            command, env=environment(site), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 120
        while num_done < least and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
            with contextlib.suppress(FileNotFoundError):
                num_done = (killed / NAME).read_bytes().count(b'"done"')
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    with (killed / NAME).open("ab") as manifest:
        manifest.write(b'{"name": "torn')  # as a job killed in mid-line leaves it
    report = tmp_path / "report.jsonl"
    last = translate(
        photos, "-o", killed, "--model", model, "--set", "seconds=0.02", "--report", report
    )
    assert last.exit_code == 0, last.stderr
    kept = [name for name, status in statuses(report).items() if status == "kept"]
    assert 25 <= len(kept) < 45
    assert files_in(killed) == files_in(calm)
    assert not [file for file in killed.rglob("*") if file.suffix == ".part"]
    for name in files_in(calm):
        assert sha256(calm / name) == sha256(killed / name)
    assert all(json.loads(line) for line in (killed / NAME).read_text().splitlines())


def test_two_jobs_never_share_a_folder(tmp_path, model, photos):
    out = tmp_path / "out"
    out.mkdir()
    with open_manifest(out):
        result = translate(photos, "-o", out, "--model", model)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {out}: another job is writing into it; ")
    assert files_in(out) == []
    assert (out / LOCK).exists()
    assert translate(photos, "-o", out, "--model", model).exit_code == 0


def test_a_file_that_no_job_wrote_is_never_replaced_unasked(tmp_path, model, photos):
    out = tmp_path / "out"
    out.mkdir()
    (out / "1.png").write_bytes(b"mine")
    (out / "3.png").write_bytes(b"mine too")
    result = translate(photos, "-o", out, "--model", model)
    assert result.exit_code == 2
    assert f"{out / '1.png'}: no i2i job wrote this file (and 1 other files)" in result.stderr
    assert "--overwrite" in result.stderr
    assert files_in(out) == ["1.png", "3.png"]
    assert (out / "1.png").read_bytes() == b"mine"
    assert translate(photos, "-o", out, "--model", model, "--overwrite").exit_code == 0
    assert np.array_equal(pixels(out / "1.png"), 255 - pixels(photos / "1.png"))


def test_dry_run_says_all_and_writes_nothing(tmp_path, model, photos):
    out = tmp_path / "out"
    (photos / "broken.png").write_bytes(b"no picture")
    (photos / "notes.txt").touch()
    result = translate(photos, "-o", out, "--model", model, "--dry-run")
    assert result.exit_code == 1
    assert not out.exists()
    last = result.stdout.splitlines()[-1]
    assert last == (
        "5 to translate (0.0 megapixels), 0 done before, 0 whose place holds a file that no job "
        "wrote, 1 that would fail, 1 skipped"
    )
    assert f"translate: {photos / '0.png'} -> {out / '0.png'}" in result.stdout
    assert str(photos / "broken.png") in result.stderr

    (photos / "broken.png").unlink()
    picture(1000, 2000).save(photos / "large.png")
    translate(photos / "0.png", "-o", out, "--model", model)
    (out / "1.png").write_bytes(b"mine")
    before = (out / NAME).read_bytes()
    result = translate(photos, "-o", out, "--model", model, "--dry-run")
    last = result.stdout.splitlines()[-1]
    assert last.startswith("4 to translate (2.0 megapixels), 1 done before, 1 whose place holds")
    assert f"in the way: {photos / '1.png'} -> {out / '1.png'}" in result.stdout
    assert f"kept: {photos / '0.png'} -> {out / '0.png'}" in result.stdout
    assert (out / NAME).read_bytes() == before
    picture(8, 8).save(photos / "0.jpg")
    colliding = translate(photos, "-o", out, "--model", model, "--dry-run", "--format", "png")
    assert colliding.exit_code == 2
    assert "--keep-extension" in colliding.stderr


def test_fail_fast_stops_at_the_first_failure(tmp_path, model, photos):
    for index in range(30):
        picture(12, 16, index).save(photos / f"z{index}.png")
    (photos / "00.png").write_bytes(b"no picture")
    result = translate(photos, "-o", tmp_path / "out", "--model", model, "--fail-fast")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    num_done = len(files_in(tmp_path / "out"))
    assert num_done < 20
    left = 36 - 1 - num_done
    assert result.stdout.startswith(f"stopped: {num_done} done, 1 failed, 0 skipped, {left} left")


def test_animations_are_noted_or_refused(tmp_path, model):
    frames = [picture(8, 8, seed) for seed in range(3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    out = tmp_path / "out"
    result = translate(tmp_path / "a.webp", "-o", out, "--model", model)
    assert result.exit_code == 0
    assert "1 picture: first of 3 frames" in result.stdout
    other = translate(
        tmp_path / "a.webp", "-o", tmp_path / "other", "--model", model, "--frames", "error"
    )
    assert other.exit_code == 1
    assert "--frames first" in other.stderr


def test_what_a_format_cannot_hold_becomes_png_or_is_refused(tmp_path, model):
    clear = picture(8, 8).convert("RGBA")
    clear.putalpha(99)
    wide = picture(1, 16_400)
    photos = tmp_path / "photos"
    photos.mkdir()
    clear.save(photos / "clear.png")
    picture(8, 8).save(photos / "plain.jpg")
    wide.save(photos / "wide.png")
    out = tmp_path / "out"
    result = translate(photos, "-o", out, "--model", model, "--format", "jpeg")
    assert result.exit_code == 1
    assert f"{photos / 'clear.png'}: jpeg cannot hold the translation (" in result.stderr
    assert files_in(out) == ["plain.jpg", "wide.jpg"]
    result = translate(photos, "-o", out, "--model", model, "--format", "webp")
    assert f"{photos / 'wide.png'}: webp cannot hold the translation (" in result.stderr
