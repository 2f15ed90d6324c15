"""libvips, loaded and set up on first use: pyvips has no types, and its `Any` stays in here."""

import logging
import os
from collections.abc import Mapping
from functools import cache
from threading import Lock
from types import MappingProxyType
from typing import Any

import numpy as np

from i2i.imaging.picture import Pixels

VipsImage = Any
"""A ``pyvips.Image``; pyvips has no types, so its methods are known to its documentation only."""

# No other loader ever runs: libvips has some for SVG, PDF and whatever ImageMagick reads.
LOADERS: Mapping[str, str] = MappingProxyType(
    {
        "jpeg": "jpegload_source",
        "png": "pngload_source",
        "tiff": "tiffload_source",
        "webp": "webpload_source",
        "avif": "heifload_source",
        "gif": "gifload_source",
    }
)
"""The formats that libvips reads for us, each with the operation that does it."""


_STARTING = Lock()


def pyvips() -> Any:
    """Return the module pyvips, imported and set up on the first call, whichever thread's it is."""
    with _STARTING:
        return _started()


@cache
def _started() -> Any:
    # What libvips has to say about a file is said by our own errors and notes, or not at all. Where
    # somebody logs everything, pyvips would hang: it logs from inside libvips' locks, and what it
    # logs calls libvips, while another thread holds the one and waits for the other.
    logging.getLogger("pyvips").setLevel(logging.CRITICAL + 1)
    os.environ.setdefault("VIPS_WARNING", "1")  # read as libvips starts: no warnings to stderr
    import pyvips as module  # type: ignore[import-untyped]  # it has no types

    getattr(module, "_remove_log_handler", lambda: None)()  # public under no name
    module.cache_set_max(0)  # no picture is read twice, and a cache would keep whole ones alive
    # A folder is translated by threads of ours, a picture each: libvips' own would be too many.
    module.vips_lib.vips_concurrency_set(1)
    return module


def open_image(content: Any, kind: str, **options: object) -> VipsImage:
    """Return the image that a file of one of ``LOADERS`` holds, its header read, no pixel decoded.

    ``content`` (bytes or a memory map) must outlive the image. Raises ``failures()``.
    """
    source = pyvips().Source.new_from_memory(content)
    # "error" refuses a file that is cut short, and passes garbage after its end and odd headers
    load = getattr(pyvips().Image, LOADERS[kind])
    return load(source, access="sequential", fail_on="error", **options)


def from_pixels(pixels: Pixels, interpretation: str) -> VipsImage:
    """Return an image over the memory of (H, W, C) pixels: "srgb", "rgb16", "b-w", "cmyk" ..."""
    height, width, num_channels = pixels.shape
    kind = "uchar" if pixels.dtype == np.uint8 else "ushort"
    flat = np.ascontiguousarray(pixels)
    image = pyvips().Image.new_from_memory(flat.data, width, height, num_channels, kind)
    return image.copy(interpretation=interpretation)


def to_pixels(image: VipsImage) -> Pixels:
    """Return an image's (H, W, C) pixels, decoded and computed now; raises ``failures()``."""
    kind: Any = {"uchar": np.uint8, "ushort": np.uint16}[image.format]
    flat = np.frombuffer(image.write_to_memory(), dtype=kind)
    return flat.reshape(image.height, image.width, image.bands)


def blob(image: VipsImage, name: str) -> bytes | None:
    """Return a block of metadata that an image carries."""
    return bytes(image.get(name)) if image.get_typeof(name) else None


def number(image: VipsImage, name: str, otherwise: int) -> int:
    """Return a number of an image's metadata."""
    return int(image.get(name)) if image.get_typeof(name) else otherwise


def with_blob(image: VipsImage, name: str, content: bytes) -> VipsImage:
    """Return the image with a block of metadata set."""
    changed = image.copy()
    changed.set_type(pyvips().GValue.blob_type, name, content)
    return changed


def failures() -> type[Exception]:
    """Return what libvips raises.

    Its text is never quoted: it comes from a buffer that all threads write into, and may be about
    another thread's picture.
    """
    kind: type[Exception] = pyvips().Error
    return kind
