"""What the tests of the image envelope share: files made by other programs, and those programs."""

import os
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from i2i.imaging import Picture, read_picture

FILES = Path(__file__).parent.parent / "files"

needs_exiftool = pytest.mark.skipif(
    shutil.which("exiftool") is None, reason="ExifTool is not installed: apt install exiftool"
)


def imagemagick() -> str:
    """Return the command of ImageMagick 6; a ``convert`` of other programs does not count."""
    for name in (os.environ.get("CONVERT"), "/usr/bin/convert", "convert"):
        found = shutil.which(name) if name else None
        if (
            found
            and b"ImageMagick" in subprocess.run([found, "-version"], capture_output=True).stdout
        ):
            return found
    pytest.skip("ImageMagick is not installed: apt install imagemagick")


def read(name: str) -> Picture:
    return read_picture(FILES / name)


def opencv(content: bytes) -> np.ndarray:
    """Decode with OpenCV, at the file's own depth: (H, W, C) RGB or grey, alpha last."""
    array = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    array = array[..., None] if array.ndim == 2 else array
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[array.shape[2]]
    return array[..., order]


def base() -> np.ndarray:
    """The 16-bit picture that nearly all the files show."""
    return opencv((FILES / "base16.png").read_bytes()).astype(int)


def base8() -> np.ndarray:
    return np.rint(base() / 257).astype(int)


def off_by(pixels: np.ndarray, wanted: np.ndarray) -> int:
    assert pixels.shape == wanted.shape
    return int(np.abs(pixels.astype(int) - wanted.astype(int)).max())


def pillow(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content))


def exiftool(content: bytes, suffix: str, folder: Path, *tags: str) -> dict[str, str]:
    """Return what ExifTool finds in a file's bytes, numbers as numbers, by group and name."""
    path = folder / f"seen{suffix}"
    path.write_bytes(content)
    command = ["exiftool", "-n", "-G1", "-s", "-a", *(f"-{tag}" for tag in tags), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = (line.split(":", 1) for line in done.stdout.splitlines())
    return {" ".join(key.split()): value.strip() for key, value in lines}
