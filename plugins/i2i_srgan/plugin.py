"""The door: what this plugin offers to i2i."""

from collections.abc import Mapping

from i2i.hookspecs import hookimpl


@hookimpl
def i2i_families() -> Mapping[str, str]:
    """Offer the family; its code is imported when a recipe names it."""
    return {"srgan": "i2i_srgan.translator:SRGAN"}


@hookimpl
def i2i_importers() -> Mapping[str, str]:
    """Offer the readers of published generators."""
    return {
        "esrgan": "i2i_srgan.reference:ESRGANGenerators",
        "msrresnet": "i2i_srgan.reference:MSRResNetGenerators",
        "srgan": "i2i_srgan.reference:SRGANGenerators",
        "srvgg": "i2i_srgan.reference:SRVGGGenerators",
    }
