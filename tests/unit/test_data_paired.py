import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from i2i.data import (
    HostAugment,
    Layout,
    Paired,
    Part,
    SideBySide,
    Unpaired,
    example_shapes,
    loading,
    make_loader,
)
from i2i.engine.preview import preview_sources
from i2i.errors import DataError, RecipeError
from i2i.plugins import load_plugins
from i2i.recipe import Recipe
from i2i.recipe.schema import HostTransform
from i2i.types import Batch, Fit, Inputs

INPUTS = Inputs(("a", "b"), paired=True)
RESIZE = HostTransform(transform="Resize", height=12, width=12)
CROP = HostTransform(transform="RandomCrop", height=8, width=8)
FLIP = HostTransform(transform="HorizontalFlip", p=0.5)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def joined(root: Path, count: int = 6, split: str = "train") -> Path:
    """Write files whose right half is the negative of the left."""
    for number in range(count):
        left = noise(10, 12, seed=number)
        write(root / split / f"{number}.png", np.concatenate([left, 255 - left], axis=1))
    return root


def apart(root: Path, count: int = 6, split: str = "train") -> Path:
    """Write the same pictures in a folder for each role, in two formats."""
    for number in range(count):
        pixels = noise(10, 12, seed=number)
        write(root / f"{split}A/{number}.png", pixels)
        write(root / f"{split}B/{number}.tiff", 255 - pixels)
    return root


def side_by_side(root: Path, inputs: Inputs = INPUTS, **options: object) -> SideBySide:
    return SideBySide(root, SideBySide.Options(**options), inputs, "train")


def paired(root: Path, **options: object) -> Paired:
    return Paired(root, Paired.Options(**options), INPUTS, "train")


def batches(layout: Layout, *transforms: HostTransform, workers: int = 0) -> list[Batch]:
    return list(
        make_loader(
            layout,
            HostAugment(transforms),
            seed=3,
            batch_size=2,
            start_step=0,
            num_steps=6,
            num_workers=workers,
        )
    )


def both(tmp_path: Path) -> list[Layout]:
    return [side_by_side(joined(tmp_path / "joined")), paired(apart(tmp_path / "apart"))]


def shown(layout: Layout, seed: int, epoch: int) -> list[str]:
    return [layout.sample(seed, epoch, index).images["a"].path.stem for index in range(len(layout))]


def test_each_role_is_its_column_from_left_to_right(tmp_path: Path) -> None:
    pixels = noise(4, 9)
    write(tmp_path / "train/1.png", pixels)
    three = Inputs(("photo", "depth", "edges"), paired=True)
    parts = side_by_side(tmp_path, three).sample(0, 0, 0).images
    for number, role in enumerate(three.images):
        expected = pixels[:, 3 * number : 3 * number + 3]
        assert np.array_equal(parts[role].cut(loading.read_rgb(parts[role].path)), expected)


def test_the_order_says_which_role_is_on_the_left(tmp_path: Path) -> None:
    layout = side_by_side(joined(tmp_path), order=("b", "a"))
    parts = layout.sample(0, 0, 0).images
    pixels = loading.read_rgb(parts["a"].path)
    assert np.array_equal(parts["b"].cut(pixels), pixels[:, :12])
    assert np.array_equal(parts["a"].cut(pixels), pixels[:, 12:])


def test_a_batch_brings_each_pair_together(tmp_path: Path) -> None:
    for layout in both(tmp_path):
        for batch in batches(layout):
            assert batch.images["a"].shape == (2, 3, 10, 12)
            assert batch.images["a"].std() > 0.3
            # 255 - x is -x in [-1, 1].
            assert torch.allclose(batch.images["b"], -batch.images["a"], atol=1e-6)


def test_pairs_are_cropped_and_turned_alike(tmp_path: Path) -> None:
    for layout in both(tmp_path):
        crops = set()
        for batch in batches(layout, CROP, FLIP):
            assert batch.images["a"].shape == (2, 3, 8, 8)
            assert torch.allclose(batch.images["b"], -batch.images["a"], atol=1e-6)
            crops |= {image.numpy().tobytes() for image in batch.images["a"]}
        assert len(crops) > 8, "hardly anything is random"


def test_both_layouts_give_the_same_batches(tmp_path: Path) -> None:
    one, other = (batches(layout, CROP) for layout in both(tmp_path))
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first.images["a"], second.images["a"])
        assert torch.equal(first.images["b"], second.images["b"])


def test_workers_change_nothing(tmp_path: Path) -> None:
    layout = side_by_side(joined(tmp_path))
    for one, two in zip(batches(layout, CROP), batches(layout, CROP, workers=1), strict=True):
        assert torch.equal(one.keys, two.keys)
        assert all(torch.equal(one.images[role], two.images[role]) for role in ("a", "b"))


def test_a_file_that_holds_both_roles_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts = both(tmp_path)
    read: list[Path] = []
    original = loading.read_rgb
    monkeypatch.setattr(loading, "read_rgb", lambda path: read.append(path) or original(path))
    batches(layouts[0])
    assert len(read) == 12
    batches(layouts[1])
    assert len(read) == 12 + 2 * 12


def test_an_epoch_shows_every_pair_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    for layout in both(tmp_path):
        assert len(layout) == 6
        orders = [shown(layout, seed, epoch) for seed in (1, 2) for epoch in range(5)]
        assert all(sorted(order) == list("012345") for order in orders)
        assert len(set(map(tuple, orders))) > 8


def test_a_sample_does_not_depend_on_what_was_asked_before(tmp_path: Path) -> None:
    places = [(seed, epoch, index) for seed in (1, 2) for epoch in range(4) for index in range(6)]
    for layout, fresh in zip(both(tmp_path), both(tmp_path), strict=True):
        forward = {place: layout.sample(*place) for place in places}
        assert {place: fresh.sample(*place) for place in reversed(places)} == forward


def test_the_order_is_the_same_in_every_version(tmp_path: Path) -> None:
    # A run that is resumed after an upgrade must go on with the same pairs.
    for layout in both(tmp_path):
        assert "".join(shown(layout, 0, 0) + shown(layout, 0, 1)) == "431052254301"


def test_pairs_are_found_at_any_depth_by_the_path_without_the_extension(tmp_path: Path) -> None:
    for name in ("1.png", "deep/1.png", "deep/2.first.png", "deep/2.last.webp"):
        write(tmp_path / "trainA" / name, noise(4, 4))
    for name in ("deep/2.last.tiff", "1.jpg", "deep/1.png", "deep/2.first.jpg"):
        write(tmp_path / "trainB" / name, noise(4, 4))
    layout = paired(tmp_path)
    pairs = {
        tuple(part.path.relative_to(tmp_path).as_posix() for part in sample.images.values())
        for sample in (layout.sample(0, 0, index) for index in range(len(layout)))
    }
    assert pairs == {
        ("trainA/1.png", "trainB/1.jpg"),
        ("trainA/deep/1.png", "trainB/deep/1.png"),
        ("trainA/deep/2.first.png", "trainB/deep/2.first.jpg"),
        ("trainA/deep/2.last.webp", "trainB/deep/2.last.tiff"),
    }


def test_accents_match_however_they_are_written_and_cases_do_not(tmp_path: Path) -> None:
    name = "caf\u00e9.png"
    write(tmp_path / "trainA" / unicodedata.normalize("NFC", name), noise(4, 4))
    write(tmp_path / "trainB" / unicodedata.normalize("NFD", name), noise(4, 4))
    assert len(paired(tmp_path)) == 1
    write(tmp_path / "trainA/Road.png", noise(4, 4))
    write(tmp_path / "trainB/road.png", noise(4, 4))
    with pytest.raises(DataError, match=r"2 train pictures have no partner"):
        paired(tmp_path)


def test_pictures_without_a_partner_are_counted_and_named(tmp_path: Path) -> None:
    apart(tmp_path)
    for number in range(3, 6):
        (tmp_path / f"trainB/{number}.tiff").unlink()
    for number in range(6, 10):
        write(tmp_path / f"trainB/{number}.png", noise(4, 4))
    with pytest.raises(
        DataError,
        match=r"7 train pictures have no partner \(of role 'a' 3\.png, 4\.png, 5\.png; "
        r"of role 'b' 6\.png, 7\.png, 8\.png, 1 more\).*"
        r"'i2i data check' to list them all.*unmatched = \"skip\"",
    ):
        paired(tmp_path)
    assert sorted(shown(paired(tmp_path, unmatched="skip"), 0, 0)) == list("012")


def test_folders_that_have_no_name_in_common_are_refused_even_where_skipping(
    tmp_path: Path,
) -> None:
    write(tmp_path / "trainA/1_a.png", noise(4, 4))
    write(tmp_path / "trainB/1_b.png", noise(4, 4))
    with pytest.raises(DataError, match=r"2 train pictures have no partner.*equal names"):
        paired(tmp_path, unmatched="skip")


def test_two_pictures_of_one_name_in_a_folder_are_named(tmp_path: Path) -> None:
    write(apart(tmp_path) / "trainB/4.png", noise(4, 4))
    for unmatched in ("refuse", "skip"):
        with pytest.raises(DataError, match=r"trainB: two pictures .*4\.png and 4\.tiff"):
            paired(tmp_path, unmatched=unmatched)


def test_pairs_of_different_sizes_are_named_with_them(tmp_path: Path) -> None:
    write(tmp_path / "trainA/1.png", noise(20, 24))
    write(tmp_path / "trainB/1.png", noise(10, 12))
    with pytest.raises(
        DataError,
        match=r"trainA.1\.png and .*trainB.1\.png: the pictures of a pair differ in size "
        r"\(a 24x20, b 12x10\).*Resize",
    ):
        batches(paired(tmp_path), CROP)
    sometimes = HostTransform(transform="Resize", height=12, width=12, p=0.9)
    with pytest.raises(DataError, match="differ in size"):
        batches(paired(tmp_path), sometimes, CROP)


def test_a_resize_at_the_start_makes_pairs_of_different_sizes_agree(tmp_path: Path) -> None:
    small = noise(12, 12)
    write(tmp_path / "trainA/1.png", small)
    write(tmp_path / "trainB/1.png", small.repeat(2, axis=0).repeat(2, axis=1))
    nearest = HostTransform(transform="Resize", height=12, width=12, interpolation=0)
    for batch in batches(paired(tmp_path), nearest, CROP, FLIP):
        assert torch.equal(batch.images["a"], batch.images["b"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_width_that_does_not_divide_names_the_file(tmp_path: Path, workers: int) -> None:
    write(tmp_path / "train/odd.png", noise(4, 7))
    with pytest.raises(DataError, match=r"odd\.png: its width of 7 pixels does not divide by 2"):
        batches(side_by_side(tmp_path), workers=workers)


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "train/torn.jpg", noise(32, 64))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"train.torn\.jpg: cannot be decoded .*i2i data check"):
        batches(side_by_side(tmp_path))


def test_folders_can_be_named_in_the_options(tmp_path: Path) -> None:
    joined(tmp_path, split="val")
    assert len(side_by_side(tmp_path, train="val")) == 6
    with pytest.raises(DataError, match=r"no folder 'vaal'; .*did you mean 'val'"):
        side_by_side(tmp_path, train="vaal")
    apart(tmp_path)
    (tmp_path / "trainB").rename(tmp_path / "labels")
    assert len(paired(tmp_path, train={"b": "labels"})) == 6
    with pytest.raises(RecipeError, match=r"data\.options\.train: there is no role 'c'"):
        paired(tmp_path, train={"c": "labels"})


@pytest.mark.parametrize(
    ("order", "wrong"),
    [
        (("b", "c"), r"data\.options\.order: there is no role 'c'"),
        (("b",), r"data\.options\.order: b is not each role once"),
        (("a", "b", "a"), r"data\.options\.order: a, b, a is not each role once"),
    ],
)
def test_an_order_names_each_role_once(tmp_path: Path, order: tuple[str, ...], wrong: str) -> None:
    with pytest.raises(RecipeError, match=wrong):
        side_by_side(joined(tmp_path), order=order)


@pytest.mark.parametrize("kind", [SideBySide, Paired])
def test_a_family_for_single_pictures_is_sent_to_the_unpaired_layout(
    kind: type[Layout], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=r"do not belong together, and layout .*'unpaired'"):
        kind(tmp_path, kind.Options(), Inputs(("a", "b"), paired=False), "train")


@pytest.mark.parametrize("kind", [SideBySide, Paired])
def test_a_family_that_needs_labels_is_refused(kind: type[Layout], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"trains on labels \(age\)"):
        kind(tmp_path, kind.Options(), Inputs(("a", "b"), paired=True, labels=("age",)), "train")


def test_the_layouts_are_offered() -> None:
    plugins = load_plugins()
    found = [plugins.layout(name) for name in ("paired", "side_by_side", "unpaired")]
    assert found == [Paired, SideBySide, Unpaired]


def previews(layout: Layout, role: str | None = None) -> list[np.ndarray]:
    recipe = Recipe.model_validate(
        {"family": "any", "summary": "", "validate": {"pictures": 2, "role": role}}
    )
    sources = preview_sources(layout, recipe, Fit())
    return [((each.permute(1, 2, 0).numpy() + 1) * 127.5).round() for each in sources]


def test_previews_show_the_roles_half_of_the_test_files(tmp_path: Path) -> None:
    layout = side_by_side(joined(joined(tmp_path), 2, "test"))
    for number in range(2):
        pixels = np.asarray(Image.open(tmp_path / f"test/{number}.png"))
        assert np.array_equal(previews(layout)[number], pixels[:, :12])
        assert np.array_equal(previews(layout, "b")[number], pixels[:, 12:])


def test_previews_show_what_has_no_partner_too(tmp_path: Path) -> None:
    apart(tmp_path)
    write(tmp_path / "testA/alone.png", noise(5, 5, seed=9))
    (shown,) = previews(paired(tmp_path))
    assert np.array_equal(shown, noise(5, 5, seed=9))


class Stacked(Part):
    """A part of a plugin's own: the upper or the lower half."""

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        height = len(pixels) // 2
        return pixels[self.column * height :][:height]


class OneAboveTheOther(SideBySide):
    """A layout as a plugin would bring it."""

    @classmethod
    def list_pictures(
        cls, root: Path, options: object, inputs: Inputs, role: str, split: str
    ) -> tuple[Part, ...]:
        parts = super().list_pictures(root, options, inputs, role, split)
        return tuple(Stacked(part.path, part.column) for part in parts)


def test_a_plugins_layout_brings_parts_of_its_own(tmp_path: Path) -> None:
    pixels = noise(8, 5)
    write(tmp_path / "train/1.png", pixels)
    layout = OneAboveTheOther(tmp_path, SideBySide.Options(), INPUTS, "train")
    (shown,) = previews(layout, "b")
    assert np.array_equal(shown, pixels[4:])
    assert example_shapes(layout, HostAugment()) == {"a": (3, 4, 5), "b": (3, 4, 5)}


def shared(name: str) -> Path:
    folder = Path(os.environ.get("I2I_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))
    if not (folder / name).is_dir():
        pytest.skip(f"{name} is not here: set I2I_SHARED_DATA")
    return folder / name


def test_facades_load_with_the_labels_as_the_source() -> None:
    layout = side_by_side(shared("facades"), order=("b", "a"))
    assert len(layout) == 400
    parts = layout.sample(0, 0, 0).images
    labels = parts["a"].cut(loading.read_rgb(parts["a"].path))
    photo = parts["b"].cut(loading.read_rgb(parts["b"].path))
    assert labels.shape == photo.shape == (256, 256, 3)
    # Labels are flat: between most neighbours there is next to nothing.
    steps = [np.abs(np.diff(each.astype(int), axis=1)).max(-1) for each in (labels, photo)]
    assert np.median(steps[0]) <= 1 < np.median(steps[1])
    train = [HostTransform(transform="Resize", height=286, width=286), CROP, FLIP]
    assert example_shapes(layout, HostAugment(train)) == {"a": (3, 8, 8), "b": (3, 8, 8)}


def test_line_art_is_on_the_left_of_openmoji() -> None:
    layout = side_by_side(shared("openmoji"))
    parts = layout.sample(0, 0, 0).images
    line = parts["a"].cut(loading.read_rgb(parts["a"].path)).astype(int)
    colour = parts["b"].cut(loading.read_rgb(parts["b"].path)).astype(int)
    assert line.shape == colour.shape == (128, 128, 3)
    assert np.ptp(line, axis=-1).max() < 60 < np.ptp(colour, axis=-1).max()
