"""``i2i inspect``: pictures of every format, model files, checkpoints, and what is none of them."""

import hashlib
import json
import os
import pickle
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image, ImageCms
from safetensors.torch import save_file

from i2i.cli import main
from i2i.imaging import FORMATS, Metadata, Picture, encode
from i2i.model_file import read_header
from i2i.provenance import COMPOSITE, TRAINED, Provenance, stamp
from tests.engine.helpers import call, train_arguments

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "recipes/weights/horse2zebra.safetensors"
MADE = Provenance(
    COMPOSITE, "horse2zebra", "stripes", "i2i-gan 1.2", "ab" * 32, '{"direction":"a2b"}', "cd" * 32
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def inspected(path: Path) -> dict[str, Any]:
    done = run(path, "--json")
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def written(path: Path, metadata: Metadata, **changes: Any) -> Path:
    picture = Picture(np.zeros((12, 16, 3), np.uint8), metadata=metadata)
    content = encode(replace(picture, **changes), path.suffix[1:], str(path))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("format_", FORMATS)
def test_a_picture_says_what_it_is_and_what_made_it(format_: str, tmp_path: Path) -> None:
    found = inspected(written(tmp_path / f"a.{format_}", stamp(Metadata(), MADE)))
    assert found["kind"] == "picture"
    assert (found["format"], found["width"], found["height"]) == (format_, 16, 12)
    assert (found["depth"], found["colours"], found["alpha"]) == (8, "RGB", False)
    assert found["digital_source_type"] == COMPOSITE
    assert found["provenance"] == asdict(MADE) | {"request": {"direction": "a2b"}}


def test_people_read_the_same_as_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "a.png", stamp(Metadata(), MADE))
    done = run(path)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[:4] == [f"file: {path}", "kind: picture", "format: png", "width: 16"]
    assert "  recipe: horse2zebra" in lines
    assert "    direction: a2b" in lines
    assert f"  model_sha256: {'ab' * 32}" in lines


def test_depth_alpha_grey_and_profile_are_the_files(tmp_path: Path) -> None:
    deep = np.zeros((4, 4, 1), np.uint16)
    grey = inspected(written(tmp_path / "a.png", Metadata(), pixels=deep, alpha=deep))
    assert (grey["depth"], grey["colours"], grey["alpha"]) == (16, "grey", True)
    Image.new("CMYK", (4, 4)).save(tmp_path / "b.jpg")
    assert inspected(tmp_path / "b.jpg")["colours"] == "CMYK"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (4, 4)).save(tmp_path / "c.tif", icc_profile=profile)
    assert inspected(tmp_path / "c.tif")["profile"] == "sRGB built-in"
    Image.new("1", (4, 4)).save(tmp_path / "d.png")
    assert inspected(tmp_path / "d.png")["depth"] == 1
    Image.new("RGB", (5, 4)).save(tmp_path / "e.bmp")
    bmp = inspected(tmp_path / "e.bmp")
    assert (bmp["format"], bmp["width"], bmp["height"], bmp["depth"]) == ("other", 5, 4, 8)


def test_a_picture_of_nobodys_says_so_and_that_is_no_failure(tmp_path: Path) -> None:
    path = written(tmp_path / "a.png", Metadata())
    done = run(path)
    assert done.exit_code == 0
    assert "provenance: says nothing of a model\n" in done.stdout
    assert inspected(path)["provenance"] is None


def test_a_picture_of_another_programs_model_says_that(tmp_path: Path) -> None:
    theirs = stamp(stamp(Metadata(), replace(MADE, digital_source_type=TRAINED)), None)
    done = run(written(tmp_path / "a.jpeg", theirs))
    assert "says nothing of a model of i2i, but calls itself trainedAlgorithmicMedia" in done.stdout


def test_the_text_of_a_png_answers_where_xmp_is_gone_or_damaged(tmp_path: Path) -> None:
    stamped = stamp(Metadata(), MADE)
    gone = written(tmp_path / "a.png", replace(stamped, xmp=None))
    assert inspected(gone)["provenance"]["recipe"] == "horse2zebra"
    assert inspected(gone)["xmp"] is None
    damaged = written(tmp_path / "b.png", replace(stamped, xmp=b"<x:xmpmeta>"))
    assert inspected(damaged)["provenance"]["recipe"] == "horse2zebra"
    assert inspected(damaged)["xmp"].startswith("damaged (")


def test_a_model_file_says_how_it_was_made() -> None:
    found = inspected(MODEL)
    assert found["kind"] == "model"
    assert found["family"] == "cyclegan"
    assert found["options"]["width"] == 32
    assert found["training"]["images"] == read_header(MODEL).training["images"]
    assert found["metrics"][0]["protocol"]
    assert found["licence"]
    assert found["sha256"] == hashlib.sha256(MODEL.read_bytes()).hexdigest()
    done = run(MODEL)
    assert "  width: 32" in done.stdout.splitlines()
    assert f"sha256: {found['sha256']}" in done.stdout
    assert "[stages.train]" not in done.stdout  # the recipe's text is left out


def test_a_training_checkpoint_says_how_far_it_is(tmp_path: Path) -> None:
    settings = ("stages.train.images=4", "stages.train.batch_size=2")
    arguments = train_arguments(tmp_path, tmp_path / "run", *settings)
    done = call(arguments)
    assert done.returncode == 0, done.stderr
    found = inspected(tmp_path / "run/checkpoint.pt")
    assert found["kind"] == "training checkpoint"
    assert found["family"] == "cyclegan"
    assert (found["stage"], found["finished"]) == ("train", True)
    assert (found["step"], found["images"]) == (2, 4)
    assert found["versions"]["torch"] == torch.__version__
    assert found["parameters"] > 1000
    (tmp_path / "run/recipe.toml").unlink()
    alone = inspected(tmp_path / "run/checkpoint.pt")
    assert (alone["family"], alone["images"], alone["step"]) == (None, None, found["step"])


def test_a_checkpoint_of_another_program_is_counted_and_can_be_imported(tmp_path: Path) -> None:
    tensors = {"model.1.weight": torch.zeros(4, 3, 7, 7), "model.1.bias": torch.zeros(4)}
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "a.pth")
    save_file(tensors, tmp_path / "b.safetensors")
    for path in (tmp_path / "a.pth", tmp_path / "b.safetensors"):
        found = inspected(path)
        assert found["kind"] == "foreign checkpoint"
        assert (found["tensors"], found["parameters"]) == (2, 4 * 3 * 7 * 7 + 4)
        assert found["advice"] == f"i2i models import {path} -o NAME.safetensors"


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    torch.save({"a": Attack(ran)}, tmp_path / "a.pth")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Attack(ran), protocol=2))
    done = run(tmp_path / "a.pth", tmp_path / "b.pt")
    assert done.exit_code == 1
    assert done.stderr.count("wants to call") == 2
    assert not ran.exists()


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    good = written(tmp_path / "good.png", stamp(Metadata(), MADE))
    (tmp_path / "bad.png").write_bytes(good.read_bytes()[:30])
    (tmp_path / "bad.safetensors").write_bytes(MODEL.read_bytes()[:2000])
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 and no more")
    names = ["bad.png", "bad.safetensors", "cut.pt", "missing.jpg", "", "good.png"]
    done = run(*(tmp_path / name for name in names), good)
    assert done.exit_code == 1
    one, other = done.stdout.split("\n\n")
    assert one.startswith(f"file: {good}\n")
    assert one.strip() == other.strip()
    assert len(done.stderr.splitlines()) == 5
    for name, line in zip(names, done.stderr.splitlines(), strict=False):
        assert line.startswith(f"Error: {tmp_path / name}: ")

    records = run("--json", *(tmp_path / name for name in names))
    assert records.exit_code == 1
    told = [json.loads(line) for line in records.stdout.splitlines()]
    assert [Path(each["file"]) for each in told] == [tmp_path / name for name in names]
    assert ["error" in each for each in told] == [True] * 5 + [False]


def test_a_name_that_is_no_utf8_is_printed(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\xff\n.png")
    try:
        written(path, Metadata())
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert inspected(path)["file"] == str(path)
    assert "a\\udcff\\n.png\n" in run(path).stdout


def test_a_signature_is_checked_where_the_extra_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("c2pa")
    from tests.unit.test_signing import signed_picture

    signed = signed_picture(MADE)
    (tmp_path / "a.jpg").write_bytes(signed)
    assert inspected(tmp_path / "a.jpg")["signature"].startswith("holds; by Signer")
    assert inspected(tmp_path / "a.jpg")["provenance"]["recipe"] == "horse2zebra"
    (tmp_path / "b.jpg").write_bytes(signed.replace(b"horse2zebra", b"zebra2horse"))
    assert inspected(tmp_path / "b.jpg")["signature"].startswith("does not hold: ")
    plain = written(tmp_path / "c.jpeg", Metadata())
    assert inspected(plain)["signature"] is None

    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert "pip install" in inspected(tmp_path / "a.jpg")["signature"]
    assert inspected(plain)["signature"] is None
