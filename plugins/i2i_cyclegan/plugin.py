"""The door: what this plugin offers to i2i."""

from collections.abc import Mapping

from i2i.hookspecs import hookimpl


@hookimpl
def i2i_families() -> Mapping[str, str]:
    """Offer the family; its code is imported when a recipe names it."""
    return {"cyclegan": "i2i_cyclegan.translator:CycleGAN"}


@hookimpl
def i2i_importers() -> Mapping[str, str]:
    """Offer the reader of the authors' generators and of those that follow their layout."""
    return {"cyclegan": "i2i_cyclegan.reference:ReferenceGenerators"}
