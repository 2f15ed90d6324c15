"""The core's own plugin: the data layouts and the folder of recipes that come with it."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from i2i.hookspecs import hookimpl


@hookimpl
def i2i_layouts() -> Mapping[str, str]:
    """Offer the layouts that need no plugin."""
    return {"unpaired": "i2i.data.layouts:Unpaired"}


@hookimpl
def i2i_recipes() -> Path:
    """Offer the folder of recipes in this distribution."""
    return Path(str(resources.files("i2i_recipes")))
