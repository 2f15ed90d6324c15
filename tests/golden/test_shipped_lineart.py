"""The line art model that ships is the one that its header describes."""

import json
import os
from pathlib import Path

import pytest
import torch

from i2i.engine.inference import translate_batch
from i2i.imaging import read_picture, rgb8, to_tensor
from i2i.model_file import Model, load_model
from i2i.plugins import load_plugins
from i2i.recipe import Translate, find_recipe, load_recipe
from tests.scripts import load_script

ROOT = Path(__file__).parents[2]
FILE = ROOT / "recipes" / "weights" / "lineart2color.safetensors"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(FILE, load_plugins())


def test_header_says_how_the_model_was_trained_how_good_it_is_and_its_terms(model: Model) -> None:
    plugins = load_plugins()
    recipe = load_recipe(find_recipe("lineart2color", plugins), plugins)
    assert model.translator.options == recipe.model
    assert Translate.model_validate(model.header.translate) == recipe.translate
    assert model.header.licence == recipe.licence
    assert "CC BY-SA 4.0" in model.header.licence
    (measured,) = model.header.metrics
    assert measured["protocol"] == "pairs-squeezenet-1"
    assert measured["feature_distance"] < 1.0299  # the drawing itself, by the same protocol
    assert str(ROOT.parent) not in model.header.recipe
    assert FILE.stat().st_size <= 4_000_000


@pytest.mark.parametrize("name", ["hamburger", "hot-dog", "scientist", "snowboarder"])
def test_drawing_gets_colours_between_its_lines_and_none_outside(model: Model, name: str) -> None:
    path = ROOT / "docs" / "samples" / "drawings" / f"{name}.png"
    source = to_tensor(rgb8(read_picture(path)))
    (result,) = translate_batch(model.translator, [source], model.translator.Request())
    coloured = result.amax(0) - result.amin(0) > 0.4
    assert coloured.float().mean() > 0.05
    lines = source.mean(0) < -0.9
    assert result.mean(0)[lines].mean() < -0.85
    border = torch.cat([result[:, :6].flatten(), result[:, -6:].flatten()])
    assert border.mean() > 0.97


@pytest.mark.slow
def test_model_is_judged_as_its_header_says(model: Model, tmp_path: Path) -> None:
    data = Path(os.environ.get("I2I_SHARED_DATA", ROOT.parent / "shared" / "data")) / "openmoji"
    if not data.is_dir():
        pytest.skip("needs the pairs of openmoji: set I2I_SHARED_DATA to their folder's parent")
    judge = load_script("benchmarks", "judge_pairs")
    table = tmp_path / "table.json"
    judge.main(["--data", str(data), str(FILE), "--json", str(table)])
    rows = json.loads(table.read_text(encoding="utf-8"))["rows"]
    row = next(row for row in rows if row["name"] == FILE.name)
    (said,) = model.header.metrics
    for key in ("feature_distance", "l1", "psnr"):
        assert row[key] == pytest.approx(said[key], rel=0.005)
