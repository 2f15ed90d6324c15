"""Requests that stand for several variants: one translation of each picture for each of them."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from i2i.cli import main
from i2i.engine.discovery import make_plan
from i2i.engine.dryrun import forecast
from i2i.engine.events import Events
from i2i.engine.job import run_job
from i2i.engine.manifest import NAME
from i2i.engine.preview import preview_pairs
from i2i.engine.records import Settings
from i2i.engine.variants import variants_of
from i2i.errors import UsageError
from i2i.imaging import read_picture
from i2i.model_file import Header, build, load_model, save_model
from i2i.plugins import load_plugins
from i2i.provenance import read_provenance
from tests.cli.folder import files_in, pixels, records, translate

SHIFTS = {"0-18": -40, "19-29": 0, "60+": 40}  # of 8-bit values
FAMILY = '''
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from i2i.hookspecs import hookimpl
from i2i.translator import Translator
from i2i.types import Fit, Inputs

SHIFTS = {"0-18": -40, "19-29": 0, "60+": 40}
seen = []
checked = []


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Literal["0-18", "19-29", "60+", "all", "beside"] = Field("19-29", description="Shift.")
    further: int = Field(0, description="Added to the shift.")


class Shades(Translator):
    """Adds what the request says; fails on pictures of one width, where that is 60+."""

    name = "shades"
    Options = Options
    Request = Request
    inputs = Inputs(images=("a", "b"), paired=True)
    exported = ("net",)

    def __init__(self, options):
        super().__init__(options)
        self.net = nn.Conv2d(1, 1, 1)

    @property
    def fit(self):
        return Fit(tiles=True)

    @classmethod
    def variants(cls, request):
        names = {"all": {each: each for each in SHIFTS}, "beside": {"": "19-29", "60+": "60+"}}
        asked = names.get(request.group, {"": request.group})
        return {name: request.model_copy(update={"group": g}) for name, g in asked.items()}

    def check_request(self, request):
        checked.append(request.group)

    def players(self, stage):
        raise AssertionError("only training asks for players")

    def training_step(self, batch, now):
        yield from ()

    def translate(self, images, request):
        if images.shape[3] == 28 and request.group == "60+":
            raise ValueError("a bug of the family")
        seen.append((request.group, tuple(images.shape), images.mean((1, 2, 3)).tolist()))
        return images + (SHIFTS[request.group] + request.further) * 2 / 255


@hookimpl
def i2i_families() -> Mapping[str, str]:
    return {"shades": "shades:Shades"}
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "shades.py").write_text(FAMILY)
    information = folder / "shades-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: shades\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[i2i]\nshades = shades\n")
    return folder


@pytest.fixture(scope="module")
def plugins(site):
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    yield load_plugins()
    sys.path.remove(str(site))
    sys.modules.pop("shades", None)


@pytest.fixture(scope="module")
def model(site, plugins) -> Path:
    path = site / "shades.safetensors"
    family = plugins.family("shades")
    header = Header(family="shades", distribution="shades 1.0", options={}, request={})
    save_model(path, build(family, family.Options(), 0), header)
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three pictures of two sizes, whose values leave room for every shift."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b.png", "sub/c.png")):
        write(folder / name, 12 if seed else 16, 20, seed)
    return folder


def write(path: Path, height: int, width: int, seed: int) -> Path:
    values = np.random.default_rng(seed).integers(60, 190, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def shifted(path: Path, variant: str) -> np.ndarray:
    return (pixels(path).astype(int) + SHIFTS[variant]).astype(np.uint8)


def shades(*arguments: object, group: str = "all"):
    return translate(*arguments, "--set", f"group={group}")


def last(result) -> str:
    return result.stdout.splitlines()[-1]


def test_each_variant_is_a_translation_of_its_own(tmp_path, model, photos):
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    result = shades(photos, "-o", out, "--model", model, "--report", report)
    assert result.exit_code == 0, result.output
    names = [f"{stem}.{each}.png" for stem in ("a", "b", "sub/c") for each in SHIFTS]
    assert files_in(out) == sorted(names)
    assert last(result).startswith("9 done, 0 failed")
    for name in names:
        stem, variant, suffix = name.rsplit(".", 2)
        assert np.array_equal(pixels(out / name), shifted(photos / f"{stem}.{suffix}", variant))
        made = read_provenance(read_picture(out / name).metadata)
        assert made is not None
        assert json.loads(made.request)["request"] == {"group": variant, "further": 0}
    written = records(report)
    assert [each["name"] for each in written] == names  # a picture's variants are neighbours
    assert [each["variant"] for each in written] == [*SHIFTS] * 3
    done = [each for each in records(out / NAME) if each["status"] == "done"]
    assert [(each["name"], each["request"]["group"]) for each in done] == [
        (name, name.rsplit(".", 2)[1]) for name in names
    ]


def test_only_what_a_request_stands_for_is_checked_and_translated(tmp_path, plugins, model, photos):
    module = sys.modules["shades"]
    module.seen.clear()
    module.checked.clear()
    assert shades(photos, "-o", tmp_path / "out", "--model", model).exit_code == 0
    assert module.checked == [*SHIFTS]
    assert {group for group, _, _ in module.seen} == {*SHIFTS}


def test_variants_that_are_done_are_kept_and_a_deleted_one_alone_is_made_again(
    tmp_path, model, photos
):
    out = tmp_path / "out"
    arguments = [photos, "-o", out, "--model", model, "--report", tmp_path / "report.jsonl"]
    shades(*arguments)
    before = {name: (out / name).stat().st_mtime_ns for name in files_in(out)}
    result = shades(*arguments)
    assert last(result).startswith("0 done, 9 done before, 0 failed")

    (out / "b.60+.png").unlink()
    result = shades(*arguments)
    assert last(result).startswith("1 done, 8 done before, 0 failed")
    statuses = {each["name"]: each["status"] for each in records(tmp_path / "report.jsonl")}
    assert [name for name, status in statuses.items() if status == "done"] == ["b.60+.png"]
    after = {name: (out / name).stat().st_mtime_ns for name in files_in(out)}
    assert {name for name in before if before[name] != after[name]} == {"b.60+.png"}
    assert np.array_equal(pixels(out / "b.60+.png"), shifted(photos / "b.png", "60+"))


def test_one_variant_asked_for_alone_is_another_output(tmp_path, model, photos):
    out = tmp_path / "out"
    shades(photos, "-o", out, "--model", model)
    result = shades(photos, "-o", out, "--model", model, group="60+")
    assert last(result).startswith("3 done, 0 failed")
    assert np.array_equal(pixels(out / "a.png"), shifted(photos / "a.png", "60+"))
    assert last(shades(photos, "-o", out, "--model", model)).startswith("0 done, 9 done before")


def test_another_request_makes_every_variant_again(tmp_path, model, photos):
    arguments = [photos, "-o", tmp_path / "out", "--model", model]
    shades(*arguments)
    result = shades(*arguments, "--set", "further=5")
    assert last(result).startswith("9 done, 0 failed")
    made, plain = pixels(tmp_path / "out" / "a.60+.png"), shifted(photos / "a.png", "60+")
    assert np.array_equal(made, plain + 5)


def test_names_that_a_variant_would_take_are_refused_before_any_work(tmp_path, model):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write(folder / "x.png", 8, 8, 0)
    write(folder / "x.60+.png", 8, 8, 1)
    result = shades(folder, "-o", out, "--model", model, group="beside")
    assert result.exit_code == 2
    assert "x.60+.png and " in result.stderr
    assert "would both be written there" in result.stderr
    assert not out.exists()

    result = shades(folder, "-o", folder, "--model", model)
    assert result.exit_code == 2
    assert f"the translation of {folder / 'x.png'} would overwrite the input" in result.stderr
    assert files_in(folder) == ["x.60+.png", "x.png"]

    assert shades(folder, "-o", out, "--model", model).exit_code == 0
    for source in ("x", "x.60+"):
        made = pixels(out / f"{source}.60+.png")
        assert np.array_equal(made, shifted(folder / f"{source}.png", "60+"))


def test_a_variant_stands_before_the_extension_that_is_written(tmp_path, model):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.open(write(folder / "x.png", 8, 8, 0)).save(folder / "x.bmp")
    arguments = [folder, "-o", out, "--model", model]
    result = shades(*arguments)
    assert result.exit_code == 2
    assert "--keep-extension, which writes x.bmp.0-18.png" in result.stderr
    assert shades(*arguments, "--keep-extension").exit_code == 0
    assert files_in(out) == sorted(f"{x}.{each}.png" for x in ("x", "x.bmp") for each in SHIFTS)


def test_a_dry_run_lists_the_variants_and_what_is_kept(tmp_path, model, photos):
    out = tmp_path / "out"
    arguments = [photos / "a.png", "-o", out, "--model", model]
    result = shades(*arguments, "--dry-run")
    assert result.exit_code == 0
    lines = [f"translate: {photos / 'a.png'} -> {out / f'a.{each}.png'}" for each in SHIFTS]
    assert result.stdout.splitlines()[:-1] == lines
    assert not out.exists()
    shades(*arguments)
    (out / "a.19-29.png").write_bytes(b"damaged")
    said = shades(*arguments, "--dry-run").stdout.splitlines()
    assert [line.split(":")[0] for line in said[:-1]] == ["kept", "translate", "kept"]


def test_a_variant_that_fails_leaves_the_others_and_the_status_says_so(tmp_path, model, photos):
    out = tmp_path / "out"
    write(photos / "wide.png", 12, 28, 5)
    result = shades(photos, "-o", out, "--model", model, "--report", tmp_path / "report.jsonl")
    assert result.exit_code == 1
    assert last(result).startswith("11 done, 1 failed")
    assert [name for name in files_in(out) if "wide" in name] == ["wide.0-18.png", "wide.19-29.png"]
    (failed,) = (each for each in records(tmp_path / "report.jsonl") if each["status"] == "failed")
    assert (failed["name"], failed["request"]["group"]) == ("wide.60+.png", "60+")


def test_a_folder_that_cannot_be_read_is_named_once(tmp_path, model, photos, monkeypatch):
    monkeypatch.setattr("os.scandir", refusing("sub"))
    report = tmp_path / "report.jsonl"
    result = shades(photos, "-o", tmp_path / "out", "--model", model, "--report", report)
    assert result.exit_code == 1
    assert last(result).startswith("6 done, 1 failed")
    assert records(report)[0]["request"]["group"] == "all"


def refusing(name: str):
    from os import scandir

    def opened(path):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    return opened


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_no_batch_mixes_variants_and_none_changes_a_result(tmp_path, plugins, model, batch_size):
    module = sys.modules["shades"]
    folder = tmp_path / "in"
    folder.mkdir()
    for seed in range(7):
        write(folder / f"{seed}.png", 8, (8, 12)[seed % 2], seed)
    request = plugins.family("shades").Request(group="all")
    variants = tuple(variants_of(plugins.family("shades"), request))
    plan = make_plan([folder], tmp_path / "out", variants=variants)
    assert [(task.input.stem, task.variant) for task in plan.tasks] == [
        (str(seed), variant) for seed in range(7) for variant in SHIFTS
    ]
    module.seen.clear()
    settings = Settings(request, batch_size=batch_size)
    summary = run_job(plan, load_model(model, plugins), settings, Events(plugins, [], pytest.fail))
    assert (summary.num_done, summary.num_failed) == (21, 0)
    for task in plan.tasks:
        assert np.array_equal(pixels(task.output), shifted(task.input, task.variant))
    # Four pictures are of one size and three of the other
    full = [
        *(min(batch_size, 4 - start) for start in range(0, 4, batch_size)),
        *(min(batch_size, 3 - start) for start in range(0, 3, batch_size)),
    ]
    for variant in SHIFTS:
        counts = [shape[0] for group, shape, _ in module.seen if group == variant]
        assert sorted(counts) == sorted(full)
    if batch_size == 1:  # so that a family may remember the picture
        assert [group for group, _, _ in module.seen] == [*SHIFTS] * 7
        means = [means for _, _, means in module.seen]
        assert all(means[at] == means[at - at % 3] for at in range(21))


def test_a_plan_without_the_variants_of_the_request_is_refused(tmp_path, plugins, model, photos):
    request = plugins.family("shades").Request(group="all")
    plan = make_plan([photos], tmp_path / "out")
    loaded, settings = load_model(model, plugins), Settings(request)
    wrong = r"expected '0-18', '19-29', '60\+'"
    with pytest.raises(UsageError, match=wrong):
        run_job(plan, loaded, settings, Events(plugins, [], pytest.fail))
    with pytest.raises(UsageError, match=wrong):
        [*forecast(plan, loaded, settings)]
    assert not (tmp_path / "out").exists()


def test_the_sheet_shows_each_picture_beside_its_variants(tmp_path, model, photos):
    out = tmp_path / "out"
    write(photos / "wide.png", 12, 28, 5)
    result = shades(photos, "-o", out, "--model", model, "--sheet")
    assert f"contact sheet: {out / 'contact-sheet.png'}\n" in result.stdout
    sheet = pixels(out / "contact-sheet.png")
    heights = [16, 12, 12, 12]
    assert sheet.shape == (32 + sum(heights) + 4 * 16, 4 * 256 + 16, 3)
    assert (sheet[8:32] < 100).any(), "captions"
    top = 32
    for stem, height in zip(("a", "b", "wide", "sub/c"), heights, strict=True):
        source = photos / f"{stem}.png"
        expected = [pixels(source), *(shifted(source, each) for each in SHIFTS)]
        if stem == "wide":  # 60+ failed on it
            expected[-1] = np.full_like(expected[0], 200)
        for place, shown in enumerate(expected):
            left = 8 + 256 * place + (256 - shown.shape[1]) // 2
            at = sheet[top + 8 : top + 8 + height, left : left + shown.shape[1]]
            assert np.array_equal(at, shown), (stem, place)
        top += height + 16

    (out / "contact-sheet.png").unlink()
    result = shades(photos, "-o", out, "--model", model, "--sheet")
    assert "11 done before" in last(result)
    assert np.array_equal(pixels(out / "contact-sheet.png"), sheet)


def test_the_sheet_says_where_it_ends(tmp_path, model):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for seed in range(26):
        write(folder / f"{seed:02}.png", 8, 8, seed)
    result = shades(folder, "-o", out, "--model", model, "--sheet", group="beside")
    assert "contact-sheet.png (the first 24 pictures)\n" in result.stdout
    # Two strips of three go into the width of three pairs
    sheet = pixels(out / "contact-sheet.png")
    assert sheet.shape == (32 + 12 * 24, 2 * (3 * 256 + 16), 3)
    shown = sheet[-16:-8, -8 - 132 : -8 - 124]
    assert np.array_equal(shown, shifted(folder / "23.png", "60+"))


def test_evaluate_takes_one_translation_a_picture(tmp_path, model):
    arguments = ["evaluate", "--model", str(model), "--data", str(tmp_path), "--set", "group=all"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "the request stands for 3 variants (0-18, 19-29, 60+)" in result.stderr


def test_previews_show_every_variant(plugins):
    family = plugins.family("shades")
    translator = build(family, family.Options(), 0)
    recipe = SimpleNamespace(
        request=family.Request(group="all"), translate=SimpleNamespace(work_size="native")
    )
    sources = [torch.zeros(3, 8, 8), torch.full((3, 8, 12), 0.25)]
    pairs = preview_pairs(sources, recipe, translator, torch.device("cpu"))
    assert [source.shape for source, _ in pairs] == [sources[0].shape] * 3 + [sources[1].shape] * 3
    added = [(made - source) * 255 / 2 for source, made in pairs]
    for each, shift in zip(added, [*SHIFTS.values()] * 2, strict=True):
        torch.testing.assert_close(each, torch.full_like(each, shift))
