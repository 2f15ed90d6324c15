"""``i2i evaluate`` on families whose results are known beforehand, measured by scikit-image."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from i2i.imaging import read_picture, rgb8
from i2i.metrics import Score, better_than
from i2i.plugins import Plugins, load_plugins
from i2i_pix2pix.translator import Pix2Pix, Pix2PixOptions
from tests.cli.known import CODE, RECIPE, evaluate, expected, halved, known, noise, saved, write


@pytest.fixture(scope="module")
def plugins(tmp_path_factory) -> Iterator[Plugins]:
    site = tmp_path_factory.mktemp("site")
    (site / "known.py").write_text(CODE)
    information = site / "known-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: known\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[i2i]\nknown = known\n")
    (site / "recipes" / "weights").mkdir(parents=True)
    (site / "recipes" / "repeats.toml").write_text(RECIPE)
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    found = load_plugins()
    saved(site / "recipes" / "weights" / "repeats.safetensors", found)
    yield found
    sys.path.remove(str(site))
    sys.modules.pop("known", None)


@pytest.fixture
def model(tmp_path, plugins) -> Path:
    return saved(tmp_path / "repeater.safetensors", plugins)


@pytest.fixture
def data(tmp_path) -> Path:
    """Pictures of odd sizes, and their halves, in the folders of layout ``paired``."""
    folder = tmp_path / "Known3"
    for index, (height, width) in enumerate([(40, 48), (41, 53), (60, 35)]):
        large = noise(height, width, index)
        write(folder / "testHigh" / f"{index}.png", large)
        write(folder / "testLow" / f"{index}.png", halved(large))
    return folder


def test_every_number_is_what_scikit_image_says_and_carries_its_protocol(tmp_path, model, data):
    report = tmp_path / "made" / "report.json"
    result = evaluate("--model", model, "--data", data, "--layout", "paired", "--report", report)

    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(report.read_text())
    sums: dict[str, list[dict[str, float]]] = {"model": [], "baseline": []}
    for picture, name in zip(found["pictures"], ("0.png", "1.png", "2.png"), strict=True):
        made, enlarged, target = known(data, name)
        assert picture["name"] == f"testHigh/{name}"
        assert picture["size"] == [target.shape[1], target.shape[0]]
        for row, pixels in (("model", made), ("baseline", enlarged)):
            values = dict(picture[row])
            assert values.pop("features") > 0
            assert values == pytest.approx(expected(pixels, target), abs=1e-5)
            sums[row].append(values)
    lines = result.stdout.splitlines()
    for row, label in (("model", "repeater.safetensors"), ("baseline", "Pillow bicubic")):
        scores = {each["name"]: each for each in found["scores"][row]}
        assert list(scores) == ["psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "features"]
        for name in ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"):
            mean = np.mean([values[name] for values in sums[row]])
            assert scores[name]["value"] == pytest.approx(mean)
            spread = np.std([values[name] for values in sums[row]], ddof=1) / 3**0.5
            assert scores[name]["standard_error"] == pytest.approx(spread)
            assert (scores[name]["num_pictures"], scores[name]["data"]) == (3, "Known3 (test)")
        printed = next(line for line in lines if line.strip().startswith(label)).split()
        assert f"{scores['psnr_y']['value']:.2f}" in printed
        assert f"{scores['ssim_y']['value']:.4f}" in printed
    one, other = (Score.from_dict(found["scores"][row][0]) for row in ("model", "baseline"))
    assert better_than(one, other) == (one.value > other.value)  # measured on the same pictures
    assert any(
        line.startswith("psnr_y: PSNR, peak 255; Y of BT.601") and "2 pixels cut off" in line
        for line in lines
    )
    where = f"{data} (test, layout paired), sources from testLow, targets from testHigh"
    assert f"over all 3 pictures of {where}" in lines
    assert f"model repeater.safetensors, sha256 {found['model']['sha256'][:12]}" in lines


def test_a_picture_too_large_to_be_measured_is_named(model, data, monkeypatch):
    monkeypatch.setattr("i2i.engine.evaluation.available", lambda: 999 * 40 * 40)
    arguments = ["--model", model, "--data", data, "--layout", "paired"]
    result = evaluate(*arguments, "--metrics", "features")
    assert result.exit_code == 1
    assert "measuring features of" in result.stderr
    assert evaluate(*arguments, "--metrics", "psnr_y").exit_code == 0


def test_a_picture_that_fails_is_named_and_left_out_of_both_rows(tmp_path, model, data, caplog):
    good = evaluate("--model", model, "--data", data, "--layout", "paired", "--metrics", "psnr_y")
    (data / "testHigh" / "cut.png").write_bytes((data / "testHigh" / "0.png").read_bytes()[:300])
    write(data / "testLow" / "cut.png", noise(20, 24))
    for name, low, high in [("bug", (20, 31), (40, 62)), ("size", (20, 20), (60, 40))]:
        write(data / "testLow" / f"{name}.png", noise(*low))
        write(data / "testHigh" / f"{name}.png", noise(*high))
    write(data / "testLow" / "tiny.png", noise(2, 9))
    write(data / "testHigh" / "tiny.png", noise(4, 18))
    report = tmp_path / "report.json"
    arguments = ["--model", model, "--data", data, "--layout", "paired", "--report", report]

    result = evaluate(*arguments, "--metrics", "psnr_y")

    assert result.exit_code == 1
    errors = dict(line.split(".png: ", 1) for line in result.stderr.splitlines())
    assert [Path(name).name for name in errors] == ["bug", "cut", "size", "tiny"]
    told = {Path(name).name: error for name, error in errors.items()}
    assert "ValueError: a bug of the family" in told["bug"]
    assert "cannot be decoded" in told["cut"]
    assert "the target has 40x60 pixels, and the result 40x40" in told["size"]
    assert "too few for psnr_y" in told["tiny"]
    assert "at least 5 a side" in told["tiny"]
    assert f"over only 3 of 7 pictures of {data} (test, layout paired)" in result.stdout
    assert result.stdout.split("over ")[0] == good.stdout.split("over ")[0]  # the same means
    assert len([each for each in caplog.records if each.exc_info]) == 1
    found = json.loads(report.read_text())
    assert (found["data"]["num_pairs"], found["data"]["num_measured"]) == (7, 3)
    assert [each["error"] is None for each in found["pictures"]] == [True] * 3 + [False] * 4
    for path in (data / "testHigh").glob("[0-9].png"):
        path.write_bytes(b"nothing")
    result = evaluate(*arguments)
    assert result.exit_code == 1
    assert "over only 0 of 7 pictures" in result.stdout
    assert "psnr_y" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        ([], "neither is given", 2),
        (["--recipe", "repeats", "--model", "x"], "both are given", 2),
        (["--recipe", "repeat"], "did you mean 'repeats'?", 2),
        (["--recipe", "repeats", "--metrics", "pnsr_y"], "did you mean 'psnr_y'?", 2),
        (["--recipe", "repeats", "--metrics", " ,"], "it names no metric", 2),
        (["--recipe", "repeats", "--metrics", "misnamed"], "does not call itself 'misnamed'", 1),
        (["--recipe", "repeats", "--metrics", "unfinished"], "does not define better", 1),
        (
            ["--recipe", "repeats", "--metrics", "stray"],
            "is not a subclass of i2i.metrics.Metric",
            1,
        ),
        (["--recipe", "repeats", "--layout", "pairs"], "did you mean 'paired'?", 2),
        (
            ["--recipe", "repeats", "--layout", "unpaired"],
            "--layout unpaired: the family trains on",
            2,
        ),
        (["--recipe", "repeats", "--set", "shfit=1"], "did you mean 'shift'?", 2),
        (["--recipe", "repeats", "--device", "meta"], "--device meta", 2),
        (["--recipe", "repeats", "--tile", "0"], "neither auto, off nor a number", 2),
        (
            ["--recipe", "repeats", "--layout", "paired", "--report", "."],
            "would overwrite a folder",
            2,
        ),
    ],
)
def test_a_wrong_command_says_what_exists(data, plugins, arguments, said, status):
    result = evaluate("--data", data, *arguments)

    assert result.exit_code == status
    assert said in result.stderr
    assert result.stdout == ""


def test_a_data_folder_that_is_missing_or_lacks_a_split_is_said(tmp_path, plugins, model, data):
    result = evaluate("--data", tmp_path / "nowhere", "--recipe", "repeats")
    assert result.exit_code == 1
    assert f"--data {tmp_path / 'nowhere'}: there is no such folder" in result.stderr
    result = evaluate("--model", model, "--data", data, "--layout", "paired", "--split", "train")
    assert result.exit_code == 1
    assert "there is no folder 'trainLow'" in result.stderr
    (data / "testLow" / "0.png").unlink()
    result = evaluate("--model", model, "--data", data, "--layout", "paired")
    assert result.exit_code == 1
    assert "1 test picture has no partner (of role 'high' 0.png)" in result.stderr


def test_the_recipe_gives_layout_request_and_work_size_and_results_keep_their_size(
    tmp_path, plugins, data
):
    (data / "testLow").rename(data / "small")
    (data / "testHigh").rename(data / "large")
    known_module = sys.modules["known"]
    known_module.seen.clear()
    report = tmp_path / "report.json"

    result = evaluate("--recipe", "repeats", "--data", data, "--report", report)

    assert (result.exit_code, result.stderr) == (0, "")
    assert [min(size) for size in known_module.seen] == [10, 10, 10]
    assert "model repeats, sha256" in result.stdout
    assert ", shift=0.1, work size 10" in result.stdout
    found = json.loads(report.read_text())
    assert found["model"]["request"] == {"shift": 0.1, "ramp": 0.0}
    assert found["data"]["options"]["test"] == {"low": "small", "high": "large"}
    shifted = found["scores"]["model"][0]["value"]
    plain = evaluate("--recipe", "repeats", "--data", data, "--report", report, "--set", "shift=0")
    assert plain.exit_code == 0
    assert json.loads(report.read_text())["scores"]["model"][0]["value"] > shifted
    result = evaluate("--recipe", "repeats", "--data", data, "--layout", "paired")
    assert result.exit_code == 1  # that layout's own folders are testLow and testHigh
    assert "there is no folder 'testLow'" in result.stderr


def test_a_model_file_says_its_layout_and_an_imported_one_takes_the_only_one_that_fits(
    tmp_path, plugins, model, data
):
    asked = ["--data", data, "--metrics", "psnr_y"]
    result = evaluate("--model", model, *asked)  # testLow, testHigh: what paired looks for
    assert (result.exit_code, result.stderr) == (0, "")
    assert "layout paired" in result.stdout
    for index in range(2):
        write(data / "test" / f"{index}.png", noise(20, 30))
    result = evaluate("--model", model, *asked)
    assert result.exit_code == 2
    assert "more than one layout finds pairs" in result.stderr
    assert "paired" in result.stderr
    assert "--layout" in result.stderr
    recipe = RECIPE.replace("small", "testLow").replace("large", "testHigh")
    told = saved(tmp_path / "told.safetensors", plugins, recipe=recipe)
    result = evaluate("--model", told, *asked)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "layout paired" in result.stdout
    (tmp_path / "empty").mkdir()
    result = evaluate("--model", model, "--data", tmp_path / "empty")
    assert result.exit_code == 2
    assert "no layout finds pairs in this folder" in result.stderr


def test_a_family_without_pairs_is_told_why_it_cannot_be_measured(tmp_path, plugins, data):
    model = saved(tmp_path / "alone.safetensors", plugins, "alone")
    result = evaluate("--model", model, "--data", data)
    assert result.exit_code == 2
    assert "the family 'alone' learns without pairs, so no result has a target" in result.stderr


def test_pix2pix_compares_in_the_direction_it_was_trained_in():
    small = {"width": 4, "num_halvings": 2, "dropout": 0.0, "dropout_layers": ()}
    there, back = (
        Pix2Pix(Pix2PixOptions(direction=direction, **small)) for direction in ("a2b", "b2a")
    )
    assert (there.compared, back.compared) == (("a", "b"), ("b", "a"))


def test_models_that_keep_sizes_are_compared_with_the_source_in_files_side_by_side(
    tmp_path, plugins
):
    model = saved(tmp_path / "same.safetensors", plugins, "same_size", scale=1)
    for index in range(2):
        a, b = noise(32, 40, index), noise(32, 40, index + 5)
        write(tmp_path / "pairs" / "test" / f"{index}.png", np.hstack([a, b]))
    report = tmp_path / "report.json"
    arguments = ["--model", model, "--data", tmp_path / "pairs", "--report", report]

    result = evaluate(*arguments, "--layout", "side_by_side")

    assert (result.exit_code, result.stderr) == (0, "")
    assert "the source itself" in result.stdout
    found = json.loads(report.read_text())
    names = [each["name"] for each in found["scores"]["model"]]
    assert names == ["psnr_rgb", "ssim_rgb", "l1", "features"]
    assert found["scores"]["model"] == found["scores"]["baseline"]  # it changes nothing
    a, b = noise(32, 40, 1), noise(32, 40, 6)
    values = found["pictures"][1]["model"]
    assert values["psnr_rgb"] == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255))
    assert values["l1"] == pytest.approx(np.abs(a.astype(float) - b).mean())


def test_equal_pictures_are_infinitely_alike_in_a_report_that_is_json(tmp_path, plugins):
    model = saved(tmp_path / "same.safetensors", plugins, "same_size", scale=1)
    write(tmp_path / "pairs" / "test" / "0.png", np.hstack([noise(24, 20)] * 2))
    report = tmp_path / "report.json"
    arguments = ["--model", model, "--data", tmp_path / "pairs", "--report", report]

    result = evaluate(*arguments, "--layout", "side_by_side", "--metrics", "psnr_rgb,ssim_rgb")

    assert result.exit_code == 0
    found = json.loads(report.read_text(), parse_constant=pytest.fail)
    assert found["pictures"][0]["model"] == {"psnr_rgb": "inf", "ssim_rgb": pytest.approx(1)}
    assert Score.from_dict(found["scores"]["model"][0]).value == float("inf")


def test_tiles_and_the_ensemble_reach_the_networks(tmp_path, model, data):
    known_module = sys.modules["known"]
    arguments = ["--model", model, "--data", data, "--layout", "paired", "--metrics", "psnr_y"]
    report = tmp_path / "report.json"
    whole = evaluate(*arguments)
    known_module.seen.clear()
    tiled = evaluate(*arguments, "--tile", 12)
    assert max(max(size) for size in known_module.seen) <= 12
    assert whole.stdout == tiled.stdout
    ramped = evaluate(*arguments, "--set", "ramp=0.2", "--report", report)
    single = json.loads(report.read_text())["scores"]["model"][0]["value"]
    ensemble = evaluate(*arguments, "--set", "ramp=0.2", "--ensemble", "--report", report)
    assert (ramped.exit_code, ensemble.exit_code) == (0, 0)
    found = json.loads(report.read_text())
    assert found["scores"]["model"][0]["value"] > single + 1  # mirrored, the ramp cancels
    assert found["settings"]["ensemble"]
    assert ", ramp=0.2, ensemble" in ensemble.stdout


def test_grey_deep_and_transparent_pictures_are_measured_as_training_sees_them(
    tmp_path, model, plugins
):
    data, large = tmp_path / "odd", noise(40, 48)
    low = halved(large)
    write(data / "testLow" / "grey.png", halved(large[..., :1])[..., 0])
    write(data / "testHigh" / "grey.png", large[..., 0])
    deep = low[..., 0].astype(np.uint16) * 257 + 100  # rounds to the same 8 bits
    write(data / "testLow" / "deep.png", deep)
    write(data / "testHigh" / "deep.png", large[..., 0])
    alpha = np.full((20, 24, 1), 128, np.uint8)
    write(data / "testLow" / "clear.png", np.concatenate([low, alpha], 2))
    write(data / "testHigh" / "clear.png", large)
    report = tmp_path / "report.json"

    arguments = ["--model", model, "--data", data, "--layout", "paired", "--report", report]
    result = evaluate(*arguments, "--metrics", "psnr_y")

    assert (result.exit_code, result.stderr) == (0, "")
    found = {
        Path(each["name"]).stem: each["model"]["psnr_y"]
        for each in json.loads(report.read_text())["pictures"]
    }
    white = (low * (128 / 255) + 255 * (127 / 255)).round()
    grey = np.repeat(low[..., :1], 3, 2)
    for name, source, target in [
        ("grey", grey, np.repeat(large[..., :1], 3, 2)),
        ("deep", grey, np.repeat(large[..., :1], 3, 2)),
        ("clear", white, large),
    ]:
        made = source.repeat(2, 0).repeat(2, 1).astype(np.uint8)
        assert found[name] == pytest.approx(expected(made, target)["psnr_y"], abs=1e-3)


def test_a_plugins_metric_over_the_whole_set_has_no_values_of_pictures(tmp_path, model, data):
    report = tmp_path / "report.json"
    arguments = ["--model", model, "--data", data, "--layout", "paired", "--report", report]

    result = evaluate(*arguments, "--metrics", "gap, psnr_y,gap", "--set", "shift=0.2")

    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(report.read_text())
    gap, psnr = found["scores"]["model"]
    assert (gap["name"], psnr["name"]) == ("gap", "psnr_y")
    assert [{*each["model"]} for each in found["pictures"]] == [{"psnr_y"}] * 3
    made, wanted, count = 0.0, 0.0, 0
    for name in ("0.png", "1.png", "2.png"):
        result_pixels, _, target = known(data, name)
        made += np.clip(result_pixels + 0.2 * 127.5, 0, 255).sum()
        wanted, count = wanted + target.sum(), count + target.size
    assert gap["value"] == pytest.approx(abs(made - wanted) / count, abs=0.5)  # rounded to 8 bits
    assert gap["standard_error"] is None


def test_a_metric_that_must_be_fetched_says_so_before_any_picture(
    tmp_path, model, data, monkeypatch
):
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("I2I_OFFLINE", "1")
    sys.modules["known"].seen.clear()

    result = evaluate("--model", model, "--data", data, "--metrics", "psnr_y,lpips")

    assert result.exit_code == 1
    assert "run 'i2i models fetch alexnet'" in result.stderr
    assert sys.modules["known"].seen == []


def test_a_report_never_takes_the_place_of_what_is_read(model, data):
    before = model.read_bytes()
    for path in (model, data / "testHigh" / "1.png"):
        arguments = ["--model", model, "--data", data, "--layout", "paired", "--report", path]
        result = evaluate(*arguments)
        assert result.exit_code == 2
        assert "the report would overwrite" in result.stderr
    assert model.read_bytes() == before
    assert rgb8(read_picture(data / "testHigh" / "1.png")).shape == (41, 53, 3)
