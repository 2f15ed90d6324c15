"""The door: what this plugin offers to i2i."""

from collections.abc import Mapping

from i2i.hookspecs import hookimpl


@hookimpl
def i2i_families() -> Mapping[str, str]:
    """Offer the family; its code is imported when a recipe names it."""
    return {"cyclegan": "i2i_cyclegan.translator:CycleGAN"}
