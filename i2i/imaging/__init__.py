"""Files to tensors and back: the only place that knows 0..255, formats, profiles and EXIF."""

from i2i.imaging.alpha import fill_hidden, on_white, rgb8
from i2i.imaging.bicubic import shrink
from i2i.imaging.decode import (
    MAX_PIXELS,
    decode,
    has_picture_suffix,
    picture_size,
    pillow_unbound,
    read_bytes,
    read_picture,
)
from i2i.imaging.encode import (
    FORMATS,
    encode,
    format_for_suffix,
    holds_16_bits,
    left_out,
    refusal,
    suffix_for_format,
)
from i2i.imaging.metadata import fitted, scaled_density, without_gps
from i2i.imaging.names import printable
from i2i.imaging.picture import Metadata, Picture, Pixels
from i2i.imaging.sheet import contact_sheet
from i2i.imaging.tensors import from_tensor, greyed, to_tensor

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Metadata",
    "Picture",
    "Pixels",
    "contact_sheet",
    "decode",
    "encode",
    "fill_hidden",
    "fitted",
    "format_for_suffix",
    "from_tensor",
    "greyed",
    "has_picture_suffix",
    "holds_16_bits",
    "left_out",
    "on_white",
    "picture_size",
    "pillow_unbound",
    "printable",
    "read_bytes",
    "read_picture",
    "refusal",
    "rgb8",
    "scaled_density",
    "shrink",
    "suffix_for_format",
    "to_tensor",
    "without_gps",
]
