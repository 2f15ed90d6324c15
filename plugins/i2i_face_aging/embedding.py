"""Vectors that say whose face it is, for the identity that ageing has to keep."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Literal

import torch
from safetensors.torch import load as read_safetensors
from torch import Tensor, nn
from torch.nn import functional

from i2i.downloads import Watcher
from i2i.errors import UsageError, unknown
from i2i_face_aging import embedding_network, facenet
from i2i_face_aging.embedding_network import EmbeddingNetwork

EmbeddingName = Literal["mobileface", "facenet"]

WINDOW = (-0.13, -0.28, 1.25)
"""What MobileFace sees: left, top and side of a square, in sides of a face's picture.

What lies outside of the picture is black. With this window the mean eyes and mouth of UTKFace,
(38, 36), (88, 36) and (63, 87) of 128 pixels, come to (38, 50), (73, 50) and (56, 86) of 112; the
template of ArcFace has (38, 52), (74, 52) and (56, 92) (github.com/deepinsight/insightface).
Windows a little larger, smaller, higher or lower tell faces of UTKFace from one another less well,
and the whole picture much less: among 100 disfigured ones, an area under the ROC curve of 0.993
becomes 0.946.
"""

WHOLE = (0.0, 0.0, 1.0)
"""What FaceNet sees: the picture as it is.

It learnt from boxes of a face detector with a margin, which hold about as much around a face as
pictures of UTKFace do. Its weights were not at hand when this was chosen.
"""


class FaceEmbedding:
    """Turns aligned faces into unit vectors; the cosine of two says how alike the persons are.

    ``mobileface`` ships with the family; ``facenet`` is facenet-pytorch's published file, fetched
    once. It is no module, so that a family may keep one as an attribute: no model file, checkpoint
    or optimizer sees it. The weights are read at the first call; they are never trained, and copies
    of it share them. Gradients reach the faces. Raises UsageError for an unknown name.
    """

    def __init__(self, name: EmbeddingName = "mobileface") -> None:
        if name not in _KINDS:
            raise unknown("face embedding named", name, tuple(_KINDS), where="face embedding")
        self.name = name
        self._kind = _KINDS[name]
        self._networks: dict[tuple[torch.device, torch.dtype], nn.Module] = {}
        self._windows: dict[tuple[int, torch.device, torch.dtype, bool], Tensor] = {}

    @property
    def width(self) -> int:
        """How many numbers a vector has."""
        return self._kind.width

    def load(self, watcher: Watcher | None = None) -> None:
        """Read the weights, fetched first where need be; the first call does so by itself.

        Raises DownloadError where they can be had neither here nor from the network, and
        ModelFileError where the file holds another network.
        """
        self._network(torch.device("cpu"), torch.float32, watcher)

    def __call__(self, faces: Tensor) -> Tensor:
        """Return vectors (N, ``width``) of length one.

        ``faces`` are RGB (N, 3, H, W) in [-1, 1] of any size, aligned as UTKFace's are. Computes in
        float32 whatever the autocast (float64 faces in float64: gradients are checked in it).
        Raises UsageError for other shapes, and as ``load``.
        """
        if faces.ndim != 4 or faces.shape[1] != 3 or min(faces.shape[2:]) < 1:
            raise UsageError(
                f"faces have the shape {tuple(faces.shape)}",
                where="face embedding",
                expected="(N, 3, H, W)",
                remedy="give a batch of RGB pictures",
            )
        dtype = torch.float64 if faces.dtype == torch.float64 else torch.float32
        network = self._network(faces.device, dtype)
        with torch.autocast(faces.device.type, enabled=False):
            seen = self._seen(faces.to(dtype))
            return functional.normalize(network(seen), dim=1)

    def __deepcopy__(self, memo: dict[int, Any]) -> "FaceEmbedding":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (FaceEmbedding, (self.name,))

    def _seen(self, faces: Tensor) -> Tensor:
        """Return the window of each face, a square of the network's, black outside of the face."""
        rows = self._window(faces.shape[2], faces, upright=True)
        columns = self._window(faces.shape[3], faces, upright=False)
        seen = rows @ (faces + 1) @ columns.T - 1
        return seen.contiguous(memory_format=torch.channels_last)  # a sixth faster on processors

    def _window(self, side: int, like: Tensor, *, upright: bool) -> Tensor:
        key = (side, like.device, like.dtype, upright)
        if key not in self._windows:
            with torch.inference_mode(False):
                left, top, length = self._kind.window
                start = top if upright else left
                matrix = resampling(side, start * side, length * side, self._kind.side)
                if self._kind.window == WHOLE:  # nothing outside is seen: no dark edge
                    matrix = matrix / matrix.sum(1, keepdim=True)
                self._windows[key] = matrix.to(like.device, like.dtype)
        return self._windows[key]

    def _network(
        self, device: torch.device, dtype: torch.dtype, watcher: Watcher | None = None
    ) -> nn.Module:
        """Return the network where it is asked for; one in use elsewhere is not moved away."""
        if (device, dtype) not in self._networks:
            with torch.inference_mode(False):  # its weights may meet gradients later
                if not self._networks:
                    self._networks[torch.device("cpu"), torch.float32] = self._kind.read(watcher)
                made = deepcopy(next(iter(self._networks.values()))).to(device, dtype)
                self._networks.setdefault((device, dtype), made)
        return self._networks[device, dtype]


def resampling(side: int, start: float, length: float, made: int) -> Tensor:
    """Return (made, side) float64 weights that cut ``length`` pixels from ``start`` into ``made``.

    Linear interpolation, widened where it shrinks so that no pixel is passed over. A row adds up to
    one, less what falls outside of the picture.
    """
    scale = length / made
    reach = max(scale, 1.0)
    margin = int(abs(start) + abs(length) + reach) + 2
    centres = start + (torch.arange(made, dtype=torch.float64) + 0.5) * scale
    pixels = torch.arange(-margin, side + margin, dtype=torch.float64) + 0.5
    weights = (1 - (pixels - centres[:, None]).abs() / reach).clamp(min=0)
    weights = weights / weights.sum(1, keepdim=True)
    return weights[:, margin : margin + side]


def _read() -> EmbeddingNetwork:
    """Return the network that ships."""
    file = resources.files("i2i_face_aging") / "shipped" / "embedding.safetensors"
    state = read_safetensors(file.read_bytes())
    with torch.device("meta"):  # no draw from the generator of the training
        network = EmbeddingNetwork()
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class _Kind:
    """A network, and what it wants to see."""

    window: tuple[float, float, float]  # left, top and side, in sides of the picture
    side: int  # pixels
    width: int
    read: Callable[[Watcher | None], nn.Module]


_KINDS: Final[Mapping[str, _Kind]] = {
    "mobileface": _Kind(
        WINDOW, embedding_network.SIDE, embedding_network.WIDTH, lambda watcher: _read()
    ),
    "facenet": _Kind(WHOLE, facenet.SIDE, facenet.WIDTH, facenet.read_facenet),
}
