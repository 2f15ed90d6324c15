"""The benchmark of enlarging: what its processes are told, and what becomes of what they say."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from i2i.errors import UsageError
from tests.scripts import load_script

ways = load_script("benchmarks", "superres_ways")
bench = load_script("benchmarks", "superres")

LOW = (24, 20)  # width and height


def noise(seed: int, width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def set14(tmp_path: Path) -> Path:
    """Return a benchmark of two pairs, of which the second target is a little too large."""
    for folder in ("LR", "HR"):
        (tmp_path / "set14" / folder).mkdir(parents=True)
    for seed in range(2):
        noise(seed, *LOW).save(tmp_path / "set14" / "LR" / f"{seed}.png")
        target = noise(seed + 2, 4 * LOW[0] + seed, 4 * LOW[1] + 3 * seed)
        target.save(tmp_path / "set14" / "HR" / f"{seed}.png")
    return tmp_path / "set14"


def measured(**seconds: float) -> dict[str, Any]:
    """Return what a process says, with both clocks alike."""
    said = {what: {"wall": 2 * value, "processor": value} for what, value in seconds.items()}
    return {**said, "megapixels": 4.0, "peak_mb": 10.0, "loaded_mb": 5.0, "versions": {}}


def test_rows_are_medians_a_megapixel_and_ratios_of_them() -> None:
    chosen = [
        bench.Way(bench.LANCZOS, "pillow", "lanczos", "Pillow"),
        bench.Way("m, float32", "i2i", "m", "m"),
    ]
    found = [
        bench.Measured(26.0, [measured(job=value, alone=1, start=0) for value in (2, 8, 4)]),
        bench.Measured(28.0, [measured(job=value, alone=6, start=9) for value in (12, 40, 20)]),
    ]
    filters, model = bench.table(chosen, found)
    assert filters["job"] == {"processor": 1.0, "wall": 2.0}
    assert model["job"] == {"processor": 5.0, "wall": 10.0}
    assert model["start"] == {"processor": 9.0, "wall": 18.0}  # of all, not a megapixel
    assert model["to_lanczos"] == {"job": 5.0, "alone": 6.0}
    assert filters["to_first_model"] == {"job": 0.2, "alone": pytest.approx(1 / 6)}
    assert model["to_first_model"] == {"job": 1.0, "alone": 1.0}
    assert (model["psnr_y"], filters["precision"], model["precision"]) == (28.0, None, "float32")


def test_quality_is_that_of_the_pictures_written(set14: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    for seed in range(2):
        with Image.open(set14 / "HR" / f"{seed}.png") as image:
            pixels = np.asarray(image)[: 4 * LOW[1], : 4 * LOW[0]] // 2
        grey = np.full_like(pixels, 100)
        Image.fromarray(grey).save(results / f"{seed}.png")
        grey = np.full((4 * LOW[1] + 3 * seed, 4 * LOW[0] + seed, 3), 110, np.uint8)
        Image.fromarray(grey).save(set14 / "HR" / f"{seed}.png")
    # Ten steps of 255 are 10 * 219 / 255 of the brightness, 16 to 235
    apart = 10 * 219 / 255
    assert bench.quality(results, set14 / "HR") == pytest.approx(20 * np.log10(255 / apart))


def test_photographs_are_evenly_spread_middles_of_one_size(tmp_path: Path) -> None:
    source, photos = tmp_path / "source", tmp_path / "photos"
    source.mkdir()
    for place in range(6):
        image = Image.new("RGB", (800, 600 + 50 * place), (40 * place, 0, 0))
        image.save(source / f"{place}.jpg", quality=95)
    (source / "CREDITS.tsv").write_text("none")
    bench.gather(photos, source, 3)
    found = [Image.open(path) for path in sorted(photos.iterdir())]
    assert [image.size for image in found] == [bench.SIZE] * 3
    assert [round(image.getpixel((5, 5))[0] / 40) for image in found] == [0, 2, 4]


def test_a_process_of_pillows_writes_what_pillow_makes(set14: Path, tmp_path: Path) -> None:
    way = bench.Way(bench.LANCZOS, "pillow", "lanczos", "Pillow")
    out = tmp_path / "out"
    said = bench.run(way, set14 / "LR", out, 1, alone=True)
    assert said["megapixels"] == pytest.approx(2 * 16 * LOW[0] * LOW[1] / 1e6)
    assert set(said) >= {"start", "job", "alone", "peak_mb", "loaded_mb", "versions"}
    # Much less than this process, which is its parent and has loaded more
    assert 0 < said["loaded_mb"] <= said["peak_mb"] < ways.memory()["now"] / 2
    result = np.asarray(Image.open(out / "1.png"))
    wanted = noise(1, *LOW).resize((4 * LOW[0], 4 * LOW[1]), Image.Resampling.LANCZOS)
    assert (result == np.asarray(wanted)).all()


def test_a_process_that_fails_is_named_with_its_last_words(
    set14: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(returncode=3, stdout="", stderr="a trace\nno such thing\n")

    monkeypatch.setattr(subprocess, "run", ended)
    way = bench.Way("the way", "pillow", "lanczos", "Pillow")
    with pytest.raises(UsageError, match=r"the way.*3: no such thing"):
        bench.run(way, set14 / "LR", tmp_path / "out", 1, alone=False)


@pytest.mark.parametrize(("kind", "limited"), [("peer", "2"), ("pillow", None)])
def test_threads_are_the_same_for_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, limited: str | None
) -> None:
    told = []

    def answered(command: list[str], env: dict[str, str], **_: Any) -> Any:
        told.append((json.loads(command[-1]), env))
        return SimpleNamespace(returncode=0, stdout='noise\n{"job": 1}\n')

    monkeypatch.setattr(subprocess, "run", answered)
    monkeypatch.delenv("OMP_THREAD_LIMIT", raising=False)
    found = bench.run(bench.Way("x", kind, "y", "x"), tmp_path, tmp_path, 2, alone=False)
    assert found == {"job": 1}
    ((said, env),) = told
    assert said["threads"] == 2
    assert env["OMP_NUM_THREADS"] == env["VIPS_CONCURRENCY"] == "2"
    assert env.get("OMP_THREAD_LIMIT") == limited


def test_a_peer_that_is_not_installed_is_said_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "_has_peer", lambda python: False)
    given = Namespace(
        models=["superres-x4@strength=0.5"],
        precision=["float32", "bfloat16"],
        peer=["realesr-animevideov3"],
        peer_python=sys.executable,
    )
    found = bench.all_ways(given, tmp_path)
    assert [way.name for way in found] == [
        "Pillow Lanczos",
        "Pillow bicubic",
        "superres-x4 strength=0.5, float32",
        "superres-x4 strength=0.5, bfloat16",
    ]
    assert (found[2].source, found[2].settings) == ("superres-x4", ("strength=0.5",))
    assert "not installed" in capsys.readouterr().out
    monkeypatch.setattr(bench, "_has_peer", lambda python: True)
    assert bench.all_ways(given, tmp_path)[-1].kind == "peer"


def test_a_table_is_shown_again_from_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = bench.table(
        [bench.Way(bench.LANCZOS, "pillow", "lanczos", "Pillow")],
        [bench.Measured(26.31, [measured(job=2, alone=1, start=0)])],
    )
    keys = ("photographs", "threads", "processor", "load", "repetitions", "quality")
    path = tmp_path / "table.json"
    path.write_text(json.dumps(dict.fromkeys(keys, "x") | {"rows": rows}))
    assert bench.main(["--from", str(path)]) == 0
    assert "Pillow Lanczos  26.31" in capsys.readouterr().out


def test_folders_that_are_missing_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--pictures", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err
