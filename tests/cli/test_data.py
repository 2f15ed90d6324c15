import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from i2i.cli.data import command
from i2i.data import Unpaired
from i2i.errors import DataError, I2IError, RecipeError, UsageError
from i2i.imaging import Pixels
from i2i.plugins import Plugins
from i2i.types import Inputs


def run(*words: str) -> Result:
    return CliRunner().invoke(command, list(words), catch_exceptions=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folders = (("trainA", 3), ("trainB", 2), ("testA", 1), ("testB", 1))
    for height, (folder, count) in enumerate(folders, start=30):
        (tmp_path / folder).mkdir()
        for number in range(count):
            image = Image.radial_gradient("L").resize((40 + 10 * number, height))
            Image.merge("RGB", (image, image.rotate(90), image.rotate(180))).save(
                tmp_path / folder / f"{number}.jpg"
            )
    Image.radial_gradient("L").resize((40, 30)).save(tmp_path / "trainA/grey.png")
    return tmp_path


def row(output: str, folder: str) -> list[str]:
    (line,) = [line for line in output.splitlines() if line.split()[:1] == [folder]]
    return re.split(r" {2,}", line.strip())


def test_a_good_folder_is_ready(root: Path) -> None:
    done = run("check", str(root))
    assert done.exit_code == 0, done.output
    assert row(done.output, "trainA") == [
        *("trainA", "a", "train", "4", "40x30", "40x30", "60x30"),
        *("40x30 (2)", "RGB 3, L 1", "1", "0"),
    ]
    assert row(done.output, "testB")[:4] == ["testB", "b", "test", "1"]
    assert "Ready to train." in done.output


def test_unreadable_pictures_are_named_with_their_reasons(root: Path) -> None:
    bytes_ = (root / "trainA/2.jpg").read_bytes()
    (root / "trainA/2.jpg").write_bytes(bytes_[: len(bytes_) // 2])
    (root / "trainB/deep").mkdir()
    (root / "trainB/deep/text.jpg").write_text("not a picture")
    (root / "trainB/empty.png").touch()
    done = run("check", str(root))
    assert done.exit_code == 1
    assert row(done.output, "trainA")[3] == "4"
    assert row(done.output, "trainA")[-1] == "1"
    assert "  trainA/2.jpg: cannot be decoded (" in done.output
    assert "trainB/deep/text.jpg: is not a picture" in done.output
    assert "trainB/empty.png: the file is empty" in done.output
    assert "Not ready to train" in done.output


def test_too_large_pictures_are_named_without_an_option_that_is_not_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("i2i.imaging.decode.__defaults__", (1000,))
    done = run("check", str(root))
    assert done.exit_code == 1
    assert "  trainA/0.jpg: 40x30 pixels are too many\n" in done.output
    assert "--max-pixels" not in done.output


def test_strange_names_of_bad_files_stay_on_a_line_and_can_be_printed(root: Path) -> None:
    try:
        (root / "trainA/a\nb.jpg").touch()
        Path(os.fsdecode(bytes(root / "trainB") + b"/\xff.jpg")).touch()
    except OSError:
        pytest.skip("this file system refuses such names")
    done = run("check", str(root))
    assert done.exit_code == 1
    assert "  trainA/a\\nb.jpg: the file is empty\n" in done.output
    assert "  trainB/\\udcff.jpg: the file is empty\n" in done.output


def test_a_missing_train_folder_is_reported_beside_the_others(root: Path) -> None:
    (root / "trainB").rename(root / "train-b")
    done = run("check", str(root))
    assert done.exit_code == 1
    assert "there is no folder 'trainB'" in done.output
    assert "did you mean 'train-b'" in done.output
    assert row(done.output, "trainA")[3] == "4"


def test_missing_test_folders_are_no_fault(root: Path) -> None:
    shutil.rmtree(root / "testA")
    done = run("check", str(root))
    assert done.exit_code == 0
    assert "No test pictures of role 'a': previews show train pictures." in done.output


def test_pictures_in_both_train_and_test_are_named(root: Path) -> None:
    shutil.copy(root / "trainA/1.jpg", root / "testA/copy.jpg")
    done = run("check", str(root))
    assert done.exit_code == 0
    assert "1 picture is in both train and test:\n  trainA/1.jpg = testA/copy.jpg" in done.output


def test_wrong_commands_are_refused(root: Path) -> None:
    with pytest.raises(UsageError, match=r"no layout named 'unpared'.*did you mean 'unpaired'"):
        run("check", str(root), "--layout", "unpared")
    with pytest.raises(UsageError, match="exclude each other"):
        run("check", str(root), "--layout", "unpaired", "--recipe", "horse2zebra")
    with pytest.raises(DataError, match="there is no such folder"):
        run("check", str(root / "nowhere"))


def picture(path: Path, width: int = 40, height: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.radial_gradient("L").resize((width, height))
    Image.merge("RGB", (image, image.rotate(90), image.rotate(180))).save(path)
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for split, count, height in (("train", 4, 30), ("test", 2, 20)):
        for number in range(count):
            for name in (f"{split}A/{number}.png", f"{split}B/{number}.jpg"):
                picture(tmp_path / "pairs" / name, 40 + number, height)
    return tmp_path / "pairs"


def test_good_pairs_are_ready(pairs: Path) -> None:
    done = run("check", str(pairs), "--layout", "paired")
    assert done.exit_code == 0, done.output
    assert row(done.output, "trainB")[:4] == ["trainB", "b", "train", "4"]
    assert "\n4 pairs in train.\n2 pairs in test.\nReady to train.\n" in done.output


def test_every_picture_without_a_partner_is_listed(pairs: Path) -> None:
    (pairs / "trainB/1.jpg").rename(pairs / "trainB/one.jpg")
    (pairs / "testA/0.png").unlink()
    for number in range(30):
        picture(pairs / f"trainA/deep/{number:02}.png", 4, 3)
    done = run("check", str(pairs), "--layout", "paired")
    assert done.exit_code == 1
    listed = "".join(f"  trainA/deep/{number:02}.png\n" for number in range(30))
    assert (
        "3 pairs in train.\n"
        "31 train pictures of role 'a' have no partner:\n"
        f"  trainA/1.png\n{listed}"
        "1 train picture of role 'b' has no partner:\n"
        "  trainB/one.jpg\n"
        "1 pair in test.\n"
        "1 test picture of role 'b' has no partner:\n"
        "  testB/0.jpg\n"
        "Not ready to train: see above.\n"
    ) in done.output


def test_a_list_without_end_is_counted(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("i2i.cli.data._NUM_ALONE", 2)
    for path in (pairs / "trainB").iterdir():
        path.rename(path.with_stem(f"b{path.stem}"))
    done = run("check", str(pairs), "--layout", "paired")
    assert done.exit_code == 1
    assert "0 pairs in train.\n4 train pictures of role 'a' have no partner:\n" in done.output
    assert "  trainB/b0.jpg\n  trainB/b1.jpg\n  and 2 more\n" in done.output


def test_names_that_stand_for_two_pictures_are_listed(pairs: Path) -> None:
    picture(pairs / "trainA/2.jpg", 42)
    done = run("check", str(pairs), "--layout", "paired")
    assert done.exit_code == 1
    assert (
        "1 name stands for more than one train picture of role 'a':\n"
        "  trainA/2.jpg = trainA/2.png\n"
    ) in done.output


def test_pairs_that_differ_in_size_are_listed(pairs: Path) -> None:
    picture(pairs / "trainB/3.jpg", 80, 60)
    picture(pairs / "testB/1.jpg", 80, 60)
    done = run("check", str(pairs), "--layout", "paired")
    assert done.exit_code == 1
    assert "1 train pair differs in size; make the sizes equal, or let Resize" in done.output
    assert "  trainA/3.png 43x30, trainB/3.jpg 80x60\n" in done.output
    assert "  testA/1.png 41x20, testB/1.jpg 80x60\n" in done.output
    picture(pairs / "trainB/3.jpg", 43)
    assert run("check", str(pairs), "--layout", "paired").exit_code == 0, "only test pairs differ"


PAIRED_RECIPE = """
family = "pix2pix"
summary = "Pairs"
[data]
layout = "paired"
[data.options]
unmatched = "skip"
[[augment.host]]
transform = "Resize"
height = 32
width = 32
"""


def test_keys_of_the_recipe_can_be_set(tmp_path: Path) -> None:
    for age in range(10, 70, 10):
        picture(tmp_path / f"{age}_0_0_x.jpg", 64, 64)
    (tmp_path / "notes.txt").write_text("no picture")
    few = run("check", str(tmp_path), "--recipe", "face-aging")
    assert few.exit_code == 1
    assert "set data.options.num_test to at most 3" in few.output
    assert "notes.txt" in few.output, "what is left out is told all the same"
    done = run("check", str(tmp_path), "--recipe", "face-aging", "--set", "data.options.num_test=2")
    assert done.exit_code == 0, done.output
    with pytest.raises(UsageError, match="no recipe whose keys"):
        run("check", str(tmp_path), "--set", "data.options.num_test=2")


def test_a_recipe_says_what_becomes_of_odd_pairs(pairs: Path, tmp_path: Path) -> None:
    picture(pairs / "trainB/3.jpg", 80, 60)
    (pairs / "trainB/1.jpg").unlink()
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(PAIRED_RECIPE)
    done = run("check", str(pairs), "--recipe", str(recipe))
    assert done.exit_code == 0, done.output
    assert "1 train picture of role 'a' has no partner, left out in training:\n" in done.output
    assert "1 train pair differs in size; the recipe's Resize makes the sizes equal" in done.output
    (pairs / "trainB").rename(pairs / "others")
    picture(pairs / "trainB/other.jpg")
    recipe.write_text(PAIRED_RECIPE)
    assert run("check", str(pairs), "--recipe", str(recipe)).exit_code == 1, "no pair is left"
    recipe.write_text(PAIRED_RECIPE.replace("pix2pix", "cyclegan"))
    with pytest.raises(RecipeError, match="do not belong together"):
        run("check", str(pairs), "--recipe", str(recipe))


def test_files_with_both_roles_are_looked_at_as_two_pictures(tmp_path: Path) -> None:
    grey, colour = Image.new("RGB", (20, 30), (9, 9, 9)), Image.new("RGB", (20, 30), (9, 8, 7))
    both = Image.new("RGB", (40, 30))
    both.paste(grey, (0, 0))
    both.paste(colour, (20, 0))
    (tmp_path / "train").mkdir()
    both.save(tmp_path / "train/1.png")
    done = run("check", str(tmp_path), "--layout", "side_by_side")
    assert done.exit_code == 0, done.output
    rows = [re.split(r" {2,}", line.strip()) for line in done.output.splitlines() if "20x" in line]
    assert rows == [
        [*("train", role, "train", "1", *["20x30"] * 3), "20x30 (1)", "RGB 1", grey, "0"]
        for role, grey in (("a", "1"), ("b", "0"))
    ]
    (tmp_path / "train/torn.png").write_bytes((tmp_path / "train/1.png").read_bytes()[:60])
    picture(tmp_path / "train/odd.png", 41)
    done = run("check", str(tmp_path), "--layout", "side_by_side")
    assert done.exit_code == 1
    assert "2 unreadable, train role 'a' and 'b':\n" in done.output
    assert "  train/odd.png: its width of 41 pixels does not divide by 2\n" in done.output
    assert done.output.count("train/torn.png: ") == 1
    shutil.rmtree(tmp_path / "train")
    done = run("check", str(tmp_path), "--layout", "side_by_side")
    assert done.output.count("there is no folder 'train'") == 1


@pytest.fixture
def partners(tmp_path: Path) -> Path:
    for number in range(3):
        picture(tmp_path / f"sr/HR/{number}.png", 402 + number, 301)
        picture(tmp_path / f"sr/LR/{number}x4.png", 100 + (number + 2) // 4, 75)
    return tmp_path / "sr"


def test_low_resolution_that_training_would_make_is_shown(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"photos/{number}.png", 162, 141 + number)
    done = run("check", str(tmp_path / "photos"), "--layout", "high_resolution")
    assert done.exit_code == 0, done.output
    rows = [re.split(r" {2,}", line.strip())[:5] for line in done.output.splitlines()]
    for split in ("train", "test"):
        assert [".", "low", split, "3", "40x35"] in rows
        assert [".", "high", split, "3", "160x140"] in rows
    assert "3 pairs in train.\n3 pairs in test.\nReady to train.\n" in done.output


def test_partners_of_low_resolution_are_ready(partners: Path) -> None:
    done = run("check", str(partners), "--layout", "high_resolution")
    assert done.exit_code == 0, done.output
    assert "differ" not in done.output
    assert "3 pairs in train." in done.output


def test_partners_that_do_not_fit_are_listed_with_their_sizes(partners: Path) -> None:
    picture(partners / "LR/0x4.png", 101, 75)
    picture(partners / "LR/1x4.png", 30, 22)
    picture(partners / "HR/1.png", 122, 91)
    (partners / "LR/2x4.png").write_text("no picture")
    done = run("check", str(partners), "--layout", "high_resolution")
    assert done.exit_code == 1
    assert (
        "2 train pairs do not fit:\n"
        "  HR/0.png, LR/0x4.png: low resolution has 101x75 pixels and not 100x75, which is high "
        "resolution's 400x300 over 4\n"
        "  HR/1.png, LR/1x4.png: its 120x88 pixels are fewer than the crop's 128\n" in done.output
    )
    assert "1 test pair does not fit:\n  HR/0.png, LR/0x4.png" in done.output
    assert "LR/2x4.png: is not a picture" in done.output
    assert "Not ready to train" in done.output


def test_test_pictures_that_do_not_fit_do_not_keep_anyone_from_training(tmp_path: Path) -> None:
    picture(tmp_path / "train/1.png", 160, 140)
    picture(tmp_path / "test/1.png", 50, 50)  # smaller than a crop, as previews may be
    done = run("check", str(tmp_path), "--layout", "high_resolution")
    assert done.exit_code == 0, done.output
    assert "fit" not in done.output
    picture(tmp_path / "train/2.png", 127, 140)
    done = run("check", str(tmp_path), "--layout", "high_resolution")
    assert done.exit_code == 1
    wrong = "its 124x140 pixels are fewer than the crop's 128"
    assert f"1 train pair does not fit:\n  train/2.png: {wrong}\n" in done.output


class Telling(Unpaired):
    """A stranger's layout that knows more of its pictures than that they are some."""

    roles = ("cat",)
    labels = ("weight",)
    inputs: Inputs

    @classmethod
    def check(cls, options: Any, inputs: Inputs) -> None:
        if inputs.paired or inputs.labels != ("weight",):
            raise RecipeError("not mine", where="data", expected="cats", remedy="take cats")

    @classmethod
    def left_out(cls, root: Path, options: Any, inputs: Inputs) -> Mapping[str, str]:
        return {f"cats.csv line {line}": "no cat" for line in range(2, 2 + len(inputs.labels))}

    @classmethod
    def groups(cls, root: Path, options: Any, inputs: Inputs, split: str) -> Mapping[str, int]:
        cls.list_pictures(root, options, inputs, "cat", split)
        return {"light": 3, "heavy": 0}

    @classmethod
    def remark(cls, options: Any, role: str, pixels: Pixels) -> str | None:
        assert (pixels.dtype, pixels.shape[2], role) == ("uint8", 3, "cat")
        return f"its {role} is too wide" if pixels.shape[1] > 40 else None


@pytest.fixture
def cats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number in range(3):
        picture(tmp_path / f"cats/trainCat/{number}.jpg", 40 + number)
    Image.new("I;16", (50, 30)).save(tmp_path / "cats/trainCat/deep.png")
    (tmp_path / "cats/trainCat/torn.jpg").touch()
    monkeypatch.setattr(Plugins, "layout", lambda self, name: Telling)
    return tmp_path / "cats"


def test_what_a_layout_knows_of_its_pictures_is_told(cats: Path) -> None:
    done = run("check", str(cats), "--layout", "cats")
    assert (
        "1 left out:\n"
        "  cats.csv line 2: no cat\n"
        "Pictures a group in train: light: 3, heavy: 0.\n"
        "3 of 4 train pictures of role 'cat' seem wrong:\n"
        "  trainCat/1.jpg: its cat is too wide\n"
        "  trainCat/2.jpg: its cat is too wide\n"
        "  trainCat/deep.png: its cat is too wide\n"
    ) in done.output
    assert "a group in test" not in done.output, "there is no such folder"
    assert "Not ready to train" in done.output, "because of the torn file"
    (cats / "trainCat/torn.jpg").unlink()
    done = run("check", str(cats), "--layout", "cats")
    assert done.exit_code == 0, "what only seems wrong keeps nobody from training"


def test_a_layout_that_cannot_look_at_pictures_says_so_once(
    cats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remark(cls: type, options: Any, role: str, pixels: Pixels) -> str | None:
        wanted = "pip install 'i2i-gan[cats]'"
        raise I2IError("no eyes", where="remark", expected="the extra", remedy=wanted)

    monkeypatch.setattr(Telling, "remark", classmethod(remark))
    done = run("check", str(cats), "--layout", "cats")
    said = (
        "What the pictures show was not looked at: remark: no eyes; expected the extra; pip install"
    )
    assert done.output.count(said) == 1
    assert "seem wrong" not in done.output


def test_layouts_that_know_no_more_say_no_more(root: Path) -> None:
    output = run("check", str(root)).output
    for words in ("left out", "a group", "seem", "not looked at"):
        assert words not in output


def test_faces_are_counted_by_age_and_the_odd_ones_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from i2i_face_aging.layouts import AgeFolders

    monkeypatch.setattr(Plugins, "layout", lambda self, name: AgeFolders)
    monkeypatch.setattr("i2i_face_aging.faces.misplaced", lambda pixels: "no face was found in it")
    for name in ("train/0-18/a.jpg", "train/70/b.jpg", "train/71/c.jpg", "test/30/d.jpg"):
        picture(tmp_path / name)
    picture(tmp_path / "train/dogs/rex.jpg")
    done = run("check", str(tmp_path), "--layout", "age_folders")
    assert done.exit_code == 0, done.output
    assert [line.split()[:4] for line in done.output.splitlines() if " face " in line][:2] == [
        ["train", "face", "train", "3"],
        ["test", "face", "test", "1"],
    ]
    groups = "19-29: 0, 30-39: {}, 40-49: 0, 50-59: 0, 60+: {}."
    assert (
        "1 left out:\n"
        "  train/dogs: the folder's name is no age from 0 to 120; it has 1 picture\n"
        f"Pictures a group in train: 0-18: 1, {groups.format(0, 2)}\n"
        f"Pictures a group in test: 0-18: 0, {groups.format(1, 0)}\n"
        "3 of 3 train pictures of role 'face' seem wrong:\n"
        "  train/0-18/a.jpg: no face was found in it\n"
    ) in done.output
    assert "1 of 1 test picture of role 'face' seems wrong:" in done.output
