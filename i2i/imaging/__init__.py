"""Files to tensors and back: the only place that knows 0..255, file formats and orientation."""

from i2i.imaging.decode import (
    MAX_PIXELS,
    decode,
    has_picture_suffix,
    pillow_unbound,
    read_bytes,
    read_picture,
)
from i2i.imaging.encode import FORMATS, encode, format_for_suffix, suffix_for_format
from i2i.imaging.names import printable
from i2i.imaging.picture import Picture, Pixels
from i2i.imaging.sheet import contact_sheet
from i2i.imaging.tensors import from_tensor, to_tensor

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "Picture",
    "Pixels",
    "contact_sheet",
    "decode",
    "encode",
    "format_for_suffix",
    "from_tensor",
    "has_picture_suffix",
    "pillow_unbound",
    "printable",
    "read_bytes",
    "read_picture",
    "suffix_for_format",
    "to_tensor",
]
