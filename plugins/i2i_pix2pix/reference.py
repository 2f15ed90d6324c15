"""Checkpoints of the authors' U-Nets, and of programs that lay theirs out alike."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from i2i.importer import Importer, Reading, Shapes
from i2i.nn import BatchNorm

_NESTED = re.compile(r"model\.model\.1\.model\.((?:3\.model\.)*)\d+\.(?:weight|bias)")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_WIDTH, _WIDEST, _DROPOUT = 64, 8, 0.5
"""The published width, how many times that is the widest, and the rate."""


class ReferenceUNets(Importer):
    """Reads ``UnetGenerator`` of junyanz/pytorch-CycleGAN-and-pix2pix and its descendants.

    The reference nests its blocks, each in the middle of the one around it: halve, norm, the block
    within, double, norm. Shapes are the same as ours. Its skips carry what the next leaky ReLU
    made of a layer, in place; the ReLU that follows makes the same of both. Dropout leaves no trace
    in a file: it is set as that program has it, on the layers between the innermost one and the
    four outermost. Running statistics of instance norms are left out, as it does when it loads.
    """

    family = "pix2pix"

    def read(self, shapes: Shapes, chosen: Mapping[str, Any]) -> Reading | None:
        """See ``Importer``."""
        layout = _layout_of(shapes)
        if layout is None:
            return None
        halvings = chosen.get("num_halvings", layout.num_halvings)
        dropping = tuple(range(1, halvings - 4))
        names = {theirs: f"generator.{ours}" for theirs, ours in layout.names()}
        statistics = {f"{norm}.{each}" for norm in layout.norms() for each in _STATISTICS}
        unused = frozenset(statistics & shapes.keys() - names.keys())
        notes = [_INSTANCE_NOTE] if unused and layout.norm == "instance" else []
        if dropping and not {"dropout", "dropout_layers"} & chosen.keys():
            notes.append(_DROPOUT_NOTE)
        dropout: dict[str, Any] = {"dropout": _DROPOUT, "dropout_layers": dropping}
        if not dropping or chosen.get("dropout") == 0:
            dropout = {"dropout": 0.0}
        return Reading(
            options={
                "width": layout.width,
                "widest": layout.widest,
                "num_halvings": layout.num_halvings,
                "norm": layout.norm,
                **dropout,
                "downsampling": "stride",
                "upsampling": "transposed",
                "self_attention": False,
            },
            names=names,
            unused=unused,
            reasons=dict(_reasons(layout)),
            notes=tuple(notes),
        )


_INSTANCE_NOTE = "running statistics are left out, as the reference does: each picture has its own"
_DROPOUT_NOTE = (
    "the file cannot tell whether its program drops out: dropout is on, as published and as that "
    "program has it by default; --set dropout=0 for a network trained with --no_dropout"
)


@dataclass(frozen=True)
class _Layout:
    """What a U-Net's names and shapes suggest."""

    num_halvings: int
    width: int
    widest: int
    norm: str

    def block(self, depth: int) -> str:
        """Return the prefix of the layers of a block; 0 is the outermost."""
        return "model.model." + ("1.model." + "3.model." * (depth - 1) if depth else "")

    def down(self, depth: int) -> tuple[str, str | None]:
        """Return a block's halving convolution and the norm behind it, where it has one."""
        if depth == 0:
            return f"{self.block(0)}0", None
        innermost = depth == self.num_halvings - 1
        return f"{self.block(depth)}1", None if innermost else f"{self.block(depth)}2"

    def up(self, depth: int) -> tuple[str, str | None]:
        """Return a block's doubling convolution and the norm behind it, where it has one."""
        if depth == 0:
            return f"{self.block(0)}3", None
        place = 3 if depth == self.num_halvings - 1 else 5
        return f"{self.block(depth)}{place}", f"{self.block(depth)}{place + 1}"

    def modules(self) -> Iterator[tuple[str, str]]:
        """Yield every module with parameters in the network's order, with its name in ours."""
        last = self.num_halvings - 1
        for depth in range(self.num_halvings):
            convolution, norm = self.down(depth)
            yield convolution, f"down.{depth}"
            if norm is not None:
                yield norm, f"down_norms.{depth - 1}"
        for depth in range(last, -1, -1):
            convolution, norm = self.up(depth)
            yield convolution, f"up.{last - depth}"
            if norm is not None:
                yield norm, f"up_norms.{last - depth}"

    def norms(self) -> Iterator[str]:
        """Yield every normalisation, whether it has parameters or not."""
        return (theirs for theirs, ours in self.modules() if "_norms." in ours)

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield every tensor, with its name in our generator."""
        head = f"up.{self.num_halvings - 1}"
        for theirs, ours in self.modules():
            kinds: tuple[str, ...] = ("weight", "bias")
            if "_norms." in ours:
                kinds = tuple(BatchNorm(1).state_dict()) if self.norm == "batch" else ()
            elif self.norm == "batch" and ours != head:
                kinds = ("weight",)
            for kind in kinds:
                yield f"{theirs}.{kind}", f"{ours}.{kind}"


def _layout_of(shapes: Shapes) -> _Layout | None:
    """Return the layout that the names suggest; None where they are another network's."""
    found = [(name, match) for name in shapes if (match := _NESTED.fullmatch(name))]
    depths = [match[1].count("3") for name, match in found if len(shapes[name]) == 4]
    if not depths:
        return None
    halvings = max(depths) + 2
    convolutions = {name for name, _ in found if len(shapes[name]) == 4}
    num_biased = sum(f"{name.removesuffix('weight')}bias" in shapes for name in convolutions)
    first, last = (
        _Layout(halvings, _WIDTH, _WIDEST, "batch").block(at) for at in (1, halvings - 1)
    )
    within = _size(shapes, f"{first}1.weight", 1, _WIDTH)
    width = _size(shapes, "model.model.0.weight", 0, within)
    within = _size(shapes, f"{last}3.weight", 0, width * min(2 ** (halvings - 1), _WIDEST))
    deepest = _size(shapes, f"{last}1.weight", 0, within)
    is_published = deepest == width * min(2 ** (halvings - 1), _WIDEST)
    return _Layout(
        num_halvings=halvings,
        width=width,
        widest=_WIDEST if is_published else max(1, deepest // width),
        norm="instance" if 2 * num_biased > len(convolutions) else "batch",
    )


def _size(shapes: Shapes, name: str, axis: int, otherwise: int) -> int:
    """Return a number of channels that a convolution's weights have; they may be missing."""
    shape = shapes.get(name, ())
    return max(1, shape[axis]) if len(shape) == 4 else otherwise


def _reasons(layout: _Layout) -> Iterator[tuple[str, str]]:
    """Yield what explains each tensor, for the case that it is missing or has another shape."""
    size = f"width={layout.width} and widest={layout.widest}"
    ends = (layout.down(0)[0], layout.up(0)[0])
    for theirs, ours in layout.names():
        module, _, kind = theirs.rpartition(".")
        if "_norms." in ours:
            yield theirs, "norm=batch asks for it, as the convolutions have no biases"
        elif module in ends:
            yield theirs, f"width={layout.width} asks for it, with 3 channels at both ends"
        elif kind == "bias":
            yield theirs, "norm=instance asks for it, as other convolutions have biases"
        else:
            asks = f"num_halvings={layout.num_halvings}, {size} ask for it"
            yield theirs, f"{asks}, by the deepest block's name"
