"""The super-resolution models that ship are those that their headers describe."""

import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from i2i.cli import main
from i2i.engine.evaluation import evaluate
from i2i.engine.pairs import open_folder
from i2i.engine.records import Settings
from i2i.imaging import picture_size, read_picture
from i2i.metrics import Score
from i2i.model_file import Model, load_model
from i2i.plugins import load_plugins
from i2i.recipe import Translate, find_recipe, load_recipe

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "docs" / "samples" / "small"
FASTEST = "superres-x4-fast"
BICUBIC = {2: 33.66, 4: 28.43}  # psnr_y on Set5, of results of MATLAB's and of Pillow's filter
LEAST = {FASTEST: 31.0, "superres-x4": 31.3, "superres-x4-vivid": 30.0, "superres-x2": 36.0}


def file(name: str) -> Path:
    return ROOT / "recipes" / "weights" / f"{name}.safetensors"


@pytest.fixture(params=LEAST)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(name: str) -> Model:
    return load_model(file(name), load_plugins())


def on_set5(model: Model) -> Score:
    scores = [Score.from_dict(each) for each in model.header.metrics if "value" in each]
    return next(each for each in scores if (each.name, each.data) == ("psnr_y", "Set5 (test)"))


def test_header_says_how_the_model_was_trained_how_good_it_is_and_its_terms(
    name: str, model: Model
) -> None:
    plugins = load_plugins()
    recipe = load_recipe(find_recipe(name, plugins), plugins)
    assert model.translator.options == recipe.model
    assert Translate.model_validate(model.header.translate) == recipe.translate
    assert model.header.licence == recipe.licence != ""
    assert tomllib.loads(model.header.recipe)["licence"] == recipe.licence
    score = on_set5(model)
    assert score.value >= LEAST[name] > BICUBIC[model.translator.fit.scale]
    assert str(ROOT.parent) not in model.header.recipe
    assert file(name).stat().st_size <= 4_000_000


@pytest.mark.slow
def test_model_is_measured_as_its_header_says(name: str, model: Model) -> None:
    data = Path(os.environ.get("I2I_SHARED_DATA", ROOT.parent / "shared" / "data")) / "sr/Set5"
    if not data.is_dir():
        pytest.skip("needs the pictures of Set5: set I2I_SHARED_DATA to the folder above sr/")
    plugins = load_plugins()
    folder = open_folder(data, "test", model.translator, plugins, ("high_resolution", None))
    settings = Settings(request=model.translator.Request())
    metric = plugins.metric("psnr_y")
    found = evaluate(model, folder.found.pairs, [metric], settings, "Set5 (test)")
    (score,) = found.model
    said = on_set5(model)
    assert (score.protocol, score.pictures) == (said.protocol, said.pictures)
    assert score.value == pytest.approx(said.value, abs=0.01)


def test_a_folder_becomes_exactly_as_much_larger(name: str, model: Model, tmp_path: Path) -> None:
    arguments = ["translate", "--recipe", name, str(SMALL), "-o", str(tmp_path / "large")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    scale = model.translator.fit.scale
    pictures = sorted(SMALL.glob("*.png"))
    for path in pictures:
        height, width = picture_size(path)
        assert picture_size(tmp_path / "large" / path.name) == (scale * height, scale * width)
    assert len(pictures) == 4


def test_a_faithful_model_refuses_a_strength_before_the_job(tmp_path: Path) -> None:
    arguments = ["translate", "--recipe", FASTEST, str(SMALL), "-o", str(tmp_path / "large")]
    result = CliRunner().invoke(main, [*arguments, "--set", "strength=0.5"])
    assert result.exit_code == 2
    assert "no stage adversarial to be mixed with" in result.output
    assert not (tmp_path / "large").exists()


@pytest.mark.parametrize("kind", ["grey8.jpg", "grey16.png", "la16.png"])
def test_grey_pictures_stay_grey(kind: str, tmp_path: Path) -> None:
    path = ROOT / "tests" / "files" / kind
    arguments = ["translate", "--recipe", FASTEST, str(path), "-o", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "became RGB" not in result.output
    before, after = read_picture(path), read_picture(tmp_path / kind)
    assert after.is_grey
    assert after.pixels.dtype == before.pixels.dtype
    assert (after.alpha is None) == (before.alpha is None)
    height, width = before.size
    assert after.size == (4 * height, 4 * width)
    means = after.pixels.reshape(height, 4, width, 4).mean(axis=(1, 3))
    peak = np.iinfo(before.pixels.dtype).max
    assert np.abs(means - before.pixels[..., 0]).mean() < 0.02 * peak
