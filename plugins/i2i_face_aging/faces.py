"""Faces in photographs: where they are, and how to cut them as UTKFace is cut.

Points are (x, y) in pixels, whole numbers at the centres of pixels.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from i2i.errors import ImageError
from i2i.imaging import Pixels, from_tensor
from i2i.types import Region
from i2i_face_aging.mtcnn import SMALLEST, detector, similarity

TEMPLATE = ((0.297, 0.287), (0.693, 0.287), (0.492, 0.523), (0.316, 0.698), (0.672, 0.697))
"""Where UTKFace has eyes, nose and corners of the mouth, as fractions of the side.

Medians of what the detector sees in 998 of 1,000 random pictures of the training split; half of
the eyes' coordinates are within 0.011 of them, half of the nose's and mouth's within 0.023.
"""

SMALLEST_CROP = 64  # pixels a side: what the families take
_SURE = 0.9  # score of a face in a photograph
_MAYBE = 0.6  # score where a face is expected
_SEEN = 2400  # pixels of the longer side that the detector sees
_SMALLEST_FACE = 24  # pixels a side there: a hundredth of the longer side
_OUT_OF_PLACE = 0.12  # of the side: fewer than 1 in 100 faces of UTKFace are further away


@dataclass(frozen=True)
class Face:
    """A face: its box (left, top, right, bottom), five points, and a score in [0, 1].

    The points are the eyes, the nose and the corners of the mouth, left before right as one sees
    them.
    """

    box: tuple[float, float, float, float]
    points: tuple[tuple[float, float], ...]
    score: float

    @property
    def side(self) -> float:
        """Return the root of the box's area, in pixels."""
        left, top, right, bottom = self.box
        return math.sqrt(max(right - left, 0) * max(bottom - top, 0))


def find_faces(pixels: Pixels) -> tuple[Face, ...]:
    """Return the faces of a photograph (H, W, 3), RGB of 8 or 16 bits, the largest first.

    Found are faces from 24 pixels a side, and from a hundredth of the photograph's longer side.
    """
    return _found(pixels, 0.01, _SURE)


class Finder:
    """Says what to cut out of a photograph: its faces.

    The last photograph is remembered, as one may be asked for in several ages.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes, tuple[Region, ...]] = (b"", ())

    def __call__(self, image: Tensor) -> tuple[Region, ...]:
        """Return the faces of (3, H, W), float32 in [-1, 1]; raises ImageError where is none."""
        pixels = from_tensor(image)
        key = hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).digest()
        if key != self._last[0]:
            self._last = key, tuple(align(face) for face in find_faces(pixels))
        if not self._last[1]:
            raise ImageError(
                "no face was found in it",
                where="face=detect",
                expected="a face that looks towards the camera, 24 pixels a side or larger",
                remedy="leave it out, or translate a crop of the face with --set face=aligned",
            )
        return self._last[1]


def align(face: Face) -> Region:
    """Return the square to cut out so that the face lies as faces of UTKFace do.

    The similarity that takes ``TEMPLATE`` to the face's points with the least squared error
    (Umeyama, IEEE PAMI 13(4), 1991). A pixel of the crop is a pixel of the photograph, but for
    faces so small that the crop would be below 64 pixels. The square may reach beyond the
    photograph.
    """
    slope, origin = _similarity(face)
    size = max(SMALLEST_CROP, round(abs(slope)))
    step = slope / size
    start = origin + step * (0.5 + 0.5j)
    matrix = ((step.real, -step.imag, start.real), (step.imag, step.real, start.imag))
    return Region(matrix, (size, size))


def misplaced(pixels: Pixels) -> str | None:
    """Say what is wrong with the place of the face in a picture that should be aligned, or None.

    The picture (H, W, 3), RGB of 8 or 16 bits, is fine if the square that ``align`` would cut has
    its corners where the picture has them, within 12% of the side on average.
    """
    height, width = pixels.shape[:2]
    faces = _found(pixels, 0.4, _MAYBE)
    if not faces:
        return "no face was found in it"
    if len(faces) > 1:
        return f"{len(faces)} faces were found in it"
    slope, origin = _similarity(faces[0])
    apart = 0.0
    for corner in (0, 1, 1j, 1 + 1j):
        wanted = complex(corner.real * width, corner.imag * height) - (0.5 + 0.5j)
        apart += abs(origin + slope * corner - wanted) / 4 / min(height, width)
    if apart > _OUT_OF_PLACE:
        return f"its face is {apart:.0%} of the side away from where it should be"
    return None


def _found(pixels: Pixels, smallest: float, surest: float) -> tuple[Face, ...]:
    """Return the faces, the largest first; ``smallest`` is a fraction of the longer side."""
    if pixels.dtype == np.uint16:
        pixels = (pixels // 257).astype(np.uint8)
    height, width = pixels.shape[:2]
    scale = min(1.0, _SEEN / max(height, width))
    seen_size = max(SMALLEST, round(width * scale)), max(SMALLEST, round(height * scale))
    seen: Any = pixels
    if seen_size != (width, height):
        seen = Image.fromarray(pixels).resize(seen_size, Image.Resampling.BILINEAR, reducing_gap=2)
    picture = torch.from_numpy(np.array(seen)).permute(2, 0, 1).float() / 127.5 - 1
    found = detector()(picture, max(_SMALLEST_FACE, smallest * max(seen_size)), surest)
    stretch = np.array([width / seen_size[0], height / seen_size[1]])
    faces = [
        Face(
            tuple((box.reshape(2, 2) * stretch).ravel().tolist()),
            tuple(map(tuple, (points * stretch - 0.5).tolist())),
            float(score),
        )
        for box, points, score in zip(
            found.boxes.double().numpy(),
            found.landmarks.double().numpy(),
            found.scores,
            strict=True,
        )
    ]
    return tuple(sorted(faces, key=lambda face: (-face.side, face.box)))


def _similarity(face: Face) -> tuple[complex, complex]:
    """Return a and b of x -> a x + b: fractions of the crop's side to pixels, as complex numbers.

    The size of a is the side of the crop in pixels, its angle that of the face.
    """
    template = torch.tensor(TEMPLATE, dtype=torch.float64)
    points = torch.tensor([face.points], dtype=torch.float64)
    slope, origin = similarity(template, torch.view_as_complex(points))
    return complex(slope), complex(origin)
