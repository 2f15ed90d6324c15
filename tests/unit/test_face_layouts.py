import hashlib
import os
import pickle
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from i2i.data import HostAugment, make_loader
from i2i.data.check import check_folders
from i2i.errors import DataError, I2IError, RecipeError
from i2i.types import Inputs
from i2i_face_aging.age_names import Face, describe, folder_age
from i2i_face_aging.aged_faces import AgedFaces
from i2i_face_aging.layouts import AgeFolders, AgeTable, UTKFace

INPUTS = Inputs(("face",), paired=False, labels=("age",))

AGES = {"0-18": [3], "19-29": [20, 21], "30-39": [30, 31, 32], "50-59": [50] * 5, "60+": [60] * 7}
"""18 faces of five groups, none from 40 to 49."""


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(path, "JPEG")
    return path


def touched(root: Path, names: Iterable[str]) -> Path:
    """Make files without content: layouts go by names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    ages = [age for group in AGES.values() for age in group]
    return touched(tmp_path, (f"{age}_0_1_2017{place:02}.jpg" for place, age in enumerate(ages)))


def layout(
    kind: type[AgedFaces], root: Path, split: str = "train", /, **options: object
) -> AgedFaces:
    return kind(root, kind.Options(**options), INPUTS, split)


def drawn(of: AgedFaces, seed: int = 0, epoch: int = 0) -> list[tuple[str, float]]:
    samples = [of.sample(seed, epoch, index) for index in range(len(of))]
    return [(each.images["face"].path.name, each.labels["age"]) for each in samples]


def names(kind: type[AgedFaces], root: Path, split: str, /, **options: object) -> list[str]:
    parts = kind.list_pictures(root, kind.Options(**options), INPUTS, "face", split)
    return [part.path.relative_to(root).as_posix() for part in parts]


def left_out(kind: type[AgedFaces], root: Path, **options: object) -> dict[str, str]:
    return dict(kind.left_out(root, kind.Options(**options), INPUTS))


def group(age: float) -> str:
    """Name the group of an age, by the names of the groups and not by the plugin's code."""
    for name in ("0-18", "19-29", "30-39", "40-49", "50-59"):
        if age <= int(name.split("-")[1]):
            return name
    return "60+"


@pytest.mark.parametrize(
    ("name", "face"),
    [
        ("100_1_2_20170112213615815.jpg.chip.jpg", Face(100, 1, 2)),
        ("1_0_0_20161219140623097.jpg", Face(1, 0, 0)),
        ("116_1_3_20170120134744096.JPG.CHIP.JPG", Face(116, 1, 3)),
        # as they are among the files that the authors share
        ("61_1_20170109142408075.jpg.chip.jpg", Face(61, 1, None)),
        ("39_1_20170116174525125.jpg.chip.jpg", Face(39, 1, None)),
        ("53__0_20170116184028385.jpg.chip.jpg", Face(53, None, 0)),
        ("24_0_1_20170116220224657 .jpg.chip.jpg", Face(24, 0, 1)),
        ("55_0_0_20170116232725357jpg.chip.jpg", Face(55, 0, 0)),
        ("44_1_4_20170116235150272.pg.chip.jpg", Face(44, 1, 4)),
        # codes that are none
        ("26_3_7_20170104.jpg", Face(26, None, None)),
        ("26_1_12_20170104.jpg", Face(26, 1, None)),
        ("0_20170104.jpg", Face(0, None, None)),
        ("26_1", Face(26, None, None)),
        ("007_1_2_20170104.jpg", Face(7, 1, 2)),
        ("120_1_2_x.jpg", Face(120, 1, 2)),
        # names that begin with no age
        ("121_1_2_20170104.jpg", Face()),
        ("-5_1_2_20170104.jpg", Face()),
        ("23.5_1_2_20170104.jpg", Face()),
        (" 23_1_2_20170104.jpg", Face()),
        ("23-1-2-20170104.jpg", Face()),
        ("23.jpg", Face()),
        ("23", Face()),
        ("_1_2_20170104.jpg", Face()),
        ("٢٣_1_2_20170104.jpg", Face()),
        ("²_1_2_20170104.jpg", Face()),
        ("", Face()),
    ],
)
def test_a_name_says_age_gender_and_race_as_far_as_it_has_them(name: str, face: Face) -> None:
    assert describe(name) == face


@pytest.mark.parametrize(
    ("name", "age"),
    [
        *(("23", 23), ("001", 1), ("0", 0), ("120", 120), ("age_30", 30), ("Age 30", 30)),
        *(("AGE-7", 7), ("aged 40", 40), ("23 years", 23), ("23y", 23), ("30 years old", 30)),
        *(("0-18", 9), ("20-29", 24.5), ("20-29 years", 24.5), ("20_29", 24.5), ("5 to 6", 5.5)),
        *(("20–29", 24.5), ("age_60-69", 64.5), (" 20-29 ", 24.5), ("70-120", 95)),  # noqa: RUF001
        *(("60+", 70), ("60 plus", 70), ("60 and over", 70), ("age_60+", 70), ("115+", 117.5)),
        *(("people", None), ("", None), ("121", None), ("29-20", None), ("70-121", None)),
        *(("23 horses", None), ("2017", None), ("1-2-3", None), ("-5", None), ("3.5", None)),
        *(("part1", None), ("٢٣", None), ("man 23", None)),
    ],
)
def test_a_folder_is_an_age_or_the_middle_of_a_range(name: str, age: float | None) -> None:
    assert folder_age(name) == age


def test_the_shared_faces_are_split_as_their_names_say() -> None:
    folder = Path(os.environ.get("I2I_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))
    root = folder / "utkface"
    if not root.is_dir():
        pytest.skip("utkface is not here: set I2I_SHARED_DATA")
    found = UTKFace.find(root, UTKFace.Options())
    train, test = ([path.name for path, _ in found.splits()[split]] for split in ("train", "test"))
    assert len(test) == 600
    assert sorted(train + test) == sorted(path.name for path in root.iterdir()), "each once"
    # The first, the 600th and the 601st by the program sha256sum.
    first, last = "47_0_0_20170117160009711.jpg.chip.jpg", "26_1_2_20170116184151568.jpg.chip.jpg"
    assert {first, last} <= {*test}
    assert "26_0_4_20170103235338373.jpg.chip.jpg" in train
    largest = max(hashlib.sha256(name.encode()).hexdigest() for name in test)
    assert largest < min(hashlib.sha256(name.encode()).hexdigest() for name in train)
    ages = [age for faces in found.splits().values() for _, age in faces]
    assert Counter(map(group, ages)) == dict.fromkeys((*AGES, "40-49"), 2000)
    assert found.left_out == {}


def test_the_split_does_not_depend_on_where_pictures_lie(tmp_path: Path) -> None:
    files = [f"{age}_0_0_2017.jpg" for age in range(1, 100)]
    touched(tmp_path / "flat", files)
    touched(tmp_path / "deep", (f"part{len(name) % 3}/more/{name}" for name in files))
    flat = names(UTKFace, tmp_path / "flat", "test", num_test=20)
    deep = names(UTKFace, tmp_path / "deep", "test", num_test=20)
    assert len(flat) == 20
    assert sorted(flat) == sorted(Path(name).name for name in deep)


def test_copies_of_one_name_are_never_in_both_splits(tmp_path: Path) -> None:
    touched(tmp_path, (f"{side}/{age}_0_0_1.jpg" for side in "ab" for age in range(20)))
    test = names(UTKFace, tmp_path, "test", num_test=5)
    train = names(UTKFace, tmp_path, "train", num_test=5)
    assert (len(test), len(train)) == (10, 30)
    assert not {name[2:] for name in test} & {name[2:] for name in train}


def test_a_small_folder_is_told_how_many_it_can_keep(faces: Path) -> None:
    with pytest.raises(DataError, match=r"has 18 faces .* keep 600 .*num_test to at most 9"):
        layout(UTKFace, faces)
    assert len(layout(UTKFace, faces, num_test=9)) == 9
    with pytest.raises(DataError, match="has 18 faces"):
        layout(UTKFace, faces, "test", num_test=10)


def test_without_tests_every_face_is_for_training(faces: Path) -> None:
    assert len(layout(UTKFace, faces, num_test=0)) == 18
    with pytest.raises(DataError, match="no test picture of a known age"):
        layout(UTKFace, faces, "test", num_test=0)


def test_what_is_no_face_of_known_age_is_left_out_and_named(
    faces: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = ["me.jpg", "deep/130_0_0_1.jpg", "26_1_3_2017.jpgejpg", "README.txt"]
    touched(faces, [*odd, ".hidden/1_0_0_1.txt", ".DS_Store", "61_1_20170109.jpg.chip.jpg"])
    reasons = left_out(UTKFace, faces, num_test=2)
    assert sorted(reasons) == sorted(odd)
    for name in odd[:2]:
        assert reasons[name] == "its name does not begin with an age from 0 to 120 and '_'"
    for name in odd[2:]:
        assert reasons[name] == "its name does not end like a picture's that i2i reads"
    listed = names(UTKFace, faces, "train", num_test=2) + names(UTKFace, faces, "test", num_test=2)
    assert len(listed) == 19, "the odd ones are not among them"
    layout(UTKFace, faces, num_test=2)
    assert "4 left out of" in caplog.text
    assert "'i2i data check' lists them" in caplog.text


def test_a_folder_of_other_pictures_is_refused(tmp_path: Path) -> None:
    touched(tmp_path, ["a.jpg", "b.jpg"])
    with pytest.raises(DataError, match=r"no train picture of a known age, 2 left out"):
        layout(UTKFace, tmp_path)
    with pytest.raises(DataError, match=r"no folder 'nothing'"):
        layout(UTKFace, tmp_path / "nothing")


def test_groups_come_equally_often(faces: Path) -> None:
    of = layout(UTKFace, faces, num_test=0)
    ages = [age for epoch in range(10) for _, age in drawn(of, epoch=epoch)]
    turns = [Counter(map(group, ages[start : start + 5])) for start in range(0, len(ages), 5)]
    assert all(turn == dict.fromkeys(AGES, 1) for turn in turns), "18 samples an epoch, 5 groups"


def test_each_group_runs_through_its_own_pictures(faces: Path) -> None:
    of = layout(UTKFace, faces, num_test=0)
    seen: dict[str, list[str]] = {}
    for epoch in range(35):  # 126 of each group
        for name, age in drawn(of, 1, epoch):
            seen.setdefault(group(age), []).append(name)
    for key, ages in AGES.items():
        size, shown = len(ages), seen[key]
        assert len(shown) == 126
        passes = [shown[start : start + size] for start in range(0, 126 // size * size, size)]
        assert all(len({*each}) == size for each in passes), "a pass has every picture once"
        assert size == 1 or len({*map(tuple, passes)}) > 1, "shuffled anew"


def test_neighbours_are_not_always_of_the_same_groups(faces: Path) -> None:
    # A step that does something every fifth time must not meet one group alone.
    of = layout(UTKFace, faces, num_test=0)
    firsts = {group(of.sample(0, *divmod(place, 18)).labels["age"]) for place in range(0, 200, 5)}
    assert firsts == {*AGES}


def test_unbalanced_an_epoch_is_every_face_once(faces: Path) -> None:
    of = layout(UTKFace, faces, num_test=0, balance=False)
    epochs = [drawn(of, epoch=epoch) for epoch in range(3)]
    assert all(sorted(each) == sorted(epochs[0]) for each in epochs)
    assert len({name for name, _ in epochs[0]}) == 18
    assert epochs[0] != epochs[1]
    assert drawn(of, 1) != drawn(of, 0)


@pytest.mark.parametrize("balance", [True, False])
def test_a_sample_does_not_depend_on_what_was_asked_before(faces: Path, balance: bool) -> None:
    places = [(seed, epoch, index) for seed in (1, 2) for epoch in range(4) for index in range(18)]
    of = layout(UTKFace, faces, num_test=0, balance=balance)
    forward = {place: of.sample(*place) for place in places}
    backward = {place: of.sample(*place) for place in reversed(places)}
    fresh = pickle.loads(pickle.dumps(layout(UTKFace, faces, num_test=0, balance=balance)))
    assert forward == backward == {place: fresh.sample(*place) for place in places}


def test_the_order_is_the_same_in_every_version(faces: Path) -> None:
    # A run that is resumed after an upgrade must go on with the same pictures.
    order = [name[-6:-4] for name, _ in drawn(layout(UTKFace, faces, num_test=3), 0, 1)]
    assert " ".join(order) == "10 05 02 00 16 02 05 09 13 00 12 04 01 07 00"


def test_a_batch_brings_the_ages_of_its_faces(tmp_path: Path) -> None:
    for age in (5, 25, 70):
        picture(tmp_path / f"{age}_0_0_1.jpg")
    of = layout(UTKFace, tmp_path, num_test=0)
    (batch,) = make_loader(of, HostAugment(()), seed=0, batch_size=3, start_step=0, num_steps=1)
    assert batch.images["face"].shape == (3, 3, 3, 4)
    assert sorted(batch.labels["age"].tolist()) == [5.0, 25.0, 70.0]
    assert batch.labels["age"].is_floating_point()


@pytest.mark.parametrize(
    "inputs",
    [
        Inputs(("a",), paired=False, labels=("age",)),
        Inputs(("face", "mask"), paired=False, labels=("age",)),
        Inputs(("face",), paired=True, labels=("age",)),
        Inputs(("face",), paired=False, labels=("age", "smile")),
    ],
)
@pytest.mark.parametrize("kind", [UTKFace, AgeFolders, AgeTable])
def test_families_for_anything_else_are_refused(
    tmp_path: Path, kind: type[AgedFaces], inputs: Inputs
) -> None:
    with pytest.raises(RecipeError, match=r"data\.layout: the family trains on .*face and age"):
        kind(tmp_path, kind.Options(), inputs, "train")


def test_folders_of_ages_are_read(tmp_path: Path) -> None:
    touched(tmp_path, ["23/a.jpg", "0-18/deep/er/b.jpg", "60+/c.jpg", "age_30/d.png"])
    found = dict(drawn(layout(AgeFolders, tmp_path, num_test=0, balance=False)))
    assert found == {"a.jpg": 23, "b.jpg": 9, "c.jpg": 70, "d.png": 30}


def test_folders_of_ages_are_split_by_path(tmp_path: Path) -> None:
    files = [f"{age}/{name}.jpg" for age in (10, 20, 30, 40) for name in "abc"]
    touched(tmp_path, files)
    test = names(AgeFolders, tmp_path, "test", num_test=5)
    train = names(AgeFolders, tmp_path, "train", num_test=5)
    by_digest = sorted(files, key=lambda name: hashlib.sha256(name.encode()).digest())
    assert (sorted(test), sorted(train)) == (sorted(by_digest[:5]), sorted(by_digest[5:]))
    with pytest.raises(DataError, match=r"has 12 faces of known age.* keep 600"):
        layout(AgeFolders, tmp_path)


def test_train_and_test_folders_split_the_ages(tmp_path: Path) -> None:
    touched(tmp_path, ["train/23/a.jpg", "train/40-49/b.jpg", "test/60+/c.jpg", "val/9/d.jpg"])
    assert sorted(drawn(layout(AgeFolders, tmp_path))) == [("a.jpg", 23), ("b.jpg", 44.5)]
    assert drawn(layout(AgeFolders, tmp_path, "test")) == [("c.jpg", 70)]
    assert left_out(AgeFolders, tmp_path) == {"val/9/d.jpg": "it is not in train or test"}
    with pytest.raises(RecipeError, match="num_test has no effect, as the folder has train and"):
        layout(AgeFolders, tmp_path, num_test=1)


def test_a_train_folder_alone_has_no_tests(tmp_path: Path) -> None:
    touched(tmp_path, ["train/23/a.jpg", "train/40/b.jpg"])
    of = layout(AgeFolders, tmp_path)
    with pytest.raises(DataError, match="no test picture"):
        layout(AgeFolders, tmp_path, "test")
    assert len(of.preview_pictures("face", 5)) == 2, "previews are of the train pictures then"


def test_odd_folders_are_named_once(tmp_path: Path) -> None:
    touched(tmp_path, ["23/a.jpg", "23/notes.txt", "loose.jpg"])
    touched(tmp_path, ["dogs/1.jpg", "dogs/20/2.jpg", "130/3.jpg"])
    reason = "the folder's name is no age from 0 to 120; it has"
    assert left_out(AgeFolders, tmp_path, num_test=0) == {
        "23/notes.txt": "its name does not end like a picture's that i2i reads",
        "loose.jpg": "it is in no folder that is named by an age",
        "dogs": f"{reason} 2 pictures",
        "130": f"{reason} 1 picture",
    }
    assert names(AgeFolders, tmp_path, "train", num_test=0) == ["23/a.jpg"]
    touched(tmp_path, ["train/23/a.jpg", "train/cats/1.jpg", "train/loose.jpg"])
    odd = left_out(AgeFolders, tmp_path)
    assert odd["train/cats"] == f"{reason} 1 picture"
    assert odd["train/loose.jpg"] == "it is in no folder that is named by an age"


def table(root: Path, text: str, name: str = "ages.csv") -> Path:
    touched(root, (f"{letter}.jpg" for letter in "abcd"))
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")
    return root


def test_a_table_names_pictures_and_their_ages(tmp_path: Path) -> None:
    table(tmp_path, "who,age,path\n1,23,a.jpg\n2, 44.5 ,b.jpg\n\n3,0,./c.jpg\n")
    found = dict(drawn(layout(AgeTable, tmp_path, num_test=0)))
    assert found == {"a.jpg": 23, "b.jpg": 44.5, "c.jpg": 0}


@pytest.mark.parametrize("mark", [";", "\t"])
def test_spreadsheets_in_other_tongues_are_read(tmp_path: Path, mark: str) -> None:
    rows = [["file", "years", "set"], ["a.jpg", "23", "Train"], ["b.jpg", "44", "TEST"]]
    table(tmp_path, "\ufeff" + "\r\n".join(map(mark.join, rows)))
    options = {"path": "file", "age": "years", "split": "set"}
    assert drawn(layout(AgeTable, tmp_path, **options)) == [("a.jpg", 23)]
    assert drawn(layout(AgeTable, tmp_path, "test", **options)) == [("b.jpg", 44)]


def test_paths_are_relative_to_the_table_or_the_folder(tmp_path: Path) -> None:
    touched(tmp_path, ["faces/near.jpg", "faces/a.jpg", "far/b.jpg"])
    absolute = tmp_path / "c.jpg"
    table(
        tmp_path,
        f'path,age\nnear.jpg,1\na.jpg,2\nfar\\b.jpg,3\n"{absolute}",4\n../d.jpg,5\n',
        "faces/t.csv",
    )
    assert names(AgeTable, tmp_path, "train", num_test=0, table="faces/t.csv") == [
        *("faces/near.jpg", "faces/a.jpg", "far/b.jpg", "c.jpg", "d.jpg")
    ]


def test_broken_rows_are_left_out_by_their_line(tmp_path: Path) -> None:
    touched(tmp_path, ["outside.jpg", "data/notes.txt"])
    rows = [
        *("a.jpg,23,train", "missing.jpg,30,train", "b.jpg,old,train", "b.jpg,,test"),
        *("b.jpg,121,train", "b.jpg,-1,train", "b.jpg,nan,train", ",30,train", "b.jpg"),
        *("b.jpg,30,val", "a.jpg,99,test", '"c\n.jpg",30,train', "../outside.jpg,30,train"),
        *("notes.txt,30,train", f"{'x' * 3000}.jpg,30,train", "d.jpg,40,test"),
    ]
    root = table(tmp_path / "data", "path,age,split\n" + "\n".join(rows))
    reasons = left_out(AgeTable, root)
    long = reasons.pop("ages.csv line 17")
    assert long.endswith("x.jpg is not there")
    assert reasons == {
        "ages.csv line 3": "missing.jpg is not there",
        "ages.csv line 4": "the age 'old' is no number from 0 up",
        "ages.csv line 5": "it has no age",
        "ages.csv line 6": "the age 121 is above 120",
        "ages.csv line 7": "the age '-1' is no number from 0 up",
        "ages.csv line 8": "the age 'nan' is no number from 0 up",
        "ages.csv line 9": "it names no picture",
        "ages.csv line 10": "it has no age",
        "ages.csv line 11": "the split 'val' is neither train nor test",
        "ages.csv line 12": "a.jpg is in line 2 already",
        "ages.csv line 14": "c\n.jpg is not there",
        "ages.csv line 15": "../outside.jpg is outside the data folder",
        "ages.csv line 16": "notes.txt has no extension of a picture that i2i reads",
    }
    assert names(AgeTable, root, "train") == ["a.jpg"]
    assert names(AgeTable, root, "test") == ["d.jpg"]


def test_a_row_that_is_left_out_does_not_take_the_place_of_a_good_one(tmp_path: Path) -> None:
    root = table(tmp_path, "path,age\na.jpg,old\na.jpg,30\n")
    assert drawn(layout(AgeTable, root, num_test=0)) == [("a.jpg", 30)]


def test_a_table_without_a_split_is_split_by_path(tmp_path: Path) -> None:
    table(tmp_path, "path,age\n" + "".join(f"{letter}.jpg,20\n" for letter in "abcd"))
    test = names(AgeTable, tmp_path, "test", num_test=1)
    digests = {f"{x}.jpg": hashlib.sha256(f"{x}.jpg".encode()).digest() for x in "abcd"}
    assert test == [min(digests, key=digests.__getitem__)]
    assert sorted(test + names(AgeTable, tmp_path, "train", num_test=1)) == sorted(digests)
    with pytest.raises(DataError, match=r"has 4 faces of known age.* keep 600"):
        layout(AgeTable, tmp_path)


def test_missing_columns_are_named_with_their_neighbours(tmp_path: Path) -> None:
    table(tmp_path, "Path,years,age,age\na.jpg,23,23,23\n")
    with pytest.raises(DataError, match=r"line 1: no column is named 'path'.*mean 'Path'\?"):
        layout(AgeTable, tmp_path, num_test=0)
    with pytest.raises(DataError, match=r"'yeras'.*did you mean 'years'\?"):
        layout(AgeTable, tmp_path, path="Path", age="yeras", num_test=0)
    with pytest.raises(DataError, match=r"two columns are named 'age'"):
        layout(AgeTable, tmp_path, path="Path", num_test=0)
    with pytest.raises(DataError, match=r"no column is named 'part'"):
        layout(AgeTable, tmp_path, path="Path", age="years", split="part")


def test_the_table_must_be_there_and_be_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no table is named, and there is none"):
        layout(AgeTable, tmp_path)
    table(tmp_path, "path,age\na.jpg,20\n")
    with pytest.raises(DataError, match=r"no table 'aegs.csv'.*did you mean 'ages.csv'\?"):
        layout(AgeTable, tmp_path, table="aegs.csv")
    table(tmp_path, "path,age\nb.jpg,20\n", "more.csv")
    with pytest.raises(DataError, match=r"there are ages\.csv, more\.csv"):
        layout(AgeTable, tmp_path)
    assert names(AgeTable, tmp_path, "train", table="more.csv", num_test=0) == ["b.jpg"]
    (tmp_path / "more.csv").write_bytes(b"path,age\n\xff\xfe.jpg,20\n")
    with pytest.raises(DataError, match=r"more.csv: it cannot be read .*as UTF-8"):
        layout(AgeTable, tmp_path, table="more.csv")
    (tmp_path / "more.csv").write_bytes(b"")
    with pytest.raises(DataError, match=r"no column is named 'path'.*which are none"):
        layout(AgeTable, tmp_path, table="more.csv")
    with pytest.raises(DataError, match="no folder 'nowhere'"):
        layout(AgeTable, tmp_path / "nowhere")


def test_options_that_would_have_no_effect_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="num_test has no effect beside split"):
        AgeTable.Options(split="set", num_test=5)
    with pytest.raises(ValidationError, match="must be different columns"):
        AgeTable.Options(path="age")
    table(tmp_path, "path,age,split\na.jpg,20,train\n")
    with pytest.raises(RecipeError, match=r"num_test has no effect, as .*ages.csv has a column"):
        layout(AgeTable, tmp_path, num_test=0)


def test_every_option_is_described() -> None:
    for kind in (UTKFace, AgeFolders, AgeTable):
        assert all(each.description for each in kind.Options.model_fields.values())


def test_the_check_looks_at_faces_until_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age in (5, 25, 70):
        picture(tmp_path / f"{age}_0_0_1.jpg")
    asked = []

    def misplaced(cls: type, options: object, role: str, pixels: object) -> str | None:
        asked.append((role, pixels.shape, str(pixels.dtype)))
        return "no face is found" if len(asked) == 2 else None

    options = UTKFace.Options(num_test=1)
    monkeypatch.setattr(AgedFaces, "remark", classmethod(misplaced))
    report = check_folders(UTKFace, tmp_path, options, INPUTS)
    assert asked == [("face", (3, 4, 3), "uint8")] * 3
    assert [look.remark for folder in report.folders for look in folder.remarked] == [
        "no face is found"
    ]
    assert report.unseen is None
    assert report.is_fit, "a remark keeps nobody from training"
    assert {split: sum(counts.values()) for split, counts in report.groups.items()} == {
        "train": 2,
        "test": 1,
    }

    def absent(cls: type, options: object, role: str, pixels: object) -> str | None:
        asked.append("again")
        raise I2IError("no detector", where="x", expected="one", remedy="pip install")

    monkeypatch.setattr(AgedFaces, "remark", classmethod(absent))
    report = check_folders(UTKFace, tmp_path, options, INPUTS)
    assert asked.count("again") == 1
    assert report.unseen is not None
    assert report.is_fit
