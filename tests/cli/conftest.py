"""The tiny family of folder jobs, installed for the tests of one module."""

import importlib
import sys
from pathlib import Path

import pytest

from i2i.plugins import load_plugins
from tests.cli.folder import FAMILY, RECIPE, picture, saved


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with a real small distribution, as pip would have installed it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "tiny_negative.py").write_text(FAMILY)
    information = folder / "tiny_negative-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny-negative\nVersion: 1.0\n"
    )
    (information / "entry_points.txt").write_text("[i2i]\ntiny_negative = tiny_negative\n")
    (folder / "recipes" / "weights").mkdir(parents=True)
    (folder / "recipes" / "negatives.toml").write_text(
        RECIPE + '[weights]\nfile = "weights/negatives.safetensors"\n'
    )
    (folder / "recipes" / "negative_bare.toml").write_text(RECIPE)
    (folder / "recipes" / "negative_lost.toml").write_text(
        RECIPE + '[weights]\nfile = "weights/lost.safetensors"\n'
    )
    return folder


@pytest.fixture(scope="module")
def plugins(site):
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    yield load_plugins()
    sys.path.remove(str(site))
    sys.modules.pop("tiny_negative", None)  # the next module's lies elsewhere


@pytest.fixture(scope="module")
def model(site, plugins) -> Path:
    return saved(site / "recipes" / "weights" / "negatives.safetensors", plugins)


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for index in range(4):
        picture(12, 16, index).save(folder / f"{index}.png")
    picture(12, 16, 9).save(folder / "sub" / "9.png")
    return folder
