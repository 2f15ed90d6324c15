"""The ageing models that ship are those that their headers describe."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from i2i.engine.inference import translate_batch
from i2i.imaging import read_picture, rgb8, to_tensor
from i2i.model_file import Model, load_model
from i2i.plugins import load_plugins
from i2i.recipe import Translate, find_recipe, load_recipe
from i2i_face_aging.ages import AGE_GROUPS
from i2i_face_aging.embedding import FaceEmbedding
from i2i_face_aging.faces import Finder

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "recipes" / "weights"
FILE = WEIGHTS / "face-aging.safetensors"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(FILE, load_plugins())


@pytest.fixture(scope="module")
def portrait() -> Tensor:
    return to_tensor(rgb8(read_picture(ROOT / "docs" / "samples" / "faces" / "astronaut.jpg")))


def test_header_says_how_the_model_was_trained_how_good_it_is_and_its_terms(model: Model) -> None:
    plugins = load_plugins()
    recipe = load_recipe(find_recipe("face-aging", plugins), plugins)
    assert model.translator.options == recipe.model
    assert Translate.model_validate(model.header.translate) == recipe.translate
    assert model.header.licence == recipe.licence
    assert "UTKFace" in model.header.licence
    assert "non-commercial" in model.header.licence
    (measured,) = model.header.metrics
    assert measured["protocol"] == "faces-outside-1"  # all 600 faces
    ages = [measured["age"][group] for group in AGE_GROUPS]
    assert ages == sorted(set(ages))
    assert ages[-1] - ages[0] >= 25
    assert str(ROOT.parent) not in model.header.recipe
    assert FILE.stat().st_size <= 8_000_000


def test_a_portrait_ages_where_its_face_is_and_stays_itself(model: Model, portrait: Tensor) -> None:
    family = model.translator
    (region,) = Finder()(portrait)
    left, top = (round(row[2]) for row in region.matrix)
    face = slice(top, top + region.size[0]), slice(left, left + region.size[1])
    embedding, seen, ages = FaceEmbedding(), [], []
    for group in AGE_GROUPS:
        request = family.Request(age_group=group, face="detect")
        (result,) = translate_batch(
            family, [portrait], request, work_size="trained", restore="detail"
        )
        outside = torch.ones(portrait.shape[1:], dtype=torch.bool)
        margin = region.size[0] // 4  # the crop is turned a little
        outside[
            max(top - margin, 0) : top + region.size[0] + margin,
            max(left - margin, 0) : left + region.size[1] + margin,
        ] = False
        assert torch.equal(result[:, outside], portrait[:, outside])
        seen.append(result[None, :, *face])
        ages.append(family.age_judge.estimate(seen[-1]).item())
    assert ages == sorted(ages)
    assert ages[-1] - ages[0] > 25
    own = embedding(portrait[None, :, *face])
    assert all((embedding(each) @ own.T).item() > 0.4 for each in seen)


def test_latent_model_is_the_recipes_and_says_its_terms_and_how_good_it_is() -> None:
    plugins = load_plugins()
    recipe = load_recipe(find_recipe("face-aging-latent", plugins), plugins)
    model = load_model(WEIGHTS / "face-aging-latent.safetensors", plugins)
    assert model.translator.options == recipe.model
    assert model.header.licence == recipe.licence
    assert "non-commercial" in model.header.licence
    (measured,) = model.header.metrics
    assert measured["protocol"] == "faces-outside-1, the first 120 faces only"
    assert str(ROOT.parent) not in model.header.recipe


def test_searching_a_latent_brings_a_portrait_nearer_to_itself(portrait: Tensor) -> None:
    family = load_model(WEIGHTS / "face-aging-latent.safetensors", load_plugins()).translator
    (region,) = Finder()(portrait)
    left, top = (round(row[2]) for row in region.matrix)
    face = portrait[None, :, top : top + region.size[0], left : left + region.size[1]]
    embedding, alike = FaceEmbedding(), []
    for steps in (0, 20):
        (made,) = translate_batch(
            family, [face[0]], family.Request(age_group="30-39", source_age=35, refine_steps=steps)
        )
        alike.append((embedding(made[None]) @ embedding(face).T).item())
    assert alike[1] > alike[0] + 0.1
