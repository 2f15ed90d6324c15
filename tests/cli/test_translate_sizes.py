"""Enlarging through files: every size exact, every kind kept, and results that fit in a box."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from i2i.imaging import read_picture
from i2i.provenance import read_provenance
from tests.cli.folder import files_in, opened, picture, pixels, records, saved, translate

FILES = Path(__file__).parents[1] / "files"
SIZES = [(1, 1), (1, 7), (2, 3), (5, 1), (17, 33)]


@pytest.fixture(scope="module")
def enlarging(tmp_path_factory, plugins) -> dict[int, Path]:
    """Models that repeat each pixel, and may be tiled."""
    folder = tmp_path_factory.mktemp("enlarging")
    return {
        scale: saved(folder / f"x{scale}.safetensors", plugins, scale=scale, tiles=True)
        for scale in (1, 2, 3, 4)
    }


def enlarged(values: np.ndarray, scale: int) -> np.ndarray:
    return values.repeat(scale, 0).repeat(scale, 1)


def write_kinds(folder: Path, size: tuple[int, int]) -> None:
    """Write one picture of each kind that a camera, a scanner or a program makes."""
    name = "x".join(map(str, size))
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    slopes = [rows * 7 + columns, 200 - rows - columns * 5, 100 + rows * 3 - columns * 2]
    image = Image.fromarray(np.stack(slopes, -1).astype(np.uint8))
    image.save(folder / f"rgb-{name}.png")
    image.convert("L").save(folder / f"grey-{name}.jpg", quality=95)
    image.convert("CMYK").save(folder / f"cmyk-{name}.jpg", quality=95)
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / f"palette-{name}.png")
    image.save(folder / f"colour-{name}.webp", lossless=True)
    generator = np.random.default_rng(1)
    deep = generator.integers(0, 65536, (*size, 4), dtype=np.uint16)
    deep[..., 3] |= 1  # all is seen
    assert cv2.imwrite(str(folder / f"rgba16-{name}.png"), deep)
    assert cv2.imwrite(str(folder / f"grey16-{name}.tif"), deep[..., 0])


@pytest.mark.parametrize(("scale", "tile"), [(2, 12), (3, "auto"), (4, 12)])
def test_every_size_of_every_kind_is_enlarged_exactly(tmp_path, enlarging, scale, tile):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for size in SIZES:
        write_kinds(folder, size)
    arguments = ["--model", enlarging[scale], "--tile", tile]
    assert translate(folder, "-o", out, *arguments).exit_code == 0
    assert files_in(out) == files_in(folder)
    for path in folder.iterdir():
        source, result = read_picture(path), read_picture(out / path.name)
        assert result.size == (source.size[0] * scale, source.size[1] * scale), path.name
        assert result.pixels.dtype == source.pixels.dtype, path.name
        assert (result.alpha is None) == (source.alpha is None), path.name
        peak = int(np.iinfo(source.pixels.dtype).max)
        expected = peak - enlarged(source.pixels, scale).astype(int)
        difference = np.abs(result.pixels - expected)
        lossless = path.suffix in (".png", ".tif")
        assert difference.max() <= 1 if lossless else difference.mean() < 4, path.name


def test_transparency_is_enlarged_smoothly_and_no_further_than_its_edge(tmp_path, enlarging):
    """As by Pillow's bicubic filter, whose kernel is the same; no rim of faint opacity."""
    values = np.zeros((20, 30, 4), np.uint8)
    values[..., :3] = (200, 30, 30)
    values[5:15, 8:22, 3] = 255
    values[17:, :, 3] = 128
    Image.fromarray(values).save(tmp_path / "a.png")
    assert translate(tmp_path / "a.png", "-o", tmp_path / "out", "--model", enlarging[4])
    written = np.asarray(opened(tmp_path / "out" / "a.png"))
    alpha = Image.fromarray(values[..., 3].astype(np.float32))  # 8 bits clip between two passes
    expected = np.asarray(alpha.resize((120, 80), Image.Resampling.BICUBIC)).clip(0, 255)
    assert np.abs(written[..., 3] - expected).max() <= 0.51
    assert written[:17, :, 3].max() <= 1  # where two undershoots meet
    assert len(np.unique(written[40, 24:48, 3])) > 4  # an edge with steps between


@pytest.mark.parametrize("options", [[], ["--max-side", 50], ["--max-side", 17]])
def test_hidden_colours_do_not_bleed_when_enlarged_and_reduced(tmp_path, enlarging, options):
    values = np.zeros((30, 40, 4), np.uint8)
    values[..., :3] = (0, 255, 0)  # hidden
    values[6:20, 9:31] = (200, 30, 30, 255)
    Image.fromarray(values).save(tmp_path / "a.png")
    arguments = ["--model", enlarging[4], *options]
    assert translate(tmp_path / "a.png", "-o", tmp_path / "out", *arguments).exit_code == 0
    written = np.asarray(opened(tmp_path / "out" / "a.png")).astype(int)
    seen = written[written[..., 3] > 0]
    assert np.abs(seen[:, :3] - (55, 225, 225)).max() <= 1
    assert len(seen) < 0.5 * written[..., 3].size


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((30, 40), ["--to", "100x90"], (75, 100)),
        ((30, 40), ["--to", "1000X50"], (50, 67)),
        ((40, 30), ["--to", "100x90"], (90, 68)),
        ((30, 40), ["--max-side", 100], (75, 100)),
        ((40, 30), ["--max-side", 100], (100, 75)),
        ((30, 40), ["--max-side", 1], (1, 1)),
        ((30, 40), ["--max-side", 1000], (120, 160)),
        ((30, 40), ["--max-side", 100, "--work-size", 15, "--no-restore-size"], (60, 80)),
    ],
)
def test_results_fit_in_the_size_asked_for_and_keep_their_shape(
    tmp_path, enlarging, size, options, expected
):
    picture(*size).save(tmp_path / "a.png")
    arguments = ["--model", enlarging[4], *options]
    assert translate(tmp_path / "a.png", "-o", tmp_path / "out", *arguments).exit_code == 0
    assert pixels(tmp_path / "out" / "a.png").shape[:2] == expected


def test_a_folder_of_mixed_shapes_is_not_distorted(tmp_path, enlarging):
    """A disc stays a disc: as wide as it is high."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index, (height, width) in enumerate([(60, 90), (90, 60), (60, 60)]):
        rows, columns = np.mgrid[0:height, 0:width]
        inside = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < 25**2
        Image.fromarray(np.where(inside, 0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    arguments = ["--model", enlarging[4], "--to", "192x108"]
    assert translate(folder, "-o", tmp_path / "out", *arguments).exit_code == 0
    for path in (tmp_path / "out").glob("*.png"):
        inside = pixels(path)[..., 0] > 127  # negated
        high, wide = inside.any(1).sum(), inside.any(0).sum()
        assert abs(int(high) - int(wide)) <= 1, path.name


@pytest.mark.parametrize("kind", ["rgb", "grey", "rgba16", "grey16"])
def test_reduced_results_are_pillows_lanczos_of_the_whole_result(
    tmp_path, enlarging, plugins, kind
):
    rows, columns = np.mgrid[0:61, 0:83]
    values = np.random.default_rng(0).random((61, 83, 4))
    values[..., 3] = np.sin(rows / 9) * np.cos(columns / 7) * 0.3 + 0.6
    deep, num_channels = "16" in kind, {"rgb": 3, "rgba16": 4}.get(kind, 1)
    peak = 65535 if deep else 255
    array = (values[..., :num_channels] * peak).astype(np.uint16 if deep else np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), array)
    model = enlarging[3]
    if num_channels == 1:
        model = saved(tmp_path / "grey.safetensors", plugins, scale=3, channels_out=1)
    for name, options in [("whole", []), ("fitted", ["--max-side", 100])]:
        arguments = ["--model", model, *options]
        assert translate(tmp_path / "a.png", "-o", tmp_path / name, *arguments).exit_code == 0
    whole, fitted = (
        cv2.imread(str(tmp_path / name / "a.png"), cv2.IMREAD_UNCHANGED)
        for name in ("whole", "fitted")
    )
    assert fitted.dtype == array.dtype
    assert fitted.shape[:2] == (73, 100)
    whole = whole.reshape(*whole.shape[:2], -1)
    fitted = fitted.reshape(*fitted.shape[:2], -1)
    assert whole.shape[2] == fitted.shape[2] == num_channels
    for channel in range(num_channels):
        image = Image.fromarray(whole[..., channel].astype(np.float32))
        expected = np.asarray(image.resize((100, 73), Image.Resampling.LANCZOS)).clip(0, peak)
        allowed = 0.6 if channel < 3 else peak * 0.01  # alpha goes there in one step
        assert np.abs(fitted[..., channel] - expected).max() <= allowed


def test_results_smaller_than_asked_for_and_wasted_work_are_said(tmp_path, enlarging):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, size in [("small", (9, 12)), ("fit", (30, 40)), ("large", (130, 90))]:
        picture(*size).save(folder / f"{name}.png")
    report = tmp_path / "report.jsonl"
    arguments = ["--model", enlarging[4], "--max-side", 120, "--report", report]
    done = translate(folder, "-o", tmp_path / "out", *arguments)
    notes = {Path(each["input"]).stem: each["notes"] for each in records(report)}
    assert notes["fit"] == []
    assert notes["small"] == ["the result is smaller than the 120x120 asked for: left as it is"]
    assert notes["large"] == [
        "enlarged by 4, then reduced: 120x120 is no larger than the picture was"
    ]
    assert f"1 picture: {notes['small'][0]}\n" in done.stdout


def test_another_size_is_another_job_and_the_same_is_not(tmp_path, enlarging):
    picture(30, 40).save(tmp_path / "a.png")
    arguments = [tmp_path / "a.png", "-o", tmp_path / "out", "--model", enlarging[4]]
    for options, said in [
        (["--to", "80x80"], "1 done, 0"),
        (["--to", "80x80"], "0 done, 1 done before"),
        (["--max-side", 80], "0 done, 1 done before"),
        (["--to", "80x50"], "1 done, 0"),
        ([], "1 done, 0"),
        (["--ensemble"], "1 done, 0"),
        (["--ensemble"], "0 done, 1 done before"),
    ]:
        result = translate(*arguments, *options)
        assert result.exit_code == 0
        assert said in result.stdout, options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--to", "80x80", "--max-side", "80"], "--to and --max-side: both are given"),
        (["--to", "80"], "is no size such as 1920x1080"),
        (["--to", "80x0"], "is no size such as 1920x1080"),
        (["--to", "x80"], "is no size such as 1920x1080"),
        (["--to", "-80x80"], "is no size such as 1920x1080"),
        (["--max-side", "0"], "--max-side"),
    ],
)
def test_a_wrong_size_exits_two(tmp_path, enlarging, options, said):
    picture(9, 9).save(tmp_path / "a.png")
    arguments = ["-o", tmp_path / "out", "--model", enlarging[4], *options]
    result = translate(tmp_path / "a.png", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize(
    "options",
    [[], ["--max-side", 333], ["--max-side", 50], ["--work-size", 40, "--no-restore-size"]],
    ids=["whole", "larger", "smaller", "reduced first"],
)
def test_the_physical_size_of_a_picture_stays(tmp_path, enlarging, suffix, options):
    picture(90, 121).save(tmp_path / f"a.{suffix}", dpi=(300, 300))
    arguments = ["--model", enlarging[4], *options]
    assert translate(tmp_path / f"a.{suffix}", "-o", tmp_path / "out", *arguments).exit_code == 0
    written = opened(tmp_path / "out" / f"a.{suffix}")
    if not options:
        assert written.size == (484, 360)
        assert float(written.info["dpi"][0]) == pytest.approx(1200, rel=1e-3)
    # A JPEG names whole dots an inch
    across, down = (float(dpi) for dpi in written.info["dpi"])
    assert across == pytest.approx(down)
    assert written.width / across == pytest.approx(121 / 300, rel=0.005)
    assert written.height / down == pytest.approx(90 / 300, rel=0.02)  # of few pixels, half a one


@pytest.mark.parametrize(("options", "factor"), [([], 4), (["--max-side", 100], None)])
def test_exif_names_the_size_that_is_written(tmp_path, enlarging, options, factor):
    source = FILES / "camera.jpg"
    before = opened(source)
    arguments = ["--model", enlarging[4], *options]
    assert translate(source, "-o", tmp_path / "out", *arguments).exit_code == 0
    written = opened(tmp_path / "out" / "camera.jpg")
    named = written.getexif().get_ifd(0x8769)
    assert {0xA002, 0xA003} <= set(named)
    assert (named[0xA002], named[0xA003]) == written.size
    assert max(written.size) == (max(before.size) * factor if factor else 100)
    assert written.getexif().get_ifd(0x8769).keys() == before.getexif().get_ifd(0x8769).keys()


@pytest.mark.parametrize(
    ("name", "size", "limit"),
    [("a.jpg", (2, 16400), "65,500"), ("a.webp", (4096, 3), "16,383")],
)
def test_a_result_too_long_for_its_format_is_known_before_it_is_computed(
    tmp_path, enlarging, name, size, limit
):
    picture(*size).save(tmp_path / name)
    format_ = "jpeg" if name == "a.jpg" else "webp"
    arguments = ["--model", enlarging[4], "--format", format_]
    seen = sys.modules["tiny_negative"].seen
    seen.clear()
    result = translate(tmp_path / name, "-o", tmp_path / "asked", *arguments)
    assert result.exit_code == 1
    assert f"more than the {limit} a side" in result.stderr
    assert "--format, such as png, or a smaller result with --max-side" in result.stderr
    assert not seen
    assert files_in(tmp_path / "asked") == []
    forecast = translate(tmp_path / name, "-o", tmp_path / "dry", *arguments, "--dry-run")
    assert forecast.exit_code == 1
    assert f"more than the {limit} a side" in forecast.stderr
    fitted = translate(tmp_path / name, "-o", tmp_path / "fitted", *arguments, "--max-side", 99)
    assert fitted.exit_code == 0
    assert files_in(tmp_path / "fitted") == [name]
    own = translate(tmp_path / name, "-o", tmp_path / "own", "--model", enlarging[4])
    assert own.exit_code == 0
    assert "written as PNG" in own.stdout
    assert read_picture(tmp_path / "own" / "a.png").size == (size[0] * 4, size[1] * 4)


def test_the_ensemble_runs_eight_times_and_is_on_record(tmp_path, enlarging):
    """Repeating pixels is the same in every position: so is the mean."""
    picture(30, 41).save(tmp_path / "a.png")
    seen = sys.modules["tiny_negative"].seen
    for name, options in [("once", []), ("eight", ["--ensemble"])]:
        seen.clear()
        arguments = ["--model", enlarging[2], *options]
        assert translate(tmp_path / "a.png", "-o", tmp_path / name, *arguments).exit_code == 0
        assert len(seen) == (8 if options else 1)
    once, eight = (pixels(tmp_path / name / "a.png") for name in ("once", "eight"))
    assert np.array_equal(once, eight)
    found = read_provenance(read_picture(tmp_path / "eight" / "a.png").metadata)
    assert found is not None
    assert '"ensemble": true' in found.request


def test_the_sheet_shows_an_enlarged_picture_beside_its_source(tmp_path, enlarging):
    Image.new("RGB", (40, 40), (250, 10, 10)).save(tmp_path / "a.png")
    arguments = ["--model", enlarging[4], "--sheet"]
    assert translate(tmp_path / "a.png", "-o", tmp_path / "out", *arguments).exit_code == 0
    sheet = pixels(tmp_path / "out" / "contact-sheet.png").astype(int)
    sources = (np.abs(sheet - (250, 10, 10)).max(-1) <= 3).sum()
    results = (np.abs(sheet - (5, 245, 245)).max(-1) <= 3).sum()
    assert sources == 40 * 40
    assert results == 160 * 160
