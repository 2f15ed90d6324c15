"""The door: what this plugin offers to i2i."""

from collections.abc import Mapping

from i2i.hookspecs import hookimpl


@hookimpl
def i2i_families() -> Mapping[str, str]:
    """Offer the family; its code is imported when a recipe names it."""
    return {"pix2pix": "i2i_pix2pix.translator:Pix2Pix"}


@hookimpl
def i2i_importers() -> Mapping[str, str]:
    """Offer the reader of the authors' generators."""
    return {"pix2pix": "i2i_pix2pix.reference:ReferenceUNets"}
