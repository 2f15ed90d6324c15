"""The layout for super-resolution: pictures, and the low resolution that is made from them."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from i2i.data.cache import check_room
from i2i.data.folders import find_pictures, list_folder
from i2i.data.layouts import Layout, Orders, Pairing, Part, PreparedPart, Sample, Split
from i2i.data.pairing import by_name, check_pairs, pair_names, refusal
from i2i.errors import DataError, ImageError, RecipeError
from i2i.imaging import Pixels, has_picture_suffix, picture_size, shrink
from i2i.types import Inputs, derive_seed

_DRAWS = 2**63  # derive_seed is below
_MARK = re.compile(r"x\d$")  # of a scale, behind the name of a picture

Size = tuple[int, int]
"""Width and height in pixels."""


class HighResolutionOptions(BaseModel):
    """Where the pictures lie, and how low resolution comes about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: int = Field(
        4, ge=2, le=8, description="How many times smaller low resolution is, as the model's scale."
    )
    crop: int = Field(
        128, gt=0, description="The side of training crops, in pixels of high resolution."
    )
    reduce: int = Field(
        1,
        ge=1,
        description="How many times smaller high resolution is than the files for training: "
        "2 or more hides what a camera's compression left.",
    )
    train: str = Field("train", description="The folder of high resolution for training.")
    test: str = Field("test", description="The folder of high resolution for previews and tests.")
    train_low: str | None = Field(
        None,
        description="The folder of low-resolution partners for training; made from high "
        "resolution unless told.",
    )
    test_low: str | None = Field(None, description="The same for previews and tests.")
    cache: bool = Field(
        True,
        description="Whether decoded training pictures are kept in the user's cache, "
        "3 bytes a pixel.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.crop % self.scale:
            raise ValueError(f"crop {self.crop} is no multiple of scale {self.scale}")
        if self.reduce > 1 and self.train_low is not None:
            raise ValueError("reduce would make high resolution no partner of train_low")
        return self


@dataclass(frozen=True)
class Window:
    """Where a training crop is: ``side`` in its own pixels, place as draws from 0 to 2**63 - 1.

    ``step`` is the distance of the places a crop may have: the pixels of low resolution.
    """

    top: int
    left: int
    side: int
    step: int


@dataclass(frozen=True)
class ShrunkPart(PreparedPart):
    """A picture cut to a multiple of ``multiple`` and shrunk by each factor, or a crop of it."""

    multiple: int = 1
    factors: tuple[int, ...] = ()
    window: Window | None = None

    @property
    def preparation(self) -> str:
        """The steps in their order."""
        return f"multiple of {self.multiple}, shrunk by {self.factors}"

    def prepare(self, pixels: Pixels) -> Pixels:
        """Return the whole picture; raises DataError where nothing is left of it."""
        height, width = (side // self.multiple * self.multiple for side in pixels.shape[:2])
        if not height or not width:
            raise _few(self.path, pixels, self.multiple)
        pixels = pixels[:height, :width]
        for factor in self.factors:
            pixels = shrink(pixels, factor)
        return pixels

    def take(self, prepared: Pixels) -> Pixels:
        """Return the crop, or all where there is no window; raises DataError if it is too small."""
        window = self.window
        if window is None:
            return prepared
        height, width = prepared.shape[:2]
        if min(height, width) < window.side:
            raise _few(self.path, prepared, window.side)
        top = _place(window.top, height, window)
        left = _place(window.left, width, window)
        return prepared[top : top + window.side, left : left + window.side]


class HighResolution(Layout):
    """A folder of high resolution, and low resolution made from it or taken from partners.

    The roles are "low" and "high". High resolution is cut to a multiple of the scale, as the
    benchmarks do; for training it is shrunk by ``reduce`` before. An epoch is every picture once,
    in an order shuffled anew, with one crop of each. A folder without ``train`` and ``test`` that
    has ``HR`` (and ``LR`` of this scale) is read as the benchmarks' folders are, and one with
    neither that holds pictures is itself the folder of high resolution.
    """

    Options = HighResolutionOptions
    roles = ("low", "high")
    cuts = True

    def __init__(self, root: Path, options: Any, inputs: Inputs, split: Split) -> None:
        super().__init__(root, options, inputs, split)
        pairing = self.match(root, options, inputs, split)
        if pairing.refused or not pairing.pairs:
            raise refusal(root, pairing, split, f"give them equal names, or x{options.scale} after")
        self._pairs = cast("tuple[Mapping[str, ShrunkPart], ...]", pairing.pairs)
        self._orders = Orders()
        _check_sizes(self._pairs, options, split)
        if split == "train" and options.cache:
            check_room(_kept_bytes(self._pairs))

    @property
    def pairs(self) -> tuple[Mapping[str, ShrunkPart], ...]:
        """Both roles' whole pictures, ordered by the path of high resolution."""
        return self._pairs

    @classmethod
    def defaults(cls, scale: int) -> Mapping[str, Any]:
        """Return the scale, and the nearest crop that it divides."""
        crop: int = HighResolutionOptions.model_fields["crop"].default
        return {"scale": scale, "crop": crop // scale * scale}

    @classmethod
    def check(cls, options: Any, inputs: Inputs) -> None:
        """Refuse families that do not train on low and high resolution."""
        check_pairs(inputs, "high_resolution")
        if sorted(inputs.images) != sorted(cls.roles):
            raise RecipeError(
                f"the family trains on {', '.join(inputs.images)}, and layout 'high_resolution' "
                "brings low and high",
                where="data.layout",
                expected="'side_by_side' for pairs in one file, 'paired' for a folder for each "
                "role",
                remedy="choose one of the two",
            )

    @classmethod
    def list_pictures(
        cls, root: Path, options: Any, inputs: Inputs, role: str, split: Split
    ) -> tuple[Part, ...]:
        """Return all whole pictures of a role, at any depth, ordered by their path."""
        high, low = _folders(root, options, split)
        if role == "low" and low is not None:
            found = list_folder(root, low, f"the {split} pictures of low resolution")
            return tuple(ShrunkPart(part.path) for part in found)
        found = list_folder(root, high, f"the {split} pictures of high resolution")
        reduce = options.reduce if split == "train" else 1
        factors = (reduce,) if reduce > 1 else ()
        if role == "low":
            factors = (*factors, options.scale)
        multiple = options.scale * reduce
        return tuple(ShrunkPart(part.path, multiple=multiple, factors=factors) for part in found)

    @classmethod
    def match(cls, root: Path, options: Any, inputs: Inputs, split: Split) -> Pairing:
        """Return each picture with its low resolution, and those without a partner."""
        high, low = _folders(root, options, split)
        found = {
            role: cls.list_pictures(root, options, inputs, role, split) for role in inputs.images
        }
        if low is None:
            pairs = zip(*found.values(), strict=True)
            return Pairing(tuple(dict(zip(found, pair, strict=True)) for pair in pairs))
        named = {"high": by_name(high, found["high"])}
        named["low"] = _unmarked(by_name(low, found["low"]), named["high"], options.scale)
        return pair_names(named, skip=False)

    @classmethod
    def misfit(cls, options: Any, split: Split, sizes: Mapping[str, Size]) -> str | None:
        """Return why pictures of these sizes make no pair, or are too small for the crop."""
        high, low = sizes["high"], sizes["low"]
        fitting = _over(high, options.scale)
        if low != fitting:
            return (
                f"low resolution has {_pixels(low)} pixels and not {_pixels(fitting)}, which is "
                f"high resolution's {_pixels(high)} over {options.scale}"
            )
        if split == "train" and min(low) * options.scale < options.crop:
            reduced = f" over {options.reduce}" if options.reduce > 1 else ""
            return f"its {_pixels(high)} pixels{reduced} are fewer than the crop's {options.crop}"
        return None

    def __len__(self) -> int:
        return len(self._pairs)

    def sample(self, seed: int, epoch: int, index: int) -> Sample:
        """Return a crop of the picture that the epoch's order has at this place."""
        pair = self._pairs[self._orders.order(len(self), seed, "pairs", epoch)[index]]
        top, left = (derive_seed(seed, epoch, index, "crop", side) for side in ("top", "left"))
        scale, crop = self.options.scale, self.options.crop
        windows = {
            "low": Window(top, left, crop // scale, 1),
            "high": Window(top, left, crop, scale),
        }
        return Sample(
            {
                role: replace(part, window=windows[role], keep=self.options.cache)
                for role, part in pair.items()
            }
        )


def _place(draw: int, length: int, window: Window) -> int:
    """Return where a crop begins: uniform over the places of the low resolution's grid."""
    count = (length - window.side) // window.step + 1
    return draw * count // _DRAWS * window.step


def _folders(root: Path, options: Any, split: Split) -> tuple[Path, Path | None]:
    """Return the folders of high resolution, and of low where its pictures are files."""
    name = options.train if split == "train" else options.test
    partners = options.train_low if split == "train" else options.test_low
    low = None if partners is None else root / partners
    plain = name == split and low is None
    if (root / name).is_dir() or not plain:
        return root / name, low
    if (root / "HR").is_dir():
        return root / "HR", _benchmark_low(root, options, split)
    has_others = any((root / other).is_dir() for other in (options.train, options.test))
    # Pictures in it, not only below: a folder of data sets is no data set.
    if root.is_dir() and not has_others and any(map(_is_picture, root.iterdir())):
        return root, None
    return root / name, None


def _is_picture(path: Path) -> bool:
    return has_picture_suffix(path) and not path.name.startswith(".") and path.is_file()


def _benchmark_low(root: Path, options: Any, split: Split) -> Path | None:
    """Return the folder of a benchmark's low resolution, where there is one of this scale."""
    low, high = (root / name for name in ("LR", "HR"))
    if not low.is_dir() or not _is_of_scale(low, high, options.scale):
        return None
    if split == "train" and options.reduce > 1:
        raise RecipeError(
            f"high resolution in {high} has partners in LR, which reduce does not reach",
            where="data.options.reduce",
            expected="1 beside partners",
            remedy="set it to 1",
        )
    return low


def _is_of_scale(low: Path, high: Path, scale: int) -> bool:
    """Whether the size of any picture and its partner says so; what none says is found later."""
    large = by_name(high, map(Part, find_pictures(high)))
    read = False
    for name, parts in by_name(low, map(Part, find_pictures(low))).items():
        partners = large.get(name) or large.get(_MARK.sub("", name), [])
        for small, partner in zip(parts, partners, strict=False):
            try:
                sizes = picture_size(small.path), picture_size(partner.path)
            except ImageError:
                continue
            if sizes[0] == _over(sizes[1], scale):
                return True
            read = True
    return not read


def _unmarked(
    low: Mapping[str, list[Part]], high: Mapping[str, list[Part]], scale: int
) -> dict[str, list[Part]]:
    """Return the low pictures by the names of their partners, which may lack the scale."""
    named: dict[str, list[Part]] = {}
    for name, parts in low.items():
        shorter = name.removesuffix(f"x{scale}")
        key = shorter if name not in high and shorter in high else name
        named.setdefault(key, []).extend(parts)
    return named


def _check_sizes(
    pairs: tuple[Mapping[str, ShrunkPart], ...], options: HighResolutionOptions, split: Split
) -> None:
    """Raise DataError for a pair that cannot be used, by what the files' headers say."""
    for pair in pairs:
        try:
            sizes = {role: _size(part) for role, part in pair.items()}
        except ImageError:
            continue  # said better when it is decoded
        wrong = HighResolution.misfit(options, split, sizes)
        if wrong is None:
            continue
        paths = {role: str(part.path) for role, part in pair.items()}
        if sizes["low"] == _over(sizes["high"], options.scale):
            raise _too_small(wrong, paths["high"], options.crop)
        raise DataError(
            wrong,
            where=f"{paths['low']} and {paths['high']}",
            expected="the size of high resolution over data.options.scale, rounded down",
            remedy="run 'i2i data check' to list every such pair, then correct the scale or the "
            f"files, or name in data.options.{split} a folder without partners",
        )


def _kept_bytes(pairs: tuple[Mapping[str, ShrunkPart], ...]) -> Iterator[tuple[ShrunkPart, int]]:
    """Yield every part with the bytes that its pixels take, by what the files' headers say."""
    for pair in pairs:
        for part in pair.values():
            try:
                width, height = _size(part)
            except ImageError:
                continue  # said better when it is decoded
            yield part, 3 * width * height


def _size(part: ShrunkPart) -> Size:
    """Return the width and height that a whole part will have."""
    height, width = picture_size(part.path)
    cut = (width // part.multiple * part.multiple, height // part.multiple * part.multiple)
    return _over(cut, math.prod(part.factors))


def _over(size: Size, factor: int) -> Size:
    return size[0] // factor, size[1] // factor


def _few(path: Path, pixels: Pixels, side: int) -> DataError:
    size = _pixels((pixels.shape[1], pixels.shape[0]))
    return _too_small(f"its {size} pixels, as training takes them, are too few", str(path), side)


def _too_small(wrong: str, where: str, side: int) -> DataError:
    return DataError(
        wrong,
        where=where,
        expected=f"{side} pixels or more a side",
        remedy="leave it out, or choose a smaller data.options.crop; 'i2i data check' lists every "
        "such picture",
    )


def _pixels(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
