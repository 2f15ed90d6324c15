"""What is changed in metadata on its way from one file to another."""

from dataclasses import replace

from i2i.imaging import exif, xmp
from i2i.imaging.picture import Metadata


def without_gps(metadata: Metadata) -> Metadata:
    """Return metadata that does not say where: no GPS in EXIF, XMP and PNG's texts."""
    try:
        packet = xmp.remove_gps(metadata.xmp) if metadata.xmp else None
    except xmp.DamagedXmp:
        packet = None  # it may say anything
    return replace(
        metadata,
        exif=exif.without_gps(metadata.exif) if metadata.exif else None,
        xmp=packet,
        text={key: value for key, value in metadata.text.items() if "gps" not in key.lower()},
    )


def scaled_density(metadata: Metadata, factor: float) -> Metadata:
    """Return metadata of a picture enlarged so many times: more pixels a millimetre, one print."""
    if metadata.density is None:
        return metadata
    across, down = metadata.density
    return replace(metadata, density=(across * factor, down * factor))
