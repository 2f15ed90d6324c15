import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from i2i.cli.data import command
from i2i.errors import DataError, UsageError


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
