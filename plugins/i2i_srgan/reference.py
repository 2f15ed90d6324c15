"""Published super-resolution checkpoints: of ESRGAN, Real-ESRGAN, BasicSR and leftthomas/SRGAN."""

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from i2i.importer import Importer, Reading, Shapes
from i2i_srgan.networks import SCALES

_WIDTH, _GROWTH, _SCALE = 64, 32, 4
"""What is published, for files that lack the tensors that tell."""

_CONVOLUTION = ("weight", "bias")
_PRELU = ("weight",)
_NORM = ("weight", "bias", "running_mean", "running_var")
_COUNTER = "num_batches_tracked"  # which older versions of PyTorch do not write, and nothing reads


@dataclass(frozen=True)
class _Layer:
    """One layer of a checkpoint: its names there and here, and why it should be there."""

    theirs: str
    ours: str
    reason: str
    kinds: tuple[str, ...] = _CONVOLUTION


@dataclass(frozen=True)
class _Found:
    """What the names and shapes of a generator suggest."""

    scale: int
    generator: Mapping[str, Any]
    layers: tuple[_Layer, ...]
    undecided: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class _Generators(Importer):
    """Reads single generators: such a model has no second stage, and no first one to mix with."""

    family = "srgan"
    preferred: ClassVar[tuple[str, ...]] = ("params_ema",)

    def read(self, shapes: Shapes, chosen: Mapping[str, Any]) -> Reading | None:
        """See ``Importer``."""
        found = self._find(shapes, chosen)
        if found is None:
            return None
        each = [(layer, kind) for layer in found.layers for kind in layer.kinds]
        counters = {f"{layer.theirs}.{_COUNTER}" for layer in found.layers if layer.kinds == _NORM}
        return Reading(
            options={"scale": found.scale, "generator": found.generator, "adversarial": False},
            names={f"{at.theirs}.{kind}": f"generator.{at.ours}.{kind}" for at, kind in each},
            unused=frozenset(counters & shapes.keys()),
            reasons={f"{at.theirs}.{kind}": at.reason for at, kind in each},
            undecided=found.undecided,
            notes=found.notes,
        )

    @abstractmethod
    def _find(self, shapes: Shapes, chosen: Mapping[str, Any]) -> _Found | None:
        """Say what the names and shapes suggest; None if they are another network's."""


@dataclass(frozen=True)
class _Style:
    """How a generation of ESRGAN's program names its layers, and what tells it by its blocks."""

    block: str
    head: str
    dense: str
    trunk: str
    up: str
    fine: str
    tail: str

    def counted(self, shapes: Shapes) -> int:
        """Return how many layers enlarge: 2**count is what all of them make of a picture."""
        if "{third}" in self.up:  # one sequence: three places each, then three places more
            places = [int(match[1]) for name in shapes if (match := _PLACE.fullmatch(name))]
            return max(0, (max(places, default=0) - 2) // 3)
        prefix, _, _ = self.up.partition("{")
        numbers = _numbers(shapes, rf"{prefix}(\d+)\.(?:weight|bias)")
        return max(numbers, default=0)


_PLACE = re.compile(r"model\.(\d+)\.(?:weight|bias)")
_STYLES = (
    _Style(  # Real-ESRGAN and BasicSR since 2020
        block=r"body\.(\d+)\.rdb[123]\.conv[1-5]\.(?:weight|bias)",
        head="conv_first",
        dense="body.{block}.rdb{dense}.conv{place}",
        trunk="conv_body",
        up="conv_up{number}",
        fine="conv_hr",
        tail="conv_last",
    ),
    _Style(  # ESRGAN's second program; BSRGAN
        block=r"RRDB_trunk\.(\d+)\.RDB[123]\.conv[1-5]\.(?:weight|bias)",
        head="conv_first",
        dense="RRDB_trunk.{block}.RDB{dense}.conv{place}",
        trunk="trunk_conv",
        up="upconv{number}",
        fine="HRconv",
        tail="conv_last",
    ),
    _Style(  # ESRGAN's first program, in which most models of its community are
        block=r"model\.1\.sub\.(\d+)\.RDB[123]\.conv[1-5]\.0\.(?:weight|bias)",
        head="model.0",
        dense="model.1.sub.{block}.RDB{dense}.conv{place}.0",
        trunk="model.1.sub.{blocks}",
        up="model.{third}",
        fine="model.{fine}",
        tail="model.{tail}",
    ),
)
_THREE = (
    "the file cannot tell 2 from 3, as both enlarge by one layer: scale is what 2 makes; "
    "--set scale=3 for a network that was trained for 3"
)


class ESRGANGenerators(_Generators):
    """Reads ``RRDBNet`` in the three ways that xinntao/ESRGAN, BasicSR and Real-ESRGAN name it.

    The scale follows from the number of enlarging layers, of 2 each, and from the channels of the
    first convolution: 12 or 48 are those of a picture rearranged 2 or 4 times smaller.
    """

    def _find(self, shapes: Shapes, chosen: Mapping[str, Any]) -> _Found | None:
        for style in _STYLES:
            if blocks := _numbers(shapes, style.block):
                return _rrdb(style, max(blocks) + 1, shapes, chosen)
        return None


def _rrdb(style: _Style, num_blocks: int, shapes: Shapes, chosen: Mapping[str, Any]) -> _Found:
    num_ups = style.counted(shapes)
    numbers = {"blocks": num_blocks, "fine": 3 * num_ups + 2, "tail": 3 * num_ups + 4}
    head, trunk, fine, tail = (
        name.format(**numbers) for name in (style.head, style.trunk, style.fine, style.tail)
    )
    width = _width(shapes, head, tail)
    growth = _size(shapes, f"{style.dense.format(block=0, dense=1, place=1)}.weight", 0, _GROWTH)
    seen = _size(shapes, f"{head}.weight", 1, 3) // _size(shapes, f"{tail}.weight", 0, 3)
    unshuffle = {4: 2, 16: 4}.get(seen, 1)
    scale = max(1, 2**num_ups // unshuffle)
    if scale == 2 and num_ups == 1 and chosen.get("scale") == 3:
        scale = 3
    ends = (
        f"width={width} and unshuffle={unshuffle} ask" if unshuffle > 1 else f"width={width} asks"
    )
    inside = f"num_blocks={num_blocks}, width={width} and growth={growth} ask for it"
    enlarging = f"scale={scale} and width={width} ask for it"
    layers = [_Layer(head, "head", f"{ends} for it, with 3 channels at both ends")]
    for block in range(num_blocks):
        for dense in range(3):
            for place in range(5):
                name = style.dense.format(block=block, dense=dense + 1, place=place + 1)
                ours = f"body.{block}.blocks.{dense}.{place}"
                layers.append(_Layer(name, ours, f"{inside}, by the last block's name"))
    layers.append(_Layer(trunk, "last", f"width={width} asks for it"))
    for number in range(1, num_ups + 1):
        name = style.up.format(number=number, third=3 * number)
        layers.append(_Layer(name, f"up.{number - 1}", enlarging))
    layers.append(
        _Layer(fine, "fine", enlarging if "{" in style.fine else f"width={width} asks for it")
    )
    layers.append(_Layer(tail, "tail", f"width={width} asks for it, with 3 channels at both ends"))
    return _Found(
        scale=scale,
        generator={
            "architecture": "rrdb",
            "width": width,
            "num_blocks": num_blocks,
            "growth": growth,
            "unshuffle": unshuffle,
        },
        layers=tuple(layers),
        notes=(_THREE,) if num_ups == 1 and "scale" not in chosen else (),
    )


_PLAIN = {"body": "conv_hr", "recon_trunk": "HRconv"}
"""What BasicSR and the program before it call the blocks, and the last but one convolution."""


class MSRResNetGenerators(_Generators):
    """Reads ``MSRResNet`` of BasicSR, for 2, 3 and 4 times."""

    def _find(self, shapes: Shapes, chosen: Mapping[str, Any]) -> _Found | None:
        if not any(name.startswith(("conv_first.", "upconv1.")) for name in shapes):
            return None
        for body, fine in _PLAIN.items():
            if blocks := _numbers(shapes, rf"{body}\.(\d+)\.conv[12]\.(?:weight|bias)"):
                return _msrresnet(body, fine, max(blocks) + 1, shapes)
        return None


def _msrresnet(body: str, fine: str, num_blocks: int, shapes: Shapes) -> _Found:
    width = _width(shapes, "conv_first", "conv_last")
    num_ups = 2 if any(name.startswith("upconv2.") for name in shapes) else 1
    enlarged = _size(shapes, "upconv1.weight", 0, 4 * width)
    scale = 4 if num_ups == 2 else 3 if enlarged == 9 * width else 2
    size = f"width={width} asks for it"
    ends = f"{size}, with 3 channels at both ends"
    inside = f"num_blocks={num_blocks} and width={width} ask for it, by the last block's name"
    layers = [_Layer("conv_first", "head", ends)]
    for block in range(num_blocks):
        for theirs, ours in (("conv1", "first"), ("conv2", "second")):
            layers.append(_Layer(f"{body}.{block}.{theirs}", f"body.{block}.{ours}", inside))
    for up in range(num_ups):
        enlarging = f"scale={scale} and width={width} ask for it"
        layers.append(_Layer(f"upconv{up + 1}", f"up.{up}", enlarging))
    layers += [_Layer(fine, "last", size), _Layer("conv_last", "tail", ends)]
    generator = {"architecture": "msrresnet", "width": width, "num_blocks": num_blocks}
    return _Found(scale, generator, tuple(layers))


class SRVGGGenerators(_Generators):
    """Reads ``SRVGGNetCompact`` of Real-ESRGAN: one list of convolutions and activations.

    The scale follows from the channels of the last convolution. PReLUs leave weights in the file;
    ReLU and leaky ReLU leave none, and cannot be told from each other.
    """

    def _find(self, shapes: Shapes, chosen: Mapping[str, Any]) -> _Found | None:
        places = _numbers(shapes, r"body\.(\d+)\.(?:weight|bias)")
        convolutions = [at for at in places if len(shapes.get(f"body.{at}.weight", ())) == 4]
        if len(convolutions) < 3 or any(at % 2 for at in convolutions):
            return None
        last = max(places) + max(places) % 2
        num_blocks = last // 2 - 1
        width = _width(shapes, "body.0", f"body.{last}")
        channels = _size(shapes, f"body.{last}.weight", 0, 3 * _SCALE**2)
        scale = min(SCALES, key=lambda each: abs(3 * each**2 - channels))
        has_prelus = any(at % 2 for at in places)
        generator: Mapping[str, Any] = chosen.get("generator", {})
        activation = "prelu" if has_prelus else generator.get("activation", "relu")
        is_open = not has_prelus and "activation" not in generator
        return _Found(
            scale=scale,
            generator={
                "architecture": "compact",
                "width": width,
                "num_blocks": num_blocks,
                "body": "plain",
                "activation": activation,
            },
            layers=tuple(_compact_layers(num_blocks, width, scale, has_prelus)),
            undecided={"generator.activation": "relu or leaky_relu"} if is_open else {},
        )


def _compact_layers(num_blocks: int, width: int, scale: int, prelus: bool) -> Iterator[_Layer]:
    inside = f"num_blocks={num_blocks} and width={width} ask for it, by the last layer's name"
    activation = f"activation=prelu and width={width} ask for it, as others of that kind are there"
    last = 2 * num_blocks + 2
    ends = "with 3 channels at both ends"
    yield _Layer("body.0", "head", f"width={width} asks for it, {ends}")
    for place in range(1, last):
        if place % 2 == 0:
            yield _Layer(f"body.{place}", f"body.{place - 1}", inside)
        elif prelus:
            yield _Layer(f"body.{place}", f"body.{place - 1}", activation, _PRELU)
    yield _Layer(f"body.{last}", "tail", f"scale={scale} and width={width} ask for it, {ends}")


class SRGANGenerators(_Generators):
    """Reads the generator of leftthomas/SRGAN: SRResNet whose result passes through tanh.

    Until 2019 a PReLU stood behind the last convolution before the sum, and since then a
    normalisation. Its program has five blocks: other numbers shift the names.
    """

    def _find(self, shapes: Shapes, chosen: Mapping[str, Any]) -> _Found | None:
        blocks = _numbers(shapes, r"block(\d+)\.(?:conv[12]|bn[12]|prelu)\.(?:weight|bias)")
        if max(blocks, default=0) < 2 or not _numbers(shapes, r"block(\d+)\.prelu\.weight"):
            return None
        num_blocks = max(blocks) - 1
        final = f"block{num_blocks + 3}"
        num_ups = max(_numbers(shapes, rf"{final}\.(\d+)\.(?:conv|prelu)\.\w+"), default=-1) + 1
        scale = min(2**num_ups, max(SCALES))
        width = _width(shapes, "block1.0", f"{final}.{num_ups}")
        behind = f"block{num_blocks + 2}.1"
        has_prelu = [kind for kind in _NORM if f"{behind}.{kind}" in shapes] == ["weight"]
        return _Found(
            scale=scale,
            generator={
                "architecture": "srresnet",
                "width": width,
                "num_blocks": num_blocks,
                "norm": "batch",
                "closing": "prelu" if has_prelu else "norm",
                "bounded": True,
            },
            layers=tuple(_srresnet_layers(num_blocks, num_ups, width, scale, has_prelu)),
        )


def _srresnet_layers(
    num_blocks: int, num_ups: int, width: int, scale: int, prelu: bool
) -> Iterator[_Layer]:
    ends = f"width={width} asks for it, with 3 channels at both ends"
    inside = f"num_blocks={num_blocks} and width={width} ask for it, by the last block's name"
    enlarging = f"scale={scale} and width={width} ask for it"
    closing = f"closing={'prelu' if prelu else 'norm'} and width={width} ask for it"
    yield _Layer("block1.0", "head.0", ends)
    yield _Layer("block1.1", "head.1", "every activation is a PReLU of one weight", _PRELU)
    for block in range(num_blocks):
        for place, (name, kinds) in enumerate(_RESIDUAL.items()):
            yield _Layer(f"block{block + 2}.{name}", f"body.{block}.inside.{place}", inside, kinds)
    yield _Layer(f"block{num_blocks + 2}.0", "last.0", f"width={width} asks for it")
    yield _Layer(f"block{num_blocks + 2}.1", "last.1", closing, _PRELU if prelu else _NORM)
    final = f"block{num_blocks + 3}"
    for up in range(num_ups):
        yield _Layer(f"{final}.{up}.conv", f"up.{up}.0", enlarging)
        yield _Layer(f"{final}.{up}.prelu", f"up.{up}.2", enlarging, _PRELU)
    yield _Layer(f"{final}.{num_ups}", "tail", ends)


_RESIDUAL = {
    "conv1": _CONVOLUTION,
    "bn1": _NORM,
    "prelu": _PRELU,
    "conv2": _CONVOLUTION,
    "bn2": _NORM,
}


def _numbers(shapes: Shapes, pattern: str) -> set[int]:
    """Return the numbers in the names that fit the pattern."""
    wanted = re.compile(pattern)
    return {int(match[1]) for name in shapes if (match := wanted.fullmatch(name))}


def _width(shapes: Shapes, head: str, tail: str) -> int:
    """Return the channels between a generator's ends; one of the two may be missing."""
    return _size(shapes, f"{head}.weight", 0, _size(shapes, f"{tail}.weight", 1, _WIDTH))


def _size(shapes: Shapes, name: str, axis: int, otherwise: int) -> int:
    """Return a number of channels that a convolution's weights have; they may be missing."""
    shape = shapes.get(name, ())
    return max(1, shape[axis]) if len(shape) == 4 else otherwise
