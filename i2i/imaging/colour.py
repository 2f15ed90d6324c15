"""ICC profiles: to the sRGB that models know, and back.

The intent is relative colorimetric with black point compensation: what is white on a file's paper
becomes white, colours that sRGB has are met exactly (so that they come back exactly), and the
shadows of printers' profiles keep their steps instead of becoming one black. Perceptual intents
differ from one maker of profiles to the next, and matrix profiles have none. Colours outside sRGB
are clipped to it.
"""

import struct
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import ImageCms

from i2i.imaging import vips
from i2i.imaging.vips import VipsImage

_HOW = {"intent": "relative", "black_point_compensation": True}
_RELATIVE = ImageCms.Intent.RELATIVE_COLORIMETRIC
_CHANNELS = {b"RGB ": 3, b"GRAY": 1, b"CMYK": 4}
# Of 65535: one step of 8 bits. Makers round the curve and the primaries of sRGB differently; the
# most common profile of all, "sRGB IEC61966-2.1", is off by 211 at the corners of its cube.
_SAME_AS_SRGB = 257


def num_channels(profile: bytes) -> int | None:
    """Return the channels of the colours that a profile describes; None where it is no profile."""
    is_profile = len(profile) > 128 and profile[36:40] == b"acsp"
    return _CHANNELS.get(profile[16:20]) if is_profile else None


def to_srgb(image: VipsImage, profile: bytes | None, *, is_cmyk: bool) -> VipsImage:
    """Return the colours of an image (1, 3 or 4 channels, no alpha) as grey or RGB of sRGB.

    ``profile`` fits the image as ``usable`` says; without one CMYK is read by libvips' own.
    The depth stays. Nothing is computed yet.
    """
    if profile is None:
        return _transformed(image, "srgb", input_profile="cmyk") if is_cmyk else image
    if is_srgb(profile):
        return image
    is_grey = image.bands == 1
    if is_grey and num_channels(profile) == 3:
        image = _repeated(image)
    tagged = vips.with_blob(image, "icc-profile-data", profile)
    converted = _transformed(tagged, "srgb", embedded=True)
    return converted[1].copy(interpretation=_grey(image)) if is_grey else converted


def from_srgb(image: VipsImage, profile: bytes) -> VipsImage:
    """Return grey or RGB of sRGB as the colours that a profile of as many channels describes."""
    if is_srgb(profile):
        return image
    is_grey = image.bands == 1
    colour = _repeated(image) if is_grey else image
    with TemporaryDirectory() as folder:  # libvips takes the profile of an output from a file
        path = Path(folder) / "output.icc"
        path.write_bytes(profile)
        converted = _transformed(colour, str(path), input_profile="srgb")
    return converted[0].copy(interpretation=_grey(image)) if is_grey else converted


def is_usable(profile: bytes, channels: int) -> bool:
    """Whether a profile is sound and can describe an image of so many channels.

    RGB profiles on grey files are common and clear: grey is where the three are equal.
    """
    own = num_channels(profile)
    if own != channels and not (own == 3 and channels == 1):
        return False
    return _is_sound(profile)


@lru_cache(maxsize=32)
def is_srgb(profile: bytes) -> bool:
    """Whether a profile is sRGB in all but its name, to within one step of 8 bits."""
    channels = num_channels(profile)
    if channels not in (1, 3):
        return False
    probe = _probe(channels)
    image = vips.from_pixels(probe, "grey16" if channels == 1 else "rgb16")
    tagged = vips.with_blob(image, "icc-profile-data", profile)
    seen = vips.to_pixels(_transformed(tagged, "srgb", embedded=True))
    return int(np.abs(seen.astype(int) - probe).max()) <= _SAME_AS_SRGB


def srgb_profile(channels: int) -> bytes:
    """Return the profile that says: sRGB, or grey of sRGB's curve."""
    return _grey_profile() if channels == 1 else _srgb_profile()


@lru_cache(maxsize=32)
def _is_sound(profile: bytes) -> bool:
    """Whether a transform can be made of a profile; libvips would take another in silence."""
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[num_channels(profile) or 3]
    try:
        opened = ImageCms.getOpenProfile(BytesIO(profile))
        ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB", _RELATIVE)
    except (ImageCms.PyCMSError, OSError):
        return False
    return True


@lru_cache
def _probe(channels: int) -> Any:
    levels = np.linspace(0, 65535, 9).round().astype(np.uint16)
    if channels == 1:  # more of them: the curve is all there is
        levels = np.linspace(0, 65535, 729).round().astype(np.uint16)
    grid = np.stack(np.meshgrid(*[levels] * channels, indexing="ij"), axis=-1)
    return grid.reshape(1, -1, channels)


def _transformed(image: VipsImage, output: str, **source: object) -> VipsImage:
    """Return an image in the colours of a profile: a file's, or one of libvips' own names."""
    plain = image
    if "input_profile" in source and image.get_typeof("icc-profile-data"):
        plain = image.copy()
        plain.remove("icc-profile-data")
    if image.format == "uchar":
        return plain.icc_transform(output, depth=8, **source, **_HOW)
    # In one step lcms takes short cuts of 12 bits; through Lab it counts in floats, at 6 Mpx/s
    return plain.icc_import(pcs="lab", **source, **_HOW).icc_export(
        pcs="lab", output_profile=output, depth=16, **_HOW
    )


def _repeated(image: VipsImage) -> VipsImage:
    kind = "rgb16" if image.format == "ushort" else "srgb"
    return image.bandjoin([image, image]).copy(interpretation=kind)


def _grey(image: VipsImage) -> str:
    return "grey16" if image.format == "ushort" else "b-w"


@lru_cache
def _srgb_profile() -> bytes:
    dot = vips.from_pixels(np.zeros((1, 1, 3), np.uint8), "srgb")
    profile = vips.blob(dot.icc_transform("srgb", input_profile="srgb"), "icc-profile-data")
    assert profile is not None, "libvips attaches the profile that it converts to"
    return profile


def _grey_profile() -> bytes:
    """Return a profile of version 2 with sRGB's curve in 1024 steps; ICC.1:2001-04, 6.3.1.2."""
    steps = np.linspace(0, 1, 1024)
    linear = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    curve = struct.pack(">4s4xI", b"curv", 1024) + (linear * 65535).round().astype(">u2").tobytes()
    name = b"Grey with the curve of sRGB\0"
    white = struct.pack(">3i", 63190, 65536, 54061)  # D50, in 1/65536
    tags = {
        b"desc": struct.pack(">4s4xI", b"desc", len(name)) + name + bytes(78),
        b"cprt": b"text" + bytes(4) + b"CC0\0",
        b"wtpt": b"XYZ " + bytes(4) + white,
        b"kTRC": curve,
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    made = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)  # fixed: equal pictures give equal bytes
    header = struct.pack(
        ">I4xI4s4s4s12s4s28x12s48x",
        start + len(body), 0x02400000, b"mntr", b"GRAY", b"XYZ ", made, b"acsp", white,
    )  # fmt: skip
    return header + table + body
