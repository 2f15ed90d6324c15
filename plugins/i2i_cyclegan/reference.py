"""Checkpoints of the authors' generators, and of programs that lay theirs out alike."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from i2i.importer import Importer, Reading, Shapes
from i2i_cyclegan.networks import Architecture

_BLOCK = re.compile(r"model\.(\d+)\.([A-Za-z_]\w*)\.(\d+)\.(conv\.)?")
_TOP = re.compile(r"model\.(\d+)\.weight")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_PADDED, _BARE = ((1, 5), (1, 6)), ((0, 3), (0, 4))
"""Where a block's two convolutions stand, with padding layers and without: plain, with dropout."""
_BEFORE_BLOCKS = 9  # layers; the nested blocks of a U-Net stand further ahead


class ReferenceGenerators(Importer):
    """Reads ``ResnetGenerator`` of junyanz/pytorch-CycleGAN-and-pix2pix and its descendants.

    The reference is one sequence: padding, convolution, norm, ReLU, and so on; shapes are the same
    as ours. Known variants: dropout in the blocks (which shifts the second convolution), no padding
    layers (the first version of 2017, or convolutions with a ``padding_mode``), norms with weights,
    another name for the blocks' sequence (vintagify), and the separable blocks and free widths of
    mit-han-lab/gan-compression. Running statistics of instance norms are left out, as the reference
    does when it loads a file.
    """

    family = "cyclegan"

    def read(self, shapes: Shapes, chosen: Mapping[str, Any]) -> Reading | None:
        """See ``Importer``."""
        layout = _layout_of(shapes)
        if layout is None:
            return None
        stem = f"model.{layout.top[0]}"
        first = (*shapes.get(f"{stem}.weight", ()), 64)[0]
        width = chosen.get("width", _width(shapes, stem, first))
        is_count_kept = chosen.get("num_blocks", layout.num_blocks) == layout.num_blocks
        widths = _free_widths(layout, shapes, width) if is_count_kept else ()
        direction = "b2a" if chosen.get("directions") == "b2a" else "a2b"
        norms = {f"{norm}.{each}" for norm in layout.norms() for each in _STATISTICS}
        unused = frozenset(norms & shapes.keys())
        undecided = {}
        if not layout.padded and "padding" not in chosen:
            undecided["padding"] = "zero in the reference's first version, else reflect"
        return Reading(
            options={
                "width": width,
                "num_blocks": layout.num_blocks,
                "widths": list(widths),
                "separable": layout.separable,
                "norm_affine": layout.norm_affine,
                "padding": "reflect",
                "directions": direction,
            },
            names={theirs: f"{direction}.{ours}" for theirs, ours in layout.names()},
            unused=unused,
            reasons=dict(_reasons(layout, shapes)),
            undecided=undecided,
            request={"direction": direction},
            notes=_NOTES if unused else (),
        )


_NOTES = (
    "running statistics are left out, as the reference does: each picture has its own. A network "
    "of batch normalisations would come out wrong, and the file cannot tell them",
)


@dataclass(frozen=True)
class _Layout:
    """Where the layers of a generator stand in its sequence."""

    padded: bool
    num_blocks: int
    attribute: str
    places: tuple[int, int]
    separable: bool
    norm_affine: bool

    @property
    def top(self) -> tuple[int, ...]:
        """The convolutions outside the blocks: stem, two halvings, two doublings, head."""
        first = 1 if self.padded else 0
        up = first + 9 + self.num_blocks
        return first, first + 3, first + 6, up, up + 3, up + 6 + first

    def blocks(self) -> Iterator[tuple[str, int]]:
        """Yield the prefix of each block's sequence, with the block's number."""
        for number in range(self.num_blocks):
            yield f"model.{self.top[2] + 3 + number}.{self.attribute}", number

    def modules(self) -> Iterator[tuple[str, str]]:
        """Yield every module with parameters in the network's order, with its name in ours."""
        stem, first, second, third, fourth, head = self.top
        for place, ours, norm in ((stem, "stem", 0), (first, "down.0", 1), (second, "down.1", 2)):
            yield from self._pair(f"model.{place}", f"model.{place + 1}", ours, f"norms.{norm}")
        for prefix, number in self.blocks():
            for place, ours in zip(self.places, ("first", "second"), strict=True):
                theirs, block = f"{prefix}.{place}", f"blocks.{number}.{ours}"
                yield from self._pair(theirs, f"{prefix}.{place + 1}", block, f"{block}_norm")
        for place, ours, norm in ((third, "up.0", 3), (fourth, "up.1", 4)):
            yield from self._pair(f"model.{place}", f"model.{place + 1}", ours, f"norms.{norm}")
        yield f"model.{head}", "head"

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield every parameter, with its name in our generator."""
        for theirs, ours in self.modules():
            for kind in ("weight", "bias"):
                yield f"{theirs}.{kind}", f"{ours}.{kind}"

    def norms(self) -> Iterator[str]:
        """Yield every normalisation, whether it has parameters or not."""
        for place in self.top[:-1]:
            yield f"model.{place + 1}"
        for prefix, _ in self.blocks():
            for place in self.places:
                yield f"{prefix}.{place + 1}"
                yield f"{prefix}.{place}.conv.1"

    def _pair(self, theirs: str, norm: str, ours: str, our_norm: str) -> Iterator[tuple[str, str]]:
        if self.separable and ours.startswith("blocks."):
            yield f"{theirs}.conv.0", f"{ours}.depthwise"
            yield f"{theirs}.conv.2", f"{ours}.pointwise"
        else:
            yield theirs, ours
        if self.norm_affine:
            yield norm, our_norm


def _layout_of(shapes: Shapes) -> _Layout | None:
    """Return the layout that the names suggest; None where they are another network's."""
    convolutions = {name for name, shape in shapes.items() if len(shape) == 4}
    top = {int(found[1]) for name in convolutions if (found := _TOP.fullmatch(name))}
    inner = [found for name in convolutions if (found := _BLOCK.match(name))]
    inner = [found for found in inner if int(found[1]) >= _BEFORE_BLOCKS]
    if not top or not inner:
        return None
    padded = bool(top & {1, 4, 7})
    first = 10 if padded else 9
    places = Counter(int(found[3]) for found in inner)
    return _Layout(
        padded=padded,
        num_blocks=max(1, max(int(found[1]) for found in inner) - first + 1),
        attribute=Counter(found[2] for found in inner).most_common(1)[0][0],
        places=max(_PADDED if padded else _BARE, key=lambda pair: sum(places[at] for at in pair)),
        separable=any(found[4] for found in inner),
        norm_affine=any(
            name.endswith(".weight") and len(shape) == 1 for name, shape in shapes.items()
        ),
    )


def _free_widths(layout: _Layout, shapes: Shapes, width: int) -> tuple[int, ...]:
    """Return the widths that do not follow from ``width``; none where all do."""
    published = Architecture.published(width, layout.num_blocks).widths
    point = ".conv.2" if layout.separable else ""
    modules = [
        *(f"model.{place}" for place in layout.top[1:3]),
        *(f"{prefix}.{layout.places[0]}{point}" for prefix, _ in layout.blocks()),
        *(f"model.{place}" for place in layout.top[3:5]),
    ]
    pairs = zip(modules, published, strict=True)
    found = tuple(_width(shapes, module, otherwise) for module, otherwise in pairs)
    return () if found == published else found


def _width(shapes: Shapes, module: str, otherwise: int) -> int:
    """Return the channels that a convolution makes, as its bias has them; it may be missing."""
    shape = shapes.get(f"{module}.bias", ())
    return shape[0] if len(shape) == 1 else otherwise


def _reasons(layout: _Layout, shapes: Shapes) -> Iterator[tuple[str, str]]:
    """Yield what explains each parameter, for the case that it is missing or has another shape."""
    has_statistics = any(name.endswith("running_var") for name in shapes)
    norms = set(layout.norms())
    for theirs, ours in layout.names():
        module, _, kind = theirs.rpartition(".")
        if module in norms:
            yield theirs, "norm_affine=true asks for it, as other normalisations have weights"
        elif kind == "bias" and has_statistics and f"{module}.weight" in shapes:
            yield theirs, "batch normalisation, which goes without, is not in this family"
        elif ours.startswith("blocks."):
            yield theirs, f"num_blocks={layout.num_blocks} asks for it, by the last block's name"
        else:
            yield theirs, "width and widths ask for it"
