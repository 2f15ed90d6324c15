from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from i2i.data import Unpaired, find_pictures
from i2i.errors import DataError, RecipeError
from i2i.types import Inputs

INPUTS = Inputs(("a", "b"), paired=False)


def picture(path: Path, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (4, 3)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(5):
        picture(tmp_path / f"trainA/{number}.png")
    for number in range(3):
        picture(tmp_path / f"trainB/{number}.png")
    return tmp_path


def unpaired(root: Path, **options: object) -> Unpaired:
    return Unpaired(root, Unpaired.Options(**options), INPUTS, "train")


def names(layout: Unpaired, role: str, seed: int, epoch: int) -> list[str]:
    return [
        layout.sample(seed, epoch, index).images[role].path.stem for index in range(len(layout))
    ]


def test_an_epoch_shows_each_picture_of_the_larger_domain_once(root: Path) -> None:
    layout = unpaired(root)
    assert len(layout) == 5
    for epoch in range(4):
        assert sorted(names(layout, "a", 1, epoch)) == list("01234")


def test_the_smaller_domain_is_used_evenly_over_epochs(root: Path) -> None:
    layout = unpaired(root)
    used = [name for epoch in range(3) for name in names(layout, "b", 1, epoch)]
    assert Counter(used) == {"0": 5, "1": 5, "2": 5}
    passes = [used[start : start + 3] for start in range(0, 15, 3)]
    assert all(sorted(each) == list("012") for each in passes)
    assert len({tuple(each) for each in passes}) > 1, "the smaller domain is never reshuffled"


def test_the_order_changes_with_epoch_and_seed(root: Path) -> None:
    layout = unpaired(root)
    orders = {tuple(names(layout, "a", seed, epoch)) for seed in (1, 2) for epoch in range(6)}
    assert len(orders) > 8


def test_a_sample_does_not_depend_on_what_was_asked_before(root: Path) -> None:
    places = [(seed, epoch, index) for seed in (1, 2) for epoch in range(5) for index in range(5)]
    layout = unpaired(root)
    forward = {place: layout.sample(*place) for place in places}
    backward = {place: layout.sample(*place) for place in reversed(places)}
    fresh = {place: unpaired(root).sample(*place) for place in places}
    assert forward == backward == fresh


def test_the_order_is_the_same_in_every_version(root: Path) -> None:
    # A run that is resumed after an upgrade must go on with the same pictures.
    layout = unpaired(root)
    assert "".join(names(layout, "a", 0, 0) + names(layout, "b", 0, 1)) == "2401320212"


def test_pictures_are_found_at_any_depth_in_one_order(tmp_path: Path) -> None:
    for name in ("b/c/2.JPG", "b/1.webp", "a.png", "z.bmp", "B.tiff", "b.gif"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "film.mpg").write_bytes(b"no picture either")
    picture(tmp_path / ".hidden.png")
    picture(tmp_path / ".thumbnails/1.png")
    found = [path.relative_to(tmp_path).as_posix() for path in find_pictures(tmp_path)]
    assert found == ["B.tiff", "a.png", "b.gif", "b/1.webp", "b/c/2.JPG", "z.bmp"]


def test_linked_folders_are_followed_without_going_in_circles(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere/1.png")
    (tmp_path / "data").mkdir()
    try:
        (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "elsewhere/circle").symlink_to(tmp_path / "data", target_is_directory=True)
    except OSError:
        pytest.skip("this system lets nobody make symbolic links")
    assert [path.name for path in find_pictures(tmp_path / "data")] == ["1.png"]


def test_a_missing_folder_is_named_with_its_nearest_neighbour(root: Path) -> None:
    (root / "trainB").rename(root / "train_b")
    with pytest.raises(DataError, match=r"no folder 'trainB'.*role 'b'; did you mean 'train_b'"):
        unpaired(root)


def test_a_missing_data_folder_is_named_itself(tmp_path: Path) -> None:
    (tmp_path / "horses").mkdir()
    with pytest.raises(DataError, match=r"no folder 'horse'; .*did you mean 'horses'"):
        unpaired(tmp_path / "horse")


def test_an_empty_folder_is_refused(root: Path) -> None:
    for path in (root / "trainB").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(DataError, match=r"trainB: there is no picture in it"):
        unpaired(root)


def test_folders_can_be_named_in_the_options(root: Path) -> None:
    (root / "trainB").rename(root / "zebras")
    layout = unpaired(root, train={"b": "zebras"})
    assert layout.sample(0, 0, 0).images["b"].path.parent.name == "zebras"
    with pytest.raises(RecipeError, match=r"data\.options\.train: there is no role 'bb'"):
        unpaired(root, train={"bb": "zebras"})


def test_roles_name_their_own_folders(tmp_path: Path) -> None:
    picture(tmp_path / "trainPhoto/1.png")
    layout = Unpaired(tmp_path, Unpaired.Options(), Inputs(("photo",), paired=False), "train")
    assert layout.sample(0, 0, 0).images["photo"].path.name == "1.png"


@pytest.mark.parametrize(
    "inputs", [Inputs(("a", "b"), paired=True), Inputs(("a",), paired=False, labels=("age",))]
)
def test_a_family_that_needs_pairs_or_labels_is_refused(root: Path, inputs: Inputs) -> None:
    with pytest.raises(RecipeError, match=r"data\.layout: the family trains on"):
        Unpaired(root, Unpaired.Options(), inputs, "train")


def test_a_family_for_pairs_is_told_which_layouts_bring_them(root: Path) -> None:
    with pytest.raises(RecipeError, match=r"'side_by_side' for .*'paired' for"):
        Unpaired(root, Unpaired.Options(), Inputs(("a", "b"), paired=True), "train")


def test_previews_come_from_the_test_split_where_there_is_one(root: Path) -> None:
    for number in range(10):
        picture(root / f"testA/{number}.png")
    layout = unpaired(root)
    found = layout.preview_pictures("a", 4)
    assert [part.path.relative_to(root).as_posix() for part in found] == [
        f"testA/{number}.png" for number in (0, 2, 5, 7)
    ]
    assert {part.path.parent.name for part in layout.preview_pictures("b", 9)} == {"trainB"}
    assert len(layout.preview_pictures("b", 9)) == 3
    assert layout.preview_pictures("a", 0) == ()
