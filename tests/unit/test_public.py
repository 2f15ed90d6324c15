import subprocess
import sys

import pytest

import i2i

PUBLIC = {
    "Batch",
    "CheckpointError",
    "DataError",
    "DownloadError",
    "Fit",
    "Header",
    "I2IError",
    "ImageError",
    "Importer",
    "Inputs",
    "Model",
    "ModelFileError",
    "NonFiniteLoss",
    "PluginError",
    "Plugins",
    "Progress",
    "Reading",
    "Recipe",
    "RecipeError",
    "Region",
    "Term",
    "Translator",
    "Update",
    "UsageError",
    "__version__",
    "find_recipe",
    "hookimpl",
    "load_model",
    "load_plugins",
    "load_recipe",
    "read_header",
    "save_model",
}


def test_the_public_names_are_frozen():
    assert set(i2i.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_resolves_and_is_listed(name):
    assert getattr(i2i, name) is not None
    assert name in dir(i2i)


def test_every_error_is_public():
    children = {child.__name__ for child in i2i.I2IError.__subclasses__()}

    assert len(children) > 5
    assert children <= PUBLIC


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'i2i' has no attribute 'Transformer'"):
        _ = i2i.Transformer


def test_importing_i2i_imports_no_torch():
    script = "import i2i, sys; i2i.hookimpl; i2i.I2IError; print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)

    assert done.stdout.split() == [b"False"]
