"""The judge of benchmarks/: its distance, its translation and its classifier."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from i2i import model_file
from i2i.translator import Translator
from i2i.types import Fit, Inputs
from tests.scripts import load_script

judge = load_script("benchmarks", "judge_horse2zebra")


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    direction: str = "a2b"


class Inverter(Translator):
    """Inverts colours from a to b, and leaves a picture as it is from b to a."""

    name = "inverter"
    Options = Options
    Request = Request
    inputs = Inputs(("a", "b"), paired=False)
    exported = ("sign",)
    fit = Fit(multiple=4)
    seen: ClassVar[list[tuple[int, ...]]] = []

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.sign = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.sign.weight, -1.0)

    def players(self, stage: str) -> dict[str, Any]:
        return {"sign": self.sign.parameters()}

    def training_step(self, batch: Any, now: Any) -> Any:
        raise NotImplementedError

    def translate(self, images: Tensor, request: Any) -> Tensor:
        return images * self.sign.weight if request.direction == "a2b" else images


def test_kid_of_two_pairs_of_numbers_is_the_value_worked_out_by_hand() -> None:
    # k(0,1) = 1; k(2,3) = 343; k(0,2) = k(0,3) = 1, k(1,2) = 27, k(1,3) = 64
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
    assert judge.kid(x.double(), y.double()) == pytest.approx(1 + 343 - 2 * 93 / 4)


def test_kid_equals_a_loop_over_pairs_in_numpy() -> None:
    random = np.random.default_rng(3)
    x, y = random.normal(0.2, 1.0, (7, 5)), random.normal(0.0, 1.5, (9, 5))

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((np.dot(a, b) / 5 + 1) ** 3)

    def within(a: np.ndarray) -> float:
        pairs = [kernel(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j]
        return float(np.mean(pairs))

    expected = within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    assert judge.kid(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected)


def test_kid_does_not_depend_on_the_scale_of_the_features() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.rand(n, 6, generator=generator, dtype=torch.float64) for n in (8, 10))
    assert judge.kid_x1000(40 * x, 40 * y) == pytest.approx(judge.kid_x1000(x, y))


def test_halves_of_one_set_are_at_no_distance_within_their_deviation() -> None:
    features = torch.rand(60, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, deviation = judge.split_half_kid_x1000(features)
    assert abs(mean) < deviation
    assert judge.kid_x1000(features + 1, features) > 10 * deviation


def test_translation_sees_sizes_that_fit_and_gives_back_the_work_size() -> None:
    seen = []

    def translate(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    pictures = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    result = judge.translate_pictures(translate, Fit(multiple=4), pictures, 50)
    assert result.shape == (2, 3, 50, 50)
    assert seen[0].shape == (2, 3, 52, 52)
    assert torch.equal(seen[0][:, :, 50], seen[0][:, :, 48])  # reflected about the last row


def test_translation_at_the_pictures_own_size_passes_every_value_unchanged() -> None:
    pictures = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(12, 3, 1, 1)
    result = judge.translate_pictures(lambda images: images, Fit(multiple=4), pictures, 16)
    assert torch.equal(result, pictures)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small data folder with a classifier of random weights."""
    torch.manual_seed(0)
    (tmp_path / "weights").mkdir()
    weights = {name: value.numpy() for name, value in judge.SqueezeNet().state_dict().items()}
    np.savez(tmp_path / "weights" / "squeezenet1_0_decoded.npz", **weights)
    for folder, num_pictures in (("testA", 3), ("testB", 4)):
        (tmp_path / "horse2zebra" / folder).mkdir(parents=True)
        for index in range(num_pictures):
            noise = (torch.rand(256, 256, 3) * 255).byte().numpy()
            noise[:128] = 250
            Image.fromarray(noise).save(tmp_path / "horse2zebra" / folder / f"{index}.png")
    monkeypatch.setenv("I2I_SHARED_DATA", str(tmp_path))
    plugins = SimpleNamespace(family=lambda name: {"inverter": Inverter}[name])
    monkeypatch.setattr(judge, "load_plugins", lambda: plugins)
    return tmp_path


def write_model(path: Path, **translate: Any) -> Path:
    header = model_file.Header(
        family="inverter", distribution="tests 0", options={}, request={}, translate=translate
    )
    model_file.save_model(path, Inverter(Options()), header)
    return path


def test_command_judges_every_model_at_every_work_size(shared: Path) -> None:
    model, report = write_model(shared / "m.safetensors"), shared / "report.json"
    sheets = shared / "sheets"
    common = ["--work-size", "64", "256", "--sheet", str(sheets), "--json", str(report)]
    assert judge.main([str(model), *common]) == 0
    content = json.loads(report.read_text())
    assert content["protocol"] == judge.PROTOCOL
    rows = content["rows"]
    assert [(row["work_size"], row["num_pictures"]) for row in rows] == [
        (None, 3),
        (None, 4),
        (64, 3),
        (256, 3),
    ]
    assert len({row["kid_x1000"] for row in rows}) == 4
    assert len(list(sheets.iterdir())) == 2
    with Image.open(next(sheets.glob("*-a2b-256-1.png"))) as sheet:
        assert sheet.getpixel((80, 20)) == (250, 250, 250)  # the input, above
        assert sheet.getpixel((80, 180)) == (5, 5, 5)  # its translation, below


def test_other_direction_turns_the_sets_round(shared: Path) -> None:
    model, report = write_model(shared / "m.safetensors"), shared / "report.json"
    assert judge.main([str(model), "--direction", "b2a", "--json", str(report)]) == 0
    untranslated, real, translated = json.loads(report.read_text())["rows"]
    assert (untranslated["num_pictures"], real["num_pictures"]) == (4, 3)
    # the identity at native size is the untranslated set
    assert translated["kid_x1000"] == pytest.approx(untranslated["kid_x1000"])


@pytest.mark.parametrize(("translate", "expected"), [({"work_size": 96}, 96), ({}, 256)])
def test_work_size_is_the_recipes_unless_given(
    shared: Path, translate: dict[str, Any], expected: int
) -> None:
    model, report = write_model(shared / "m.safetensors", **translate), shared / "report.json"
    assert judge.main([str(model), "--json", str(report)]) == 0
    assert json.loads(report.read_text())["rows"][-1]["work_size"] == expected


def test_absent_data_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("I2I_SHARED_DATA", str(tmp_path))
    assert judge.main(["m.safetensors"]) == 1
    message = capsys.readouterr().err
    assert "squeezenet1_0_decoded.npz" in message
    assert "I2I_SHARED_DATA" in message


def test_real_zebras_are_called_zebra_and_no_horse_is() -> None:
    root = judge.data_root()
    if not (root / "weights" / "squeezenet1_0_decoded.npz").is_file():
        pytest.skip(f"no shared data in {root}: set I2I_SHARED_DATA")
    network = judge.load_judge(root)
    for folder, num_zebras, num_pictures in (("testA", 0, 120), ("testB", 126, 140)):
        judged = judge.examine(network, judge.read_pictures(root / "horse2zebra" / folder))
        assert len(judged.zebra) == num_pictures
        # one picture either way: another processor may round a close call differently
        assert abs(int(judged.zebra.sum()) - num_zebras) <= (1 if num_zebras else 0)
