"""The model that ships is the one that its header describes."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from i2i.engine.inference import translate_batch
from i2i.imaging import read_picture, to_tensor
from i2i.model_file import Model, load_model
from i2i.plugins import load_plugins
from i2i.recipe import Translate, find_recipe, load_recipe
from tests.scripts import load_script

ROOT = Path(__file__).parents[2]
FILE = ROOT / "recipes" / "weights" / "horse2zebra.safetensors"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(FILE, load_plugins())


def test_header_says_how_the_model_was_trained_how_good_it_is_and_its_terms(model: Model) -> None:
    plugins = load_plugins()
    recipe = load_recipe(find_recipe("horse2zebra", plugins), plugins)
    assert model.header.family == recipe.family
    assert model.header.licence == recipe.licence
    assert "research" in model.header.licence
    assert model.translator.options == recipe.model
    assert Translate.model_validate(model.header.translate) == recipe.translate
    assert model.header.training["images"] > 10_000
    assert {each["direction"] for each in model.header.metrics} == {"a2b", "b2a"}
    for measured in model.header.metrics:
        assert measured["protocol"] == "horse2zebra-squeezenet-1"
        assert measured["work_size"] == recipe.translate.work_size
    assert str(ROOT.parent) not in model.header.recipe


def test_model_takes_at_most_four_megabytes_a_direction() -> None:
    assert FILE.stat().st_size <= 2 * 4_000_000


def test_brown_horse_loses_its_colour_and_meadow_keeps_more_of_its_own(model: Model) -> None:
    path = ROOT / "docs" / "samples" / "horses" / "erase_horse.jpg"
    source = to_tensor(read_picture(path).pixels)
    (result,) = translate_batch(
        model.translator, [source], model.translator.Request(), work_size=256, restore="detail"
    )
    assert result.shape == source.shape
    kept = colour(result) / colour(source).clamp(min=0.05)
    flank, meadow = kept[270:400, 300:500], kept[620:]
    assert flank.mean() < 0.5
    assert meadow.mean() > 1.5 * flank.mean()


def colour(image: torch.Tensor) -> torch.Tensor:
    """Return how far each pixel is from grey."""
    return image.amax(0) - image.amin(0)


@pytest.mark.slow
def test_model_is_judged_as_its_header_says(model: Model, tmp_path: Path) -> None:
    judge = load_script("benchmarks", "judge_horse2zebra")
    if not (judge.data_root() / "horse2zebra").is_dir():
        pytest.skip("needs the horse2zebra pictures: set I2I_SHARED_DATA to their folder's parent")
    table = judged(judge, tmp_path)
    said = model.header.metrics[0]
    assert table["rate"] == pytest.approx(said["rate"], abs=1.7)  # two pictures on the edge
    assert table["kid_x1000"] == pytest.approx(said["kid_x1000"], rel=0.02)


def judged(judge: ModuleType, folder: Path) -> dict[str, float]:
    table = folder / "table.json"
    judge.main([str(FILE), "--json", str(table)])
    rows = json.loads(table.read_text(encoding="utf-8"))["rows"]
    return next(row for row in rows if row["name"] == FILE.name)
