"""Image-to-image translation with adversarial networks: one small plugin a family.

The public names are resolved when they are first used, so importing ``i2i`` imports no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from i2i.errors import (
        CheckpointError,
        DataError,
        DownloadError,
        I2IError,
        ImageError,
        ModelFileError,
        NonFiniteLoss,
        PluginError,
        RecipeError,
        UsageError,
    )
    from i2i.hookspecs import hookimpl
    from i2i.importer import Importer, Reading
    from i2i.model_file import Header, Model, load_model, read_header, save_model
    from i2i.plugins import Plugins, load_plugins
    from i2i.recipe import Recipe, find_recipe, load_recipe
    from i2i.translator import Translator
    from i2i.types import Batch, Fit, Inputs, Progress, Region, Term, Update

_HOMES = {
    "Batch": "types",
    "CheckpointError": "errors",
    "DataError": "errors",
    "DownloadError": "errors",
    "Fit": "types",
    "Header": "model_file",
    "I2IError": "errors",
    "ImageError": "errors",
    "Importer": "importer",
    "Inputs": "types",
    "Model": "model_file",
    "ModelFileError": "errors",
    "NonFiniteLoss": "errors",
    "PluginError": "errors",
    "Plugins": "plugins",
    "Progress": "types",
    "Reading": "importer",
    "Recipe": "recipe",
    "RecipeError": "errors",
    "Region": "types",
    "Term": "types",
    "Translator": "translator",
    "Update": "types",
    "UsageError": "errors",
    "find_recipe": "recipe",
    "hookimpl": "hookspecs",
    "load_model": "model_file",
    "load_plugins": "plugins",
    "load_recipe": "recipe",
    "read_header": "model_file",
    "save_model": "model_file",
}

__all__ = [
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
]

__version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("i2i-gan")
    from i2i.lazy import resolve

    return resolve(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
