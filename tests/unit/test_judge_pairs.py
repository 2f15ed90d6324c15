"""The judge of paired translation, and the tool that ships what was judged."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageStat
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from i2i import model_file
from i2i.data.paired import Paired, SideBySide
from i2i.losses.lpips import FeatureDistance
from i2i.metrics import Score
from i2i.plugins import load_plugins
from i2i.translator import Translator
from i2i.types import Fit, Inputs
from tests.scripts import load_script

ROOT = Path(__file__).parents[2]
SIDE = 64  # pixels


judge = load_script("benchmarks", "judge_pairs")
ship = load_script("tools", "ship")


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    direction: Literal["a2b", "b2a"] = "a2b"


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    sign: float = 1.0


class Inverter(Translator):
    """Inverts colours, unless its request says otherwise."""

    name = "inverter"
    Options = Options
    Request = Request
    inputs = Inputs(("a", "b"), paired=True)
    exported = ("sign",)
    fit = Fit(multiple=48)  # 64 pixels are padded

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.sign = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.sign.weight, -1.0)

    def players(self, stage: str) -> dict[str, Any]:
        return {"sign": self.sign.parameters()}

    def training_step(self, batch: Any, now: Any) -> Any:
        raise NotImplementedError

    def translate(self, images: Tensor, request: Any) -> Tensor:
        return images * self.sign.weight * request.sign


def noise(seed: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def pair(source: np.ndarray, target: np.ndarray, name: str = "x.png") -> Any:
    return judge.Pair(name, source, target)


@pytest.mark.parametrize("difference", [1, 51, 200])
def test_a_constant_difference_has_the_l1_and_psnr_of_the_closed_form(difference: int) -> None:
    target = np.full((SIDE, SIDE, 3), 20, np.uint8)
    answer = target + np.uint8(difference)
    for found, wanted in ((answer, target), (target, answer)):
        measured = judge.measure([found], [pair(found, wanted)])
        assert measured.l1[0] == pytest.approx(difference / 255)
        assert measured.psnr[0] == pytest.approx(20 * np.log10(255 / difference))


def test_l1_and_psnr_are_those_of_pillows_statistics() -> None:
    answers, targets = [noise(1), noise(2)], [noise(3), noise(4) // 2]
    pairs = [pair(noise(0), target) for target in targets]
    measured = judge.measure(answers, pairs)
    for index in range(2):
        images = Image.fromarray(answers[index]), Image.fromarray(targets[index])
        apart = ImageStat.Stat(ImageChops.difference(*images))
        squares = np.mean(np.square(apart.rms))
        assert measured.l1[index] == pytest.approx(np.mean(apart.mean) / 255)
        assert measured.psnr[index] == pytest.approx(10 * np.log10(255**2 / squares))


def test_feature_distance_is_that_of_pictures_in_minus_one_to_one() -> None:
    answer, target = noise(1), noise(2)
    images = [
        torch.from_numpy(each / 127.5 - 1).permute(2, 0, 1)[None] for each in (answer, target)
    ]
    expected = FeatureDistance()(*(each.float() for each in images))
    measured = judge.measure([answer], [pair(answer, target)])
    assert measured.feature_distance[0] == pytest.approx(float(expected), rel=1e-5)


def test_exact_answers_are_counted_and_left_out_of_the_mean_of_psnr() -> None:
    target = noise(1)
    off = np.where(target < 128, target + 10, target - 10).astype(np.uint8)
    measured = judge.measure([target, off], [pair(target, target)] * 2)
    row = judge.row("half", measured)
    assert row.num_exact == 1
    assert row.psnr == pytest.approx(20 * np.log10(25.5))
    assert row.l1 == pytest.approx(5 / 255)
    assert measured.feature_distance[0] == 0
    assert row.feature_distance == pytest.approx(measured.feature_distance[1] / 2)
    assert judge.row("all", judge.measure([target], [pair(target, target)])).psnr is None


def test_nearest_is_the_pair_with_the_least_sum_of_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judge, "CHUNK", 4)
    known = [pair(noise(seed, 8), noise(seed + 100, 8)) for seed in range(10)]
    for seed in range(200, 210):
        source = noise(seed, 8)
        sums = [np.abs(each.source.astype(int) - source).sum() for each in known]
        assert judge.nearest(source, known) == int(np.argmin(sums))


def test_nearest_takes_the_first_of_equals_and_only_pictures_of_the_same_size() -> None:
    known = [pair(noise(1, 4), noise(1, 4)), *[pair(noise(2, 8), noise(2, 8))] * 2]
    assert judge.nearest(noise(2, 8), known) == 1
    assert judge.nearest(noise(2, 6), known) is None


def test_colours_are_the_mean_and_the_median_of_all_pixels() -> None:
    targets = [noise(1) // 3, noise(2)]
    mean, median = judge.colours([pair(noise(0), target) for target in targets])
    pixels = np.concatenate([target.reshape(-1, 3) for target in targets])
    assert mean.tolist() == pixels.mean(axis=0).round().tolist()
    assert median.tolist() == np.quantile(pixels, 0.5, axis=0, method="inverted_cdf").tolist()


def test_chosen_places_are_spread_evenly_and_no_more_than_there_are() -> None:
    assert judge.spread(4, 12) == [0, 3, 6, 9]
    assert judge.spread(24, 3) == [0, 1, 2]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of pairs whose right half is the left one inverted."""
    root = tmp_path / "pairs"
    for split, seeds in (("train", range(5)), ("test", range(10, 13))):
        (root / split).mkdir(parents=True)
        for seed in seeds:
            whole = np.concatenate([noise(seed), 255 - noise(seed)], axis=1)
            Image.fromarray(whole).save(root / split / f"{seed}.png")
    plugins = SimpleNamespace(
        family=lambda name: {"inverter": Inverter}[name],
        layout=lambda name: {"side_by_side": SideBySide, "paired": Paired}[name],
    )
    monkeypatch.setattr(judge, "load_plugins", lambda: plugins)
    return root


def write_model(path: Path, direction: str = "a2b", sign: float = 1.0) -> Path:
    header = model_file.Header(
        family="inverter",
        distribution="tests 0",
        options={"direction": direction},
        request={"sign": sign},
        training={"images": 7},
    )
    model_file.save_model(path, Inverter(Options()), header)
    return path


def judged(*arguments: Path | str) -> dict[str, Any]:
    report = Path(str(arguments[-1])).parent / "report.json"
    assert judge.main([*map(str, arguments), "--json", str(report)]) == 0
    content: dict[str, Any] = json.loads(report.read_text())
    return content


def test_command_judges_models_after_the_answers_that_need_none(data: Path, tmp_path: Path) -> None:
    models = [
        write_model(tmp_path / "right.safetensors"),
        write_model(tmp_path / "idle.safetensors", sign=-1.0),
    ]
    content = judged("--data", data, *models)
    assert content["protocol"] == judge.PROTOCOL
    assert (content["data"], content["num_pictures"], content["sizes"]) == ("pairs", 3, ["64x64"])
    rows = {row["name"]: row for row in content["rows"]}
    assert list(rows) == [
        "the source itself",
        "mean colour",
        "median colour",
        "nearest training pair",
        "right.safetensors",
        "idle.safetensors",
    ]
    right, idle, source = (rows[name] for name in (*list(rows)[4:], "the source itself"))
    # 8 bits through [-1, 1], padding and back: not one value is off
    assert (right["num_exact"], right["psnr"], right["l1"]) == (3, None, 0)
    assert (right["images"], right["work_size"]) == (7, "native")
    measures = ("l1", "psnr", "feature_distance")
    assert [idle[name] for name in measures] == [source[name] for name in measures]
    sources = np.stack([noise(seed) for seed in range(10, 13)]).astype(float)
    assert source["l1"] == pytest.approx(np.abs(255 - 2 * sources).mean() / 255)


def test_nearest_training_pair_answers_with_its_target(data: Path, tmp_path: Path) -> None:
    for path in (data / "test").iterdir():
        (data / "train" / path.name).write_bytes(path.read_bytes())
    content = judged("--data", data, write_model(tmp_path / "m.safetensors"))
    assert content["rows"][3]["num_exact"] == 3


def test_order_and_direction_say_what_is_the_source(data: Path, tmp_path: Path) -> None:
    plugins = judge.load_plugins()
    layout = judge.open_layout(plugins, "side_by_side", data, {}, "test")
    pairs = judge.read_pairs(layout, "a2b")
    assert [each.name for each in pairs] == ["10.png", "11.png", "12.png"]
    assert (pairs[0].source == noise(10)).all()
    turned = judge.open_layout(plugins, "side_by_side", data, {"order": ("b", "a")}, "test")
    for found in (judge.read_pairs(layout, "b2a"), judge.read_pairs(turned, "a2b")):
        assert (found[1].target == noise(11)).all()
    assert (judge.read_pairs(turned, "b2a")[1].source == noise(11)).all()


def test_a_folder_for_each_role_is_judged_alike(data: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.safetensors")
    expected = judged("--data", data, model)["rows"]
    for split in ("train", "test"):
        for path in (data / split).iterdir():
            whole = np.asarray(Image.open(path))
            for role, half in (("A", whole[:, :SIDE]), ("B", whole[:, SIDE:])):
                target = tmp_path / "folders" / f"{split}{role}" / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(half).save(target)
    found = judged("--data", tmp_path / "folders", "--layout", "paired", model)["rows"]
    assert found == expected


def test_a_model_of_the_other_direction_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "m.safetensors", direction="b2a")
    assert judge.main(["--data", str(data), str(model)]) == 2
    assert "b2a" in capsys.readouterr().err
    assert judge.main(["--data", str(data), "--direction", "b2a", str(model)]) == 0


def test_an_order_that_the_layout_does_not_have_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "m.safetensors")
    given = ["--data", str(data), str(model), "--layout", "paired", "--order", "b", "a"]
    assert judge.main(given) == 2
    assert "--order" in capsys.readouterr().err


def test_a_pair_of_two_sizes_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for role, side in (("A", SIDE), ("B", SIDE + 2)):
        (tmp_path / f"test{role}").mkdir()
        Image.fromarray(noise(1, side)).save(tmp_path / f"test{role}" / "x.png")
    model = write_model(tmp_path / "m.safetensors")
    assert judge.main(["--data", str(tmp_path), "--layout", "paired", str(model)]) == 1
    assert "64x64" in capsys.readouterr().err


def test_sheet_shows_source_translation_and_target(data: Path, tmp_path: Path) -> None:
    model, sheet = write_model(tmp_path / "m.safetensors", sign=-1.0), tmp_path / "sheet.png"
    assert judge.main(["--data", str(data), str(model), "--sheet", str(sheet)]) == 0
    with Image.open(sheet) as image:
        pixels = np.asarray(image)
    step = judge.CELL + 2
    shown = [pixels[:SIDE, place * step : place * step + SIDE] for place in range(3)]
    for found, wanted in zip(shown, (noise(10), noise(10), 255 - noise(10)), strict=True):
        assert (found == wanted).all()


RECIPE = """
family = "pix2pix"
summary = "A test"
licence = "CC0"

[model]
width = 2
num_halvings = 2

[model.discriminator]
width = 2

[translate]
work_size = 96

[data]
layout = "side_by_side"

[stages.train]
images = 8

[weights]
file = "shipped.safetensors"
"""


def ship_one(folder: Path, monkeypatch: pytest.MonkeyPatch, better: str, value: float) -> None:
    """Ship a snapshot that a table judges to be of this value."""
    table = folder / "table.json"
    row = {"name": "snapshot.safetensors", "measure": value}
    said = {"protocol": "p", "deciding": "measure", "better": better}
    table.write_text(json.dumps(said | {"rows": [{"name": "other", "measure": 0}, row]}))
    names = ("snapshot.safetensors", "recipe.toml", "table.json")
    monkeypatch.setattr("sys.argv", ["ship.py", *(str(folder / name) for name in names)])
    ship.main()


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """Return a folder with a recipe and a snapshot of its model."""
    (tmp_path / "recipe.toml").write_text(RECIPE)
    family = load_plugins().family("pix2pix")
    options = family.Options(num_halvings=2, width=2, discriminator={"width": 2})
    header = model_file.Header(
        family="pix2pix", distribution="t", options=options.model_dump(mode="json"), request={}
    )
    translator = model_file.build(family, options, seed=0)
    model_file.save_model(tmp_path / "snapshot.safetensors", translator, header)
    return tmp_path


@pytest.mark.parametrize(
    ("better", "values", "worse"), [("higher", (5, 5, 7), 6.9), ("lower", (7, 7, 5), 5.1)]
)
def test_a_shipped_model_is_replaced_only_by_one_as_good_in_what_its_table_says(
    snapshot: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    better: str,
    values: tuple[float, ...],
    worse: float,
) -> None:
    shipped = snapshot / "shipped.safetensors"
    for value in values:
        ship_one(snapshot, monkeypatch, better, value)
        header = model_file.read_header(shipped)
        assert [each["measure"] for each in header.metrics] == [value]
        assert header.metrics[0]["protocol"] == "p"
    assert (header.licence, header.translate["work_size"]) == ("CC0", 96)
    with pytest.raises(SystemExit):
        ship_one(snapshot, monkeypatch, better, worse)
    assert "measure" in capsys.readouterr().err
    assert model_file.read_header(shipped).metrics[0]["measure"] == values[-1]


@pytest.mark.parametrize("key", ["protocol", "data", "direction", "deciding"])
def test_measures_that_do_not_compare_replace_nothing(key: str) -> None:
    now = {"protocol": "p", "data": "d", "direction": "a2b", "deciding": "l1", "better": "lower"}
    before = now | {"l1": 0.2}
    assert not ship.worse(now | {"l1": 0.1}, [before])
    other = {name: value for name, value in now.items() if name != key} | {"l1": 0.1}
    assert key in ship.worse(other, [before]) or "decides" in ship.worse(other, [before])


def report_on(path: Path, value: float) -> dict[str, object]:
    score = Score("psnr_y", value, "as papers do", "Set5 (test)", "pixels", 5, "higher", "dB")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"model": {"sha256": sha256}, "scores": {"model": [score.to_dict()]}}


def test_a_report_ships_with_the_model_that_it_is_about(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("snapshot.safetensors", "recipe.toml", "report.json")
    path, recipe, report = (snapshot / name for name in names)
    monkeypatch.setattr("sys.argv", ["ship.py", *map(str, (path, recipe, report))])
    shipped = snapshot / "shipped.safetensors"
    for value in (31.0, 31.5):
        report.write_text(json.dumps(report_on(path, value)))
        ship.main()
        assert [each["value"] for each in model_file.read_header(shipped).metrics] == [value]
    report.write_text(json.dumps(report_on(path, 31.4)))
    with pytest.raises(SystemExit):
        ship.main()
    assert "psnr_y on Set5 (test) is 31.5, this one's 31.4" in capsys.readouterr().err
    report.write_text(json.dumps(report_on(shipped, 32.0)))
    with pytest.raises(SystemExit):
        ship.main()
    assert "no table has a row" in capsys.readouterr().err
