"""What is changed in metadata on its way from one file to another."""

from dataclasses import replace

from i2i.imaging import exif, xmp
from i2i.imaging.containers import MAX_SEGMENT, MAX_XMP, photoshop_block
from i2i.imaging.picture import Metadata


def fitted(metadata: Metadata, format_: str) -> tuple[Metadata, tuple[str, ...]]:
    """Return metadata whose XMP and IPTC a format has room for, and a note of what was left out.

    JPEG keeps each in one segment of 64 KB.
    """
    if format_ != "jpeg":
        return metadata, ()
    notes = []
    if metadata.xmp and len(metadata.xmp) > MAX_XMP:
        try:
            packet, names = xmp.shrink(metadata.xmp, MAX_XMP)
            notes.append(f"XMP too long for JPEG: {', '.join(names)} left out")
            metadata = replace(metadata, xmp=packet)
        except xmp.DamagedXmp:
            notes.append("XMP too long for JPEG: left out")
            metadata = replace(metadata, xmp=None)
    if metadata.iptc and len(photoshop_block(metadata.iptc)) + 14 > MAX_SEGMENT:
        notes.append("IPTC too long for JPEG: left out")
        metadata = replace(metadata, iptc=None)
    return metadata, tuple(notes)


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
