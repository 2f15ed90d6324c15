import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2i.engine.events import Events
from i2i.hookspecs import hookimpl
from tests.cli.folder import (
    RECIPE,
    environment,
    files_in,
    opened,
    picture,
    pixels,
    records,
    saved,
    sha256,
    translate,
)


def test_every_good_picture_is_translated_and_every_bad_one_is_named(tmp_path, model):
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    picture(13, 17).save(photos / "odd.png")
    picture(1, 1).save(photos / "sub" / "one.png")
    picture(2500, 4000).save(photos / "ten-megapixels.jpg", quality=60)
    picture(20, 20).convert("L").save(photos / "grey.png")
    picture(20, 20).convert("P").save(photos / "palette.gif")
    truncated = BytesIO()
    picture(64, 64).save(truncated, "JPEG")
    (photos / "truncated.jpg").write_bytes(truncated.getvalue()[:900])
    (photos / "text.jpg").write_text("this is a text")
    (photos / "empty.jpg").touch()
    (photos / "notes.txt").write_text("not a picture, and not called one")
    (photos / ".hidden.jpg").touch()

    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    result = translate(photos, "-o", out, "--model", model, "--report", report, "--batch-size", 3)

    assert result.exit_code == 1
    good = ["grey.png", "odd.png", "palette.png", "sub/one.png", "ten-megapixels.jpg"]
    assert files_in(out) == good
    for name in good:
        source = next(photos.glob(f"{Path(name).with_suffix('')}.*"))
        assert pixels(out / name).shape[:2] == pixels(source).shape[:2]
        if source.suffix != ".jpg":
            assert np.array_equal(
                pixels(out / name), np.broadcast_to(255 - pixels(source), pixels(out / name).shape)
            )
    lines = result.stderr.splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == [
        str(photos / name) for name in ("empty.jpg", "text.jpg", "truncated.jpg")
    ]
    assert all(line.count("; ") == 2 for line in lines)
    assert "1 picture: grey became RGB" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("5 done, 3 failed, 2 skipped in ")
    assert result.stdout.rstrip().endswith(f"the translations are in {out}")

    by_name = {Path(each["input"]).name: each for each in records(report)}
    assert len(by_name) == 8
    odd = by_name["odd.png"]
    assert odd["input_sha256"] == sha256(photos / "odd.png")
    assert odd["output_sha256"] == sha256(out / "odd.png")
    assert odd["model_sha256"] == sha256(model)
    assert (odd["status"], odd["error"], odd["output"]) == ("done", None, str(out / "odd.png"))
    assert odd["request"] == {"strength": 1.0, "tone": "cold", "seconds": 0.0}
    broken = by_name["truncated.jpg"]
    assert (broken["status"], broken["output"], broken["output_sha256"]) == ("failed", None, None)
    assert "cannot be decoded" in broken["error"]


def test_a_whole_success_exits_zero_and_says_where(tmp_path, model):
    picture(8, 8).save(tmp_path / "a.webp", lossless=True)
    result = translate(tmp_path / "a.webp", "-o", tmp_path / "out", "--model", model)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert opened(tmp_path / "out" / "a.webp").format == "WEBP"


def test_memory_bugs_and_not_a_number_fail_their_picture_alone(tmp_path, model, caplog):
    for name, width in [("a", 601), ("b", 605), ("c", 609), ("d", 8), ("e", 607)]:
        picture(8, width).save(tmp_path / f"{name}.png")
    sources = sorted(tmp_path.glob("*.png"))
    result = translate(*sources, "-o", tmp_path / "out", "--model", model, "--batch-size", 2)
    assert result.exit_code == 1
    assert files_in(tmp_path / "out") == ["d.png"]
    lines = dict(line.split(".png: ") for line in result.stderr.splitlines() if ".png: " in line)
    said = {Path(name).name: text for name, text in lines.items()}
    assert said["a"].startswith("memory ran out; ")
    assert "--work-size" in said["a"]
    assert "(ValueError: a bug of the family)" in said["b"]
    assert "tiny-negative 1.0" in said["b"]
    assert "not a number" in said["c"]
    tracebacks = [each for each in caplog.records if each.exc_info]
    assert len(tracebacks) == 1  # not one a picture


def test_the_recipe_gives_model_request_and_sizes_and_the_command_overrides_them(tmp_path, model):
    Image.new("RGB", (60, 48), (255, 255, 255)).save(tmp_path / "a.png")
    source, out = tmp_path / "a.png", tmp_path / "out"
    assert translate(source, "-o", out, "--recipe", "negatives").exit_code == 0
    assert pixels(out / "a.png").shape == (24, 30, 3)
    assert pixels(out / "a.png").max() == pixels(out / "a.png").min() == 64  # half as strong
    arguments = ["--recipe", "negatives", "--restore-size", "--set", "strength=1"]
    assert translate(source, "-o", out, *arguments).exit_code == 0
    assert pixels(out / "a.png").shape == (48, 60, 3)
    assert pixels(out / "a.png").max() == 0
    arguments = ["--recipe", "negatives", "--work-size", "trained"]
    assert translate(source, "-o", out, *arguments).exit_code == 0
    assert pixels(out / "a.png").shape == (32, 40, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "negatifs"], "did you mean 'negatives'?"),
        (["--recipe", "negatives", "--set", "strenght=1"], "did you mean 'strength'?"),
        (["--recipe", "negatives", "--set", "strenght=1"], "one of strength, tone, seconds"),
        (["--recipe", "negatives", "--set", "strength=9"], "--set strength=9"),
        (["--recipe", "negatives", "--set", "tone=blue"], "'cold' or 'warm'"),
        (["--recipe", "negatives", "--work-size", "0"], "neither native, trained nor a number"),
        (["--recipe", "negatives", "--device", "cuda"], "--device cuda"),
        (["--recipe", "negatives", "--device", "meta"], "--device meta"),
        ([], "neither is given"),
        (["--recipe", "negatives", "--model", "x"], "both are given"),
    ],
)
def test_a_wrong_command_exits_two_and_says_what_exists(
    tmp_path, model, monkeypatch, arguments, said
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    picture(8, 8).save(tmp_path / "a.png")
    result = translate(tmp_path / "a.png", "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("recipe", "wrong"),
    [("negative_bare", "comes with no model"), ("negative_lost", "lost.safetensors is missing")],
)
def test_missing_weights_are_said_and_the_nearest_recipe_with_a_model_is_named(
    tmp_path, model, recipe, wrong
):
    picture(8, 8).save(tmp_path / "a.png")
    result = translate(tmp_path / "a.png", "-o", tmp_path / "out", "--recipe", recipe)
    assert result.exit_code == 1
    assert wrong in result.stderr
    assert "negatives" in result.stderr


def test_outputs_that_would_be_one_file_are_refused_before_any_work(tmp_path, model):
    for name in ("a.bmp", "a.png", "b.bmp"):
        picture(8, 8).save(tmp_path / name)
    out = tmp_path / "out"
    result = translate(tmp_path, "-o", out, "--model", model)
    assert result.exit_code == 2
    assert str(tmp_path / "a.bmp") in result.stderr
    assert str(tmp_path / "a.png") in result.stderr
    assert "use --keep-extension, which writes a.bmp.png" in result.stderr
    assert not out.exists()
    assert translate(tmp_path, "-o", out, "--model", model, "--keep-extension").exit_code == 0
    assert files_in(out) == ["a.bmp.png", "a.png", "b.bmp.png"]


def test_equal_names_of_two_folders_are_refused(tmp_path, model):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        picture(8, 8).save(tmp_path / folder / "a.png")
    result = translate(tmp_path / "one", tmp_path / "two", "-o", tmp_path / "out", "--model", model)
    assert result.exit_code == 2
    assert "into folders of their own" in result.stderr


def test_a_picture_given_twice_is_translated_once(tmp_path, model):
    picture(8, 8).save(tmp_path / "a.png")
    result = translate(tmp_path, tmp_path / "a.png", "-o", tmp_path / "out", "--model", model)
    assert result.stdout.startswith("1 done, 0 failed")


@pytest.mark.parametrize("through_link", [False, True])
def test_an_output_that_is_an_input_is_refused_before_any_work(tmp_path, model, through_link):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        picture(8, 8).save(photos / name)
    before = sha256(photos / "a.png")
    out = photos
    if through_link:
        out = tmp_path / "link"
        out.symlink_to(photos)
    result = translate(photos / "a.png", "-o", out, "--model", model)
    assert result.exit_code == 2
    assert f"would overwrite the input {photos / 'a.png'}" in result.stderr
    assert sha256(photos / "a.png") == before
    result = translate(photos, "-o", tmp_path, "--model", model, "--report", photos / "b.png")
    assert result.exit_code == 2
    assert "the report would overwrite the input" in result.stderr
    assert files_in(tmp_path) == ["photos/a.png", "photos/b.png"]


@pytest.mark.parametrize("by", ["model", "recipe"])
@pytest.mark.parametrize("through_link", [False, True])
def test_the_report_never_overwrites_what_the_job_reads(
    tmp_path, model, plugins, site, by, through_link
):
    picture(8, 8).save(tmp_path / "a.png")
    named = tmp_path / "mine.toml"
    named.write_text(RECIPE + f'[weights]\nfile = "{tmp_path.name}.safetensors"\n')
    weights = saved(tmp_path / f"{tmp_path.name}.safetensors", plugins)
    arguments = ["--model", weights] if by == "model" else ["--recipe", named]
    for path in [weights] if by == "model" else [named, weights]:
        before, report = sha256(path), path
        if through_link:
            report = tmp_path / f"link to {path.name}"
            report.symlink_to(path)
        result = translate(
            tmp_path / "a.png", "-o", tmp_path / "out", *arguments, "--report", report
        )
        assert result.exit_code == 2
        name = "the recipe" if path == named else "the model file"
        assert f"{report}: the report would overwrite {name} {path}; " in result.stderr
        assert sha256(path) == before
    assert not (tmp_path / "out").exists()


def test_the_sheet_never_overwrites_what_the_job_reads(tmp_path, plugins):
    weights = saved(tmp_path / "contact-sheet.png", plugins)
    (tmp_path / "in").mkdir()
    picture(8, 8).save(tmp_path / "in" / "a.png")
    before = sha256(weights)
    result = translate(tmp_path / "in", "-o", tmp_path, "--model", weights, "--sheet")
    assert result.exit_code == 2
    assert "the contact sheet would overwrite the model file" in result.stderr
    assert sha256(weights) == before


def test_linked_folders_are_followed_each_once_and_never_into_the_output(tmp_path, model):
    photos, elsewhere, out = tmp_path / "photos", tmp_path / "elsewhere", tmp_path / "photos/out"
    for folder in (photos, elsewhere, out / "old"):
        folder.mkdir(parents=True)
    for path in (photos / "a.png", elsewhere / "b.png", out / "old" / "c.png"):
        picture(8, 8).save(path)
    (photos / "link").symlink_to(elsewhere)
    (photos / "zlink").symlink_to(elsewhere)
    (photos / "written").symlink_to(out / "old")
    (elsewhere / "circle").symlink_to(photos)
    result = translate(photos, "-o", out, "--model", model)
    assert result.exit_code == 0, result.stderr
    assert files_in(out) == ["a.png", "link/b.png", "old/c.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_among_the_pictures_fails_and_is_not_waited_for(tmp_path, model, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    picture(8, 8).save(tmp_path / "a.png")
    read = Path.read_bytes

    def read_file(path: Path) -> bytes:
        assert not path.is_fifo(), "reading it would wait for ever"
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_file)
    result = translate(tmp_path, "-o", tmp_path / "out", "--model", model)
    assert result.exit_code == 1
    assert files_in(tmp_path / "out") == ["a.png"]
    assert result.stderr.startswith(f"{tmp_path / 'pipe.jpg'}: is a folder, a pipe, ")


def test_names_that_are_no_text_survive_the_report_and_do_not_split_lines(tmp_path, model):
    photos, report = tmp_path / "photos", tmp_path / "report.jsonl"
    out = Path(os.fsdecode(bytes(tmp_path) + b"/out\xfe"))
    photos.mkdir()
    bad = Path(os.fsdecode(bytes(photos) + b"/a\xff.png"))
    try:
        picture(8, 8).save(bad)
        Path(os.fsdecode(bytes(photos) + b"/b\xff\n\x1bc.png")).touch()
    except OSError:
        pytest.skip("this file system refuses such names")
    arguments = ["-o", out, "--model", model, "--report", report, "--sheet"]
    result = translate(photos, *arguments)
    assert result.exit_code == 1, result.exception
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{photos}/b\\udcff\\n\\x1bc.png: the file is empty; ")
    assert result.stdout.rstrip().endswith(f"translations are in {tmp_path}/out\\udcfe")
    assert f"contact sheet: {tmp_path}/out\\udcfe/contact-sheet.png\n" in result.stdout
    assert report.read_bytes().isascii()
    done, failed = sorted(records(report), key=lambda each: each["status"])
    assert os.fsencode(done["input"]) == bytes(bad)
    assert done["output_sha256"] == sha256(Path(done["output"]))
    assert os.fsencode(failed["input"]) == bytes(photos) + b"/b\xff\n\x1bc.png"


def test_the_longest_names_are_written(tmp_path, model):
    name = f"{'a' * 251}.png"
    picture(8, 8).save(tmp_path / name)
    result = translate(tmp_path / name, "-o", tmp_path / "out", "--model", model)
    assert result.exit_code == 0, result.stderr
    assert files_in(tmp_path / "out") == [name]


def test_a_sheet_that_cannot_be_written_is_said_and_the_summary_kept(tmp_path, model):
    picture(8, 8).save(tmp_path / "a.png")
    (tmp_path / "out" / "contact-sheet.png" / "full").mkdir(parents=True)
    result = translate(tmp_path / "a.png", "-o", tmp_path / "out", "--model", model, "--sheet")
    assert result.exit_code == 1
    assert "contact-sheet.png: cannot be written (" in result.stderr
    assert "contact sheet:" not in result.stdout
    assert result.stdout.startswith("1 done, 0 failed")


def test_space_is_asked_for_only_where_it_is_short(tmp_path, model, monkeypatch):
    picture(8, 8).save(tmp_path / "a.png")
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    arguments = [tmp_path / "a.png", "-o", tmp_path / "out", "--model", model]
    said = translate(*arguments).stderr
    assert "a.png: a folder is in the way; expected a name that is free; move it away" in said
    (tmp_path / "out" / "a.png").rmdir()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(122, "Quota")))
    assert "expected space to write; free some space, or" in translate(*arguments).stderr


def test_too_many_pixels_name_the_option_that_allows_more(tmp_path, model):
    picture(8, 8).save(tmp_path / "a.png")
    out = tmp_path / "out"
    result = translate(tmp_path / "a.png", "-o", out, "--model", model, "--max-pixels", 63)
    assert (
        "a.png: 8x8 pixels are too many; expected at most 63 pixels; raise --max" in result.stderr
    )


def test_an_output_folder_inside_the_input_does_not_feed_on_itself(tmp_path, model):
    picture(8, 8).save(tmp_path / "a.png")
    for _ in range(2):
        assert translate(tmp_path, "-o", tmp_path / "out", "--model", model).exit_code == 0
        assert files_in(tmp_path) == ["a.png", "out/a.png"]


@pytest.mark.parametrize("given", ["missing", "bare"])
def test_nothing_to_translate_exits_two(tmp_path, model, given):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "notes.txt").touch()
    result = translate(tmp_path / given, "-o", tmp_path / "out", "--model", model)
    assert result.exit_code == 2
    assert str(tmp_path / given) in result.stderr


def test_format_overrides_that_of_the_inputs(tmp_path, model):
    picture(8, 8).save(tmp_path / "a.JPG")
    arguments = ["-o", tmp_path / "out", "--model", model, "--format"]
    assert translate(tmp_path / "a.JPG", *arguments, "png").exit_code == 0
    assert opened(tmp_path / "out" / "a.png").format == "PNG"
    assert translate(tmp_path / "a.JPG", *arguments, "jpeg").exit_code == 0
    assert files_in(tmp_path / "out") == ["a.JPG", "a.png"]


def test_a_family_with_one_channel_writes_grey_files(tmp_path, plugins):
    model = saved(tmp_path / "grey.safetensors", plugins, channels_out=1)
    picture(9, 9).save(tmp_path / "a.png")
    assert translate(tmp_path / "a.png", "-o", tmp_path / "out", "--model", model).exit_code == 0
    written = opened(tmp_path / "out" / "a.png")
    assert written.mode == "L"
    assert np.array_equal(np.asarray(written), 255 - pixels(tmp_path / "a.png")[..., 0])


def test_orientation_is_applied(tmp_path, model):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(8, 12).save(tmp_path / "a.png", exif=exif)
    assert translate(tmp_path / "a.png", "-o", tmp_path / "out", "--model", model).exit_code == 0
    stored = np.asarray(opened(tmp_path / "a.png"))
    written = opened(tmp_path / "out" / "a.png")
    assert np.array_equal(np.asarray(written), 255 - np.rot90(stored, -1))
    assert written.getexif().get(0x0112, 1) == 1


def test_equal_jobs_give_equal_bytes_whatever_the_batch_and_threads(tmp_path, model):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(12):
        suffix = ["png", "jpg", "tif", "webp"][index % 4]
        picture(8 + index % 3, 20, index).save(photos / f"{index}.{suffix}")
    for out, batch_size, workers in [("one", 1, 1), ("two", 5, 3)]:
        arguments = ["--model", model, "--batch-size", batch_size, "--workers", workers]
        assert translate(photos, "-o", tmp_path / out, *arguments).exit_code == 0
    assert len(files_in(tmp_path / "one")) == 12
    for name in files_in(tmp_path / "one"):
        assert sha256(tmp_path / "one" / name) == sha256(tmp_path / "two" / name)


def test_the_sheet_shows_pairs_and_its_path_is_printed(tmp_path, model):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for index in range(30):
        Image.new("RGB", (16, 16), (200, 0, 0)).save(photos / f"{index:02}.png")
    result = translate(photos, "-o", out, "--model", model, "--sheet")
    assert result.exit_code == 0
    assert f"contact sheet: {out / 'contact-sheet.png'}" in result.stdout
    sheet = pixels(out / "contact-sheet.png")
    left, right = (200, 0, 0), (55, 255, 255)
    assert (sheet == left).all(2).sum() == (sheet == right).all(2).sum() == 24 * 16 * 16
    assert sheet[8 + 8, 8 + 128].tolist() == list(left)
    (photos / "contact-sheet.png").write_bytes((photos / "00.png").read_bytes())
    result = translate(photos, "-o", out, "--model", model, "--sheet")
    assert result.exit_code == 2
    assert "the contact sheet and" in result.stderr


def test_plugins_hear_of_every_picture(tmp_path, model):
    module = sys.modules["tiny_negative"]
    module.heard.clear()
    picture(8, 8).save(tmp_path / "a.png")
    (tmp_path / "b.png").touch()
    translate(tmp_path, "-o", tmp_path / "out", "--model", model)
    assert sorted((Path(each.input).name, each.status) for each in module.heard) == [
        ("a.png", "done"),
        ("b.png", "failed"),
    ]


def test_a_write_that_fails_leaves_the_old_file_and_no_part_of_a_new_one(
    tmp_path, model, monkeypatch
):
    picture(8, 8).save(tmp_path / "a.png")
    out = tmp_path / "out"
    translate(tmp_path / "a.png", "-o", out, "--model", model)
    old = (out / "a.png").read_bytes()

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().suffix == ".part":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = translate(tmp_path / "a.png", "-o", out, "--model", model, "--overwrite")
    assert result.exit_code == 1
    assert "a.png: cannot be written (No space left on device)" in result.stderr
    assert files_in(out) == ["a.png"]
    assert (out / "a.png").read_bytes() == old


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_job_keeps_what_is_finished_and_exits_130(tmp_path, model, site, number):
    photos, out, report = tmp_path / "photos", tmp_path / "out", tmp_path / "report.jsonl"
    photos.mkdir()
    for index in range(300):
        picture(40, 40, index).save(photos / f"{index:03}.png")
    arguments = [photos, "-o", out, "--model", model, "--report", report, "--set", "seconds=0.05"]
    process = subprocess.Popen(
        [sys.executable, "-m", "i2i", "translate", *map(str, arguments)],
        env=environment(site),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (report.exists() and len(records(report)) >= 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout.startswith("stopped: ")
    written = files_in(out)
    assert 3 <= len(written) < 300
    assert written == sorted(Path(each["output"]).name for each in records(report))
    for name in written:
        assert np.array_equal(pixels(out / name), 255 - pixels(photos / name))


def test_only_a_bounded_number_of_pictures_is_ever_open(tmp_path, plugins, model, monkeypatch):
    from i2i.engine import pictures
    from i2i.engine.discovery import make_plan
    from i2i.engine.job import run_job
    from i2i.engine.records import Result, Settings
    from i2i.model_file import load_model

    for index in range(60):
        picture(8, 8 + 4 * (index % 30), index).save(tmp_path / f"{index:02}.png")
    most = begun = finished = 0
    decode = pictures.decode

    def counted(*arguments: object, **advice: str) -> object:
        nonlocal begun, most
        begun += 1
        most = max(most, begun - finished)
        return decode(*arguments, **advice)

    class Listener:
        @hookimpl
        def i2i_image_translated(self, result: Result) -> None:
            nonlocal finished
            finished += 1

    monkeypatch.setattr(pictures, "decode", counted)
    loaded = load_model(model, plugins)
    settings = Settings(plugins.family("negative").Request(), batch_size=2, num_workers=2)
    plan = make_plan([tmp_path], tmp_path / "out")
    listener = Listener()
    plugins.manager.register(listener)
    try:
        summary = run_job(plan, loaded, settings, Events(plugins, [], pytest.fail))
    finally:
        plugins.manager.unregister(listener)
    assert summary.num_done == finished == begun == 60
    # 5 being decoded, 8 waiting for company, 5 + 2 being written
    assert most <= 20
