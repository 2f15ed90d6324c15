"""Frozen feature networks: what a trained classifier sees in a picture, at any of its layers.

The weights of ``squeezenet`` ship with i2i; those of the others are torchvision's published files,
fetched once. Layers are named as the papers name them: ``conv5_4`` is the fourth convolution of the
fifth block before its activation, ``relu5_4`` after it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from importlib import resources
from typing import Any, Literal, cast, get_args

import torch
from safetensors.torch import load as read_safetensors
from torch import Tensor, nn
from torch.nn import functional

from i2i.downloads import Remote, Watcher
from i2i.errors import ModelFileError, UsageError, unknown
from i2i.nn.pretrained import CORE, pretrained

BackboneName = Literal["squeezenet", "squeezenet1_1", "alexnet", "vgg16", "vgg19"]

_SHIPPED = "squeezenet"
_Layers = Iterator[tuple[str, nn.Module]]


class Backbone:
    """A frozen feature network: images in, the outputs of named layers out.

    It is no module, so that a family may keep one as an attribute: no model file, checkpoint or
    optimizer sees it. The weights are read when features are first asked for, so that a family that
    only translates needs none; they are never trained, and copies of it share them. Gradients
    reach the images.

    ``offers`` says where the weights of each network are: the core's own, unless given. Raises
    UsageError for an unknown name.
    """

    def __init__(self, name: BackboneName, offers: Mapping[str, Remote] = CORE) -> None:
        if name not in get_args(BackboneName):
            raise unknown("backbone named", name, get_args(BackboneName), where="backbones")
        self.name = name
        self._offers = dict(offers)
        with torch.device("meta"):  # names alone; and no draw from the generator of the training
            self._plan = nn.Sequential()
            for layer, module in _ARCHITECTURES[name]():
                self._plan.add_module(layer, module)
        self._networks: dict[tuple[torch.device, torch.dtype], nn.Sequential] = {}

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers, from the picture on."""
        return tuple(name for name, _ in self._plan.named_children())

    def check_layers(self, layers: Sequence[str]) -> None:
        """Raise UsageError for a layer that is not there, and for none or one twice."""
        for layer in layers:
            if layer not in self.layers:
                raise unknown("layer named", layer, self.layers, where=f"backbone {self.name!r}")
        if not layers or len(set(layers)) < len(layers):
            raise UsageError(
                f"the layers are {', '.join(layers) or 'none'}",
                where=f"backbone {self.name!r}",
                expected="one layer or more, each once",
                remedy="name each layer once",
            )

    def smallest_side(self, layer: str) -> int:
        """Return the least height and width in pixels of which ``layer`` has an output."""
        self.check_layers([layer])
        side = 1
        for module in reversed(list(self._plan)[: self.layers.index(layer) + 1]):
            side = max(_side_before(module, side), 1)
        return side

    def load(self, watcher: Watcher | None = None) -> None:
        """Read the weights, fetched first where need be; features do so by themselves.

        Raises DownloadError where they can be had neither here nor from the network, and
        ModelFileError where the file holds another network.
        """
        self._network(torch.device("cpu"), torch.float32, watcher)

    def features(self, images: Tensor, layers: Sequence[str]) -> tuple[Tensor, ...]:
        """Return the outputs of ``layers``, in that order, each (N, C', H', W').

        ``images`` are RGB (N, 3, H, W) in [-1, 1] on any device. Computes in float32 whatever the
        autocast (float64 images in float64: gradients are checked in it). Raises UsageError for an
        unknown layer or images that are no such batch or too small, and as ``load``.
        """
        self.check_layers(layers)
        deepest = max(layers, key=self.layers.index)
        self._check_images(images, deepest)
        dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
        network = self._network(images.device, dtype)
        outputs: dict[str, Tensor] = {}
        with torch.autocast(images.device.type, enabled=False):
            x = _normalised(images.to(dtype), self.name)
            for name, module in network.named_children():
                x = module(x)
                if name in layers:
                    outputs[name] = x
                if name == deepest:
                    break
        return tuple(outputs[name] for name in layers)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Backbone":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (Backbone, (self.name, self._offers))

    def _check_images(self, images: Tensor, deepest: str) -> None:
        smallest = self.smallest_side(deepest)
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < smallest:
            raise UsageError(
                f"images have the shape {tuple(images.shape)}",
                where=f"backbone {self.name!r}",
                expected=f"(N, 3, H, W) of at least {smallest}x{smallest} pixels for {deepest!r}",
                remedy="use larger RGB pictures, or a layer nearer to the picture",
            )

    def _network(
        self, device: torch.device, dtype: torch.dtype, watcher: Watcher | None = None
    ) -> nn.Sequential:
        """Return the network where it is asked for; one in use elsewhere is not moved away."""
        if (device, dtype) not in self._networks:
            with torch.inference_mode(False):  # its weights may meet gradients later
                if not self._networks:
                    first = (torch.device("cpu"), torch.float32)
                    self._networks[first] = self._read(watcher)
                made = deepcopy(next(iter(self._networks.values()))).to(device, dtype)
                self._networks.setdefault((device, dtype), made)
        return self._networks[device, dtype]

    def _read(self, watcher: Watcher | None) -> nn.Sequential:
        if self.name == _SHIPPED:
            where = str(resources.files("i2i.nn") / "shipped" / f"{_SHIPPED}.safetensors")
            state = shipped(_SHIPPED)
        else:
            path = pretrained(self.name, self._offers, watcher)
            where = str(path)
            found = torch.load(path, map_location="cpu", weights_only=True)
            state = _renamed(found, self.layers)
        network = deepcopy(self._plan)
        try:
            network.load_state_dict(
                {name: tensor.to(torch.float32, copy=True) for name, tensor in state.items()},
                assign=True,
            )
        except RuntimeError as error:
            raise ModelFileError(
                f"does not hold the weights of {self.name} ({' '.join(str(error).split())})",
                where=where,
                expected="the published file",
                remedy="delete it and fetch it again",
            ) from error
        return network.eval().requires_grad_(False)


def layers_of(name: BackboneName) -> tuple[str, ...]:
    """Return the names of a backbone's layers, from the picture on; reads no weights."""
    return Backbone(name).layers


def shipped(name: str) -> dict[str, Tensor]:
    """Return the tensors of a weights file that comes with i2i."""
    file = resources.files("i2i.nn") / "shipped" / f"{name}.safetensors"
    return read_safetensors(file.read_bytes())


class _Fire(nn.Module):
    """A 1x1 squeeze and two expansions, concatenated (arXiv:1602.07360, section 3.2).

    (N, C, H, W) to (N, 8S, H, W) where S is the width of the squeeze.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, 4 * squeezed, 1)
        self.expand3x3 = nn.Conv2d(squeezed, 4 * squeezed, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the 1x1 expansion's channels, then the 3x3 one's."""
        x = functional.relu(self.squeeze(x))
        return functional.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


def _vgg(counts: Sequence[int]) -> _Layers:
    """Yield the convolutional part of VGG (arXiv:1409.1556, table 1), ``counts`` a block."""
    channels = 3
    for block, (count, width) in enumerate(zip(counts, (64, 128, 256, 512, 512), strict=True), 1):
        for index in range(1, count + 1):
            yield f"conv{block}_{index}", nn.Conv2d(channels, width, 3, padding=1)
            yield f"relu{block}_{index}", nn.ReLU()
            channels = width
        yield f"pool{block}", nn.MaxPool2d(2)


def _squeezenet(stem: nn.Conv2d, pooled: Sequence[int]) -> _Layers:
    """Yield SqueezeNet up to fire9 (arXiv:1602.07360), with pooling after the fires ``pooled``.

    The stem is not padded and pooling rounds sizes up, as in the authors' Caffe file.
    """
    yield "conv1", stem
    yield "relu1", nn.ReLU()
    yield "pool1", nn.MaxPool2d(3, 2, ceil_mode=True)
    channels = stem.out_channels
    for index, squeezed in enumerate((16, 16, 32, 32, 48, 48, 64, 64), 2):
        yield f"fire{index}", _Fire(channels, squeezed)
        channels = 8 * squeezed
        if index in pooled:
            yield f"pool{index}", nn.MaxPool2d(3, 2, ceil_mode=True)


def _alexnet() -> _Layers:
    """Yield the convolutional part of AlexNet as torchvision has it (arXiv:1404.5997)."""
    convolutions = (
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.Conv2d(256, 256, 3, padding=1),
    )
    for index, convolution in enumerate(convolutions, 1):
        yield f"conv{index}", convolution
        yield f"relu{index}", nn.ReLU()
        if index in (1, 2, 5):
            yield f"pool{index}", nn.MaxPool2d(3, 2)


_ARCHITECTURES: dict[str, Callable[[], _Layers]] = {
    "squeezenet": lambda: _squeezenet(nn.Conv2d(3, 96, 7, stride=2), pooled=(4, 8)),
    "squeezenet1_1": lambda: _squeezenet(nn.Conv2d(3, 64, 3, stride=2), pooled=(3, 5)),
    "alexnet": _alexnet,
    "vgg16": lambda: _vgg((2, 2, 3, 3, 3)),
    "vgg19": lambda: _vgg((2, 2, 4, 4, 4)),
}


def _normalised(images: Tensor, name: str) -> Tensor:
    """Bring images in [-1, 1] to what the network was trained on."""
    if name == _SHIPPED:  # Caffe's: BGR, 0..255, minus the mean
        mean = images.new_tensor([104.0, 117.0, 123.0]).view(3, 1, 1)
        return (images.flip(1) + 1) * 127.5 - mean
    shift = images.new_tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)  # 2 mean - 1
    scale = images.new_tensor([0.458, 0.448, 0.450]).view(3, 1, 1)  # 2 deviations
    return (images - shift) / scale


def _renamed(state: Mapping[str, Tensor], layers: Sequence[str]) -> dict[str, Tensor]:
    """Return torchvision's ``features.N.weight`` by our names, the classifier left out."""
    renamed = {}
    for key, tensor in state.items():
        part, _, rest = key.partition(".")
        index, _, rest = rest.partition(".")
        if part == "features" and index.isdecimal() and int(index) < len(layers):
            renamed[f"{layers[int(index)]}.{rest}"] = tensor
    return renamed


def _side_before(module: nn.Module, side: int) -> int:
    """Return the least side before ``module`` that leaves ``side`` after it."""
    if isinstance(module, nn.Conv2d):
        padding = cast("tuple[int, int]", module.padding)[0]
        return (side - 1) * module.stride[0] + module.kernel_size[0] - 2 * padding
    if isinstance(module, nn.MaxPool2d):
        stride, kernel = cast("int", module.stride), cast("int", module.kernel_size)
        return (side - 1) * stride + kernel - (stride - 1 if module.ceil_mode else 0)
    return side
