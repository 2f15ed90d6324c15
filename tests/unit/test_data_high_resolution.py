import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from i2i.data import (
    HighResolution,
    HostAugment,
    Part,
    Sample,
    example_shapes,
    loading,
)
from i2i.errors import DataError, RecipeError
from i2i.imaging import shrink
from i2i.plugins import load_plugins
from i2i.recipe.schema import HostTransform
from i2i.types import Inputs
from tests.unit.high_resolution import INPUTS, batches, layout, noise, write, write_five


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a cache of its own; workers inherit it."""
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/pixels"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_five(tmp_path / "data")


def pixels(part: Part) -> np.ndarray:
    return np.asarray(part.cut(loading.read_rgb(part.path)))


def place_in(whole: np.ndarray, crop: np.ndarray) -> tuple[int, int]:
    """Return where a crop was cut from: the one place at which it is found."""
    height, width = (a - b + 1 for a, b in zip(whole.shape[:2], crop.shape[:2], strict=True))
    found = [
        (top, left)
        for top in range(height)
        for left in range(width)
        if np.array_equal(whole[top : top + crop.shape[0], left : left + crop.shape[1]], crop)
    ]
    assert len(found) == 1, found
    return found[0]


def files(sample: Sample) -> set[str]:
    return {part.path.stem for part in sample.images.values()}


@pytest.mark.parametrize(("scale", "reduce"), [(4, 1), (2, 1), (3, 1), (2, 2)])
def test_low_resolution_is_the_shrunk_picture_at_the_place_of_the_crop(
    root: Path, scale: int, reduce: int
) -> None:
    crop = 6 * scale
    source = layout(root, scale=scale, reduce=reduce, crop=crop)
    for index in range(len(source)):
        parts = source.sample(0, 0, index).images
        whole = loading.read_rgb(parts["high"].path)
        step = scale * reduce
        high = shrink(whole[: whole.shape[0] // step * step, : 70 // step * step], reduce)
        top, left = place_in(high, pixels(parts["high"]))
        assert (top % scale, left % scale) == (0, 0)
        assert pixels(parts["high"]).shape == (crop, crop, 3)
        low = shrink(high, scale)[top // scale :, left // scale :][:6, :6]
        assert np.array_equal(pixels(parts["low"]), low)


def test_every_place_on_the_grid_is_as_likely(tmp_path: Path) -> None:
    whole = noise(24, 21)
    write(tmp_path / "train/1.png", whole)
    source = layout(tmp_path, crop=16)
    count = 360
    places = Counter(
        place_in(whole, pixels(source.sample(7, epoch, 0).images["high"])) for epoch in range(count)
    )
    assert set(places) == {(top, left) for top in (0, 4, 8) for left in (0, 4)}
    assert all(32 < number < 88 for number in places.values()), places  # 60, deviation 7


def test_an_epoch_is_every_picture_once_and_depends_on_seed_and_epoch_alone(root: Path) -> None:
    source, again = layout(root), pickle.loads(pickle.dumps(layout(root)))
    epochs = [[source.sample(3, epoch, index) for index in range(5)] for epoch in range(4)]
    for epoch in reversed(range(4)):
        assert [again.sample(3, epoch, index) for index in range(5)] == epochs[epoch]
        assert set.union(*map(files, epochs[epoch])) == set("01234")
    orders = {tuple(files(sample).pop() for sample in samples) for samples in epochs}
    assert len(orders) > 1
    assert source.sample(4, 0, 0) != source.sample(3, 0, 0)


def test_batches_have_two_sizes_and_the_same_ones_from_workers_and_without_a_cache(
    root: Path, kept: Path
) -> None:
    without = batches(layout(root, cache=False), "D4")
    assert not kept.exists()
    made = batches(layout(root), "D4", workers=1)
    assert len(list(kept.rglob("*.npy"))) == 10
    again = batches(layout(root), "D4")
    for one, two, three in zip(without, made, again, strict=True):
        assert one.images["high"].shape == (3, 3, 32, 32)
        assert one.images["low"].shape == (3, 3, 8, 8)
        for role in INPUTS.images:
            assert torch.equal(one.images[role], two.images[role])
            assert torch.equal(one.images[role], three.images[role])
    shapes = example_shapes(layout(root), HostAugment())
    assert shapes == {"low": (3, 8, 8), "high": (3, 32, 32)}


@pytest.mark.parametrize("transform", loading._TURNS)
def test_both_sizes_are_turned_alike(root: Path, transform: str) -> None:
    source = layout(root)
    turned = 0
    plain = batches(source, count=8)
    for batch, before in zip(batches(source, transform, count=8), plain, strict=True):
        for number in range(3):
            high, low = (batch.images[role][number] for role in ("high", "low"))
            turned += not torch.equal(high, before.images["high"][number])
            picture = ((high + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
            shrunk = torch.from_numpy(shrink(picture, 4)).permute(2, 0, 1)
            # Beyond the crop's edge the file had other pixels than the mirrored ones.
            seen = ((low + 1) * 127.5 - shrunk)[:, 2:-2, 2:-2].abs().max()
            assert seen < 2.5, "levels; the order of passes is another in a turned picture"
    assert 4 < turned < 24, "p = 0.5 of 24"


@pytest.mark.parametrize(
    ("transform", "arguments"),
    [
        ("Resize", {"height": 8, "width": 8}),
        ("RandomCrop", {"height": 8, "width": 8}),
        ("Affine", {}),
        ("ColorJitter", {}),
        ("GaussianBlur", {}),
    ],
)
def test_transforms_that_mean_another_thing_for_another_size_are_refused(
    root: Path, transform: str, arguments: dict[str, object]
) -> None:
    flip = HostTransform(transform="HorizontalFlip")
    augment = HostAugment([flip, HostTransform(transform=transform, **arguments)])
    wrong = rf"augment.host\[1\] \({transform}\): .* pictures of two sizes; expected one of D4, "
    with pytest.raises(RecipeError, match=wrong):
        example_shapes(layout(root), augment)


class Crooked(HighResolution):
    """Cuts low resolution a pixel too wide."""

    def sample(self, seed: int, epoch: int, index: int) -> Sample:
        images = dict(super().sample(seed, epoch, index).images)
        low = layout(self.root, crop=36).sample(seed, epoch, index).images["low"]
        return Sample(images | {"low": low})


def test_a_layout_that_cuts_no_whole_factor_is_told(root: Path) -> None:
    crooked = Crooked(root, HighResolution.Options(crop=32), INPUTS, "train")
    with pytest.raises(DataError, match=r"high crop is 32x32, beside one of 9x9; .* whole factor"):
        example_shapes(crooked, HostAugment())


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"crop": 30}, "crop 30 is no multiple of scale 4"),
        ({"scale": 1}, "greater than or equal to 2"),
        ({"scale": 9}, "less than or equal to 8"),
        ({"crop": 0}, "greater than 0"),
        ({"reduce": 2, "train_low": "low"}, "no partner of train_low"),
        ({"side": 3}, "Extra inputs"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        HighResolution.Options(**options)


def test_the_layout_is_offered_and_serves_low_and_high_alone() -> None:
    kind = load_plugins().layout("high_resolution")
    assert kind is HighResolution
    kind.check(kind.Options(), INPUTS)
    kind.check(kind.Options(), Inputs(("high", "low"), paired=True))
    for inputs, wrong in (
        (Inputs(("a", "b"), paired=True), "trains on a, b, .* brings low and high"),
        (Inputs(("low", "high"), paired=False), "do not belong together"),
        (Inputs(("low", "high"), paired=True, labels=("age",)), "trains on labels"),
    ):
        with pytest.raises(RecipeError, match=wrong):
            kind.check(kind.Options(), inputs)


def test_whole_pictures_are_cut_to_a_multiple_as_the_benchmarks_are(tmp_path: Path) -> None:
    whole = noise(61, 70)
    write(tmp_path / "test/1.png", whole)
    ((low, high),) = (
        (pair["low"], pair["high"]) for pair in layout(tmp_path, "test", crop=640).pairs
    )
    assert np.array_equal(pixels(high), whole[:60, :68])
    assert np.array_equal(pixels(low), shrink(whole[:60, :68], 4))
    assert layout(tmp_path, "test").preview_pictures("low", 3) == (low,)
    assert layout(tmp_path, "test").preview_pictures("high", 3) == (high,)


def names(root: Path, split: str, **options: object) -> list[str]:
    found = layout(root, split, crop=4, **options).pairs
    return [str(pair["high"].path.relative_to(root)) for pair in found]


def test_a_folder_of_pictures_is_its_own_train_and_test(tmp_path: Path) -> None:
    write(tmp_path / "one.png", noise(9, 9))
    write(tmp_path / "deep/two.jpg", noise(9, 9))
    inside = [str(Path("deep/two.jpg")), "one.png"]
    assert names(tmp_path, "train") == names(tmp_path, "test") == inside
    (tmp_path / "test").mkdir()  # now it says what is for what
    with pytest.raises(DataError, match="there is no folder 'train'"):
        layout(tmp_path)
    with pytest.raises(DataError, match="there is no picture in it"):
        layout(tmp_path, "test")


def test_a_folder_of_data_sets_is_no_data_set(tmp_path: Path) -> None:
    write(tmp_path / "photos/one.png", noise(9, 9))
    write(tmp_path / ".hidden.png", noise(9, 9))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"no folder 'train'; .* name the folders"):
        layout(tmp_path)
    assert names(tmp_path, "train", train="photos") == [str(Path("photos/one.png"))]


def test_a_misspelt_folder_is_never_replaced_by_another(tmp_path: Path) -> None:
    write(tmp_path / "one.png", noise(9, 9))
    write(tmp_path / "HR/one.png", noise(9, 9))
    with pytest.raises(DataError, match="there is no folder 'hr_train'"):
        layout(tmp_path, train="hr_train")
    write(tmp_path / "LR/one.png", noise(2, 2))
    with pytest.raises(DataError, match="there is no folder 'train'"):
        layout(tmp_path, train_low="LR")
    with pytest.raises(DataError, match="there is no folder"):
        layout(tmp_path / "nowhere")


def benchmark(root: Path, mark: str = "", low: str = "LR", high: str = "HR") -> Path:
    """Write pictures and partners that no shrinking makes."""
    for number in range(3):
        write(root / high / f"{number}.png", noise(41, 46, seed=number))
        write(root / low / f"{number}{mark}.png", noise(10, 11, seed=9 + number))
    return root


def test_the_benchmarks_folders_are_read_with_their_partners(tmp_path: Path) -> None:
    benchmark(tmp_path)
    for split in ("train", "test"):
        for number, pair in enumerate(layout(tmp_path, split).pairs):
            assert np.array_equal(pixels(pair["low"]), noise(10, 11, seed=9 + number))
            assert np.array_equal(pixels(pair["high"]), noise(41, 46, seed=number)[:40, :44])
    with pytest.raises(RecipeError, match=r"data.options.reduce: .* partners in LR"):
        layout(tmp_path, reduce=2)
    assert pixels(layout(tmp_path, "test", reduce=2).pairs[0]["high"]).shape == (40, 44, 3)
    alone = layout(tmp_path, "test", test="HR", scale=2).pairs[0]
    assert np.array_equal(pixels(alone["low"]), shrink(noise(41, 46)[:40], 2))


def test_a_benchmarks_partners_of_another_scale_are_made_instead(tmp_path: Path) -> None:
    benchmark(tmp_path)
    for split in ("train", "test"):
        for number, pair in enumerate(layout(tmp_path, split, scale=2).pairs):
            whole = noise(41, 46, seed=number)[:40]
            assert np.array_equal(pixels(pair["low"]), shrink(whole, 2))
    (tmp_path / "LR/0.png").write_bytes(b"no picture")
    assert pixels(layout(tmp_path, scale=2).pairs[0]["low"]).shape == (20, 23, 3)


@pytest.mark.parametrize("odd", ["missing", "of another size"])
def test_one_odd_partner_of_a_benchmark_is_refused_and_never_made_in_silence(
    tmp_path: Path, odd: str
) -> None:
    benchmark(tmp_path)
    write(tmp_path / "HR/2.png", noise(60, 52))
    write(tmp_path / "LR/2.png", noise(15, 13))
    (tmp_path / "LR/0.png").unlink()
    if odd == "of another size":
        write(tmp_path / "LR/0.png", noise(9, 9))
    with pytest.raises(DataError, match=r"0\.png"):
        layout(tmp_path, "test")


def test_the_defaults_of_every_scale_are_sound() -> None:
    for scale in range(2, 9):
        options = HighResolution.Options(**HighResolution.defaults(scale))
        assert options.scale == scale
        assert 120 < options.crop <= 128


def test_only_training_pictures_are_reduced(root: Path) -> None:
    (root / "train").rename(root / "test")
    write(root / "train/a.png", noise(64, 64))
    source = layout(root, "test", reduce=2)
    assert pixels(source.pairs[0]["high"]).shape == (60, 68, 3)
    assert pixels(layout(root, reduce=2).pairs[0]["high"]).shape == (32, 32, 3)


@pytest.mark.parametrize("mark", ["", "x4"])
def test_partners_have_the_name_or_the_name_and_the_scale(tmp_path: Path, mark: str) -> None:
    benchmark(tmp_path, mark, "small", "big")
    source = layout(tmp_path, train="big", train_low="small")
    for index in range(3):
        parts = source.sample(0, 0, index).images
        assert parts["low"].path.stem == parts["high"].path.stem + mark
        number = int(parts["high"].path.stem)
        low = place_in(noise(10, 11, seed=9 + number), pixels(parts["low"]))
        high = place_in(noise(41, 46, seed=number), pixels(parts["high"]))
        assert high == (4 * low[0], 4 * low[1])
    shown = batches(source, count=1)[0].images
    assert (shown["low"].shape[-1], shown["high"].shape[-1]) == (8, 32)


def test_pictures_without_a_partner_are_named(tmp_path: Path) -> None:
    benchmark(tmp_path, "x4")
    (tmp_path / "LR/1x4.png").rename(tmp_path / "LR/1x2.png")
    wrong = r"2 train pictures have no partner \(of role 'high' 1\.png; of role 'low' 1x2\.png\)"
    with pytest.raises(DataError, match=wrong) as seen:
        layout(tmp_path)
    assert seen.value.remedy.endswith("or give them equal names, or x4 after")


def test_two_partners_for_one_picture_are_refused(tmp_path: Path) -> None:
    benchmark(tmp_path)
    write(tmp_path / "LR/1x4.png", noise(10, 11))
    with pytest.raises(DataError, match=r"two pictures have one name, 1\.png and 1x4\.png"):
        layout(tmp_path)


def test_a_partner_of_another_size_is_named_with_its_picture(tmp_path: Path) -> None:
    benchmark(tmp_path)
    write(tmp_path / "LR/1.png", noise(11, 11))
    low, high = tmp_path / "LR/1.png", tmp_path / "HR/1.png"
    for split in ("train", "test"):
        with pytest.raises(DataError) as seen:
            layout(tmp_path, split)
        assert seen.value.where == f"{low} and {high}"
        assert "has 11x11 pixels and not 11x10" in seen.value.wrong
        assert f"data.options.{split}" in seen.value.remedy


@pytest.mark.parametrize(("reduce", "size"), [(1, "30x60"), (2, "28x60 pixels over 2")])
def test_a_picture_smaller_than_the_crop_is_named_with_its_size(
    root: Path, reduce: int, size: str
) -> None:
    path = write(root / "train/3.png", noise(60 * reduce + 1, 28 * reduce + 3))
    crop = 32 if reduce == 1 else 30
    for number in range(5):
        if number != 3:
            write(root / f"train/{number}.png", noise(64 * reduce, 64 * reduce, seed=number))
    with pytest.raises(DataError) as seen:
        layout(root, scale=2, reduce=reduce, crop=crop)
    assert seen.value.where == str(path)
    assert size in seen.value.wrong
    assert seen.value.expected == f"{crop} pixels or more a side"
    assert "smaller data.options.crop" in seen.value.remedy
    assert len(layout(root, scale=2, reduce=reduce, crop=28)) == 5


def test_a_picture_that_became_too_small_since_is_named(root: Path) -> None:
    source = layout(root)
    for number in range(5):
        write(root / f"train/{number}.png", noise(30, 70))
    with pytest.raises(DataError, match=r"\.png: its 17x7 pixels.* are too few; expected 8 "):
        batches(source, count=1)
    write(root / "test/1.png", noise(3, 70))
    with pytest.raises(DataError, match=r"1\.png: its 70x3 pixels.* are too few; expected 4 "):
        pixels(layout(root, "test").pairs[0]["high"])


def test_unreadable_pictures_are_told_when_they_are_read(root: Path) -> None:
    (root / "train/3.png").write_text("no picture")
    with pytest.raises(DataError, match=r"3\.png: is not a picture.*run 'i2i data check'"):
        batches(layout(root))


@pytest.mark.parametrize(("name", "count"), [("Set5", 5), ("Set14", 14), ("BSD100", 100)])
def test_the_benchmarks_load_as_they_are(name: str, count: int) -> None:
    folder = Path(os.environ.get("I2I_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))
    if not (folder / "sr" / name).is_dir():
        pytest.skip(f"{name} is not here: set I2I_SHARED_DATA")
    pairs = layout(folder / "sr" / name, "test").pairs
    assert len(pairs) == count
    assert {pair["low"].path.parent.name for pair in pairs} == {"LR"}
    high, low = pixels(pairs[0]["high"]), pixels(pairs[0]["low"])
    assert high.shape == (4 * low.shape[0], 4 * low.shape[1], 3)
    assert np.abs(shrink(high, 4).astype(int) - low).mean() < 1
