"""Backbones with made weights: what perceptual losses and distances are tested on offline."""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from i2i.downloads import Remote

# Torchvision's ``features``, by position: (out, in, kernel) of each convolution, or "R" and "M".
VGG19 = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", *(512, 512, 512, 512, "M") * 2)
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", *(512, 512, 512, "M") * 2)
FIRES = {3: (64, 16), 4: (128, 16), 6: (128, 32), 7: (256, 32)} | {
    position: (channels, squeezed)
    for position, channels, squeezed in ((9, 256, 48), (10, 384, 48), (11, 384, 64), (12, 512, 64))
}
ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def shapes(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes in torchvision's published file, the classifier left out."""
    if name == "alexnet":
        for position, (wide, channels, kernel) in ALEXNET.items():
            yield f"features.{position}", (wide, channels, kernel, kernel)
    elif name == "squeezenet1_1":
        yield "features.0", (64, 3, 3, 3)
        for position, (channels, squeezed) in FIRES.items():
            yield f"features.{position}.squeeze", (squeezed, channels, 1, 1)
            yield f"features.{position}.expand1x1", (4 * squeezed, squeezed, 1, 1)
            yield f"features.{position}.expand3x3", (4 * squeezed, squeezed, 3, 3)
    else:
        position, channels = 0, 3
        for width in VGG19 if name == "vgg19" else VGG16:
            if width == "M":
                position += 1
            else:
                yield f"features.{position}", (width, channels, 3, 3)
                position, channels = position + 2, width


def made_state(name: str) -> dict[str, Tensor]:
    """Draw weights from NumPy's frozen generator: normal, times (2 / inputs)^0.5; biases 0.1."""
    draw = np.random.RandomState(0)
    state = {}
    for key, shape in shapes(name):
        weight = draw.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
        state[f"{key}.weight"] = torch.from_numpy(weight).float()
        state[f"{key}.bias"] = torch.from_numpy(draw.standard_normal(shape[:1]) * 0.1).float()
    return state


def made_offer(name: str, state: dict[str, Tensor] | None = None) -> dict[str, Remote]:
    """Put a made network into the cache, in the old format of torchvision's files; offer it."""
    unsaved = Remote(name, f"https://example.invalid/{name}.pth")
    unsaved.path.parent.mkdir(parents=True, exist_ok=True)
    classifier = {"classifier.1.weight": torch.zeros(2, 2)}
    content = (made_state(name) if state is None else state) | classifier
    torch.save(content, unsaved.path, _use_new_zipfile_serialization=False)
    digest = hashlib.sha256(unsaved.path.read_bytes()).hexdigest()
    remote = Remote(name, unsaved.url, digest, unsaved.path.stat().st_size)
    unsaved.path.rename(remote.path)
    return {name: remote}


def made_pictures() -> tuple[Tensor, Tensor]:
    """Draw two batches (2, 3, 64, 72) in [-1, 1]."""
    draw = np.random.RandomState(1)
    first, second = (torch.from_numpy(draw.uniform(-1, 1, (2, 3, 64, 72))).float() for _ in "ab")
    return first, second


def vgg_features(state: dict[str, Tensor], plan: tuple, images: Tensor, last: int) -> Tensor:
    """Compute torchvision's ``features[: last + 1]`` from a state dict and the plain formulas."""
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=images.dtype).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225], dtype=images.dtype).view(3, 1, 1)
    x, position = ((images + 1) / 2 - mean) / deviation, 0
    for width in plan:
        if width == "M":
            steps = [lambda x: functional.max_pool2d(x, 2)]
        else:
            key = f"features.{position}"
            weight, bias = (state[f"{key}.{part}"].to(x.dtype) for part in ("weight", "bias"))
            steps = [lambda x, w=weight, b=bias: functional.conv2d(x, w, b, padding=1), torch.relu]
        for step in steps:
            x = step(x)
            if position == last:
                return x
            position += 1
    raise AssertionError(f"there is no position {last}")
