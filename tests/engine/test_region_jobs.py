"""Folder jobs of photographs whose regions are translated, and what the kit asks of ``locate``."""

import json
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict, Field

from i2i.engine import inference
from i2i.engine import regions as regions_module
from i2i.engine.discovery import make_plan
from i2i.engine.events import Events
from i2i.engine.inference import translate_batch
from i2i.engine.job import run_job
from i2i.engine.records import Result, Settings, Summary
from i2i.engine.regions import cut_out, paste
from i2i.errors import ImageError, PluginError, UsageError
from i2i.hookspecs import hookimpl
from i2i.imaging import read_picture, to_tensor
from i2i.model_file import Header, Model
from i2i.plugins import Plugins, load_plugins
from i2i.provenance import COMPOSITE, TRAINED, read_provenance
from i2i.testing import check_translator
from i2i.testing.location import check_locate
from i2i.testing.subject import Subject
from i2i.types import Fit, Region
from tests.contract.families import Tiny, TinyOptions
from tests.engine.test_inference import Inverse
from tests.engine.test_regions import turned

HERE = Region(((1.0, 0.0, 4.0), (0.0, 1.0, 6.0)), (16, 16))
THERE = Region(((0.0, -1.0, 40.0), (1.0, 0.0, 3.0)), (16, 16))  # turned by a quarter
WIDE = Region(((1.5, 0.0, 3.0), (0.0, 1.5, 4.0)), (12, 20))


class Look(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    at: Literal["all", "parts"] = Field("parts", description="What is translated.")


class Brighter(Inverse):
    """Brightens by a tenth what lies in the regions that belong to a picture's size."""

    Request = Look
    added: ClassVar[float] = 0.1
    regions: ClassVar[dict[tuple[int, int], list[Region]]] = {
        (40, 60): [HERE],
        (40, 62): [HERE, THERE],
        (40, 64): [THERE, WIDE],
        (40, 66): [],
    }

    def locate(self, image, request):
        if request.at == "all":
            return None
        size = tuple(image.shape[1:])
        if size == (40, 70):
            raise ValueError("a bug of locate")
        if size not in self.regions:
            raise ImageError("nothing found", where="it", expected="a mark", remedy="make one")
        return self.regions[size]

    def translate(self, images, request):
        self.seen.append(images)
        return images + self.added


class Same(Brighter):
    added = 0.0


class Listener:
    def __init__(self) -> None:
        self.heard: list[Result] = []

    @hookimpl
    def i2i_image_translated(self, result):
        self.heard.append(result)


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


@pytest.fixture
def job(tmp_path, plugins):
    """Run a job over the folder "photos" into "out": its summary and its results by file name."""

    def job(family: Inverse, **options: object) -> tuple[Summary, dict[str, Result]]:
        header = Header(family="brighter", distribution="none 1.0", options={}, request={})
        listener = Listener()
        events = Events(plugins, [listener], pytest.fail)
        request = Look(at=str(options.pop("at", "parts")))
        format_ = options.pop("format_", None)
        plan = make_plan([tmp_path / "photos"], tmp_path / "out", format_=format_)
        try:
            summary = run_job(
                plan, Model(family, header, "0"), Settings(request, **options), events
            )
        finally:
            events.close()
        return summary, {Path(each.input).name: each for each in listener.heard}

    (tmp_path / "photos").mkdir()
    return job


def pixels(width: int, seed: int = 0, dtype: type = np.uint8, channels: int = 3) -> np.ndarray:
    generator = np.random.default_rng(seed)
    peak = np.iinfo(dtype).max
    return generator.integers(peak // 8, peak // 8 * 7, (40, width, channels), dtype=dtype)


def save(path: Path, values: np.ndarray) -> None:
    from i2i.imaging import Picture, encode

    alpha = None
    if values.shape[2] == 4:
        values, alpha = values[..., :3], values[..., 3:]
    path.write_bytes(encode(Picture(values, alpha), path.suffix[1:], str(path)))


def expected(values: np.ndarray, family: Inverse, dtype: type) -> np.ndarray:
    (result,) = translate_batch(family, [to_tensor(values)], Look())
    peak = np.iinfo(dtype).max
    return np.rint((result.permute(1, 2, 0).numpy().astype(float) + 1) / 2 * peak).astype(dtype)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_job_translates_the_regions_and_leaves_the_rest(tmp_path, job, batch_size):
    photos = {f"{width}-{k}.png": pixels(width, k) for width in (60, 62, 64) for k in range(2)}
    photos["deep.png"] = pixels(62, 7, np.uint16)
    for name, values in photos.items():
        save(tmp_path / "photos" / name, values)
    family = Brighter(Fit(multiple=8))
    summary, results = job(family, batch_size=batch_size)
    assert (summary.num_done, summary.num_failed) == (7, 0)
    sizes = [tuple(each.shape) for each in family.seen]
    crops = {(16, 16): 2 + 4 + 2 + 2, (16, 24): 2}
    for size, count in crops.items():
        assert sum(n for n, _, *side in sizes if tuple(side) == size) == count
    assert len(sizes) == sum(crops.values()) or batch_size > 1
    assert max(n for n, *_ in sizes) == batch_size
    for name, values in photos.items():
        made = read_picture(tmp_path / "out" / name).pixels
        assert made.dtype == values.dtype
        wanted = expected(values, Brighter(Fit(multiple=8)), values.dtype)
        assert np.abs(made.astype(int) - wanted).max() <= 1
        changed = (made != values).any(2)
        assert changed[6:22, 4:20].any() or name.startswith("64")
        assert not changed[:, 50:].any()
        count = 1 if name.startswith("60") else 2
        note = f"{count} region{'s' if count > 1 else ''} translated"
        assert results[name].notes == (note,)
        said = read_provenance(read_picture(tmp_path / "out" / name).metadata)
        assert said.digital_source_type == COMPOSITE
    assert summary.notes == {"1 region translated": 2, "2 regions translated": 5}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["rgb", "rgba", "grey"])
def test_unchanged_regions_leave_a_photograph_bit_for_bit(tmp_path, job, dtype, kind):
    values = pixels(62, 3, dtype, {"rgb": 3, "rgba": 4, "grey": 1}[kind])
    if kind == "rgba":
        values[10:15, 8:12, 3] = 0  # hidden, in the midst of a region
    save(tmp_path / "photos" / "a.png", values)
    job(Same(Fit(multiple=8, keeps_grey=True)))
    made = read_picture(tmp_path / "out" / "a.png")
    assert made.pixels.dtype == dtype
    np.testing.assert_array_equal(made.pixels, values[..., :3])
    if kind == "rgba":
        np.testing.assert_array_equal(made.alpha, values[..., 3:])


def test_grey_becomes_colour_and_deep_becomes_shallow_as_ever(tmp_path, job):
    grey = pixels(62, 3, np.uint8, 1)
    slope = np.linspace(9_000, 50_000, 40 * 62).reshape(40, 62, 1)  # kind to a lossy format
    deep = np.repeat(slope, 3, axis=2).astype(np.uint16)
    save(tmp_path / "photos" / "grey.png", grey)
    save(tmp_path / "photos" / "deep.tiff", deep)
    _, results = job(Same(Fit()), format_="webp")
    assert results["grey.png"].notes == (
        "grey became RGB, as the family's results are",
        "2 regions translated",
    )
    assert results["deep.tiff"].notes == (
        "16 bits became 8, as webp holds no more",
        "2 regions translated",
    )
    assert read_picture(tmp_path / "out" / "grey.webp").pixels.shape == (40, 62, 3)
    made = read_picture(tmp_path / "out" / "deep.webp").pixels.astype(int)
    assert np.abs(made - np.rint(deep / 257)).mean() < 2


def test_sizes_are_of_the_photograph_and_the_work_size_of_its_crops(tmp_path, job):
    save(tmp_path / "photos" / "a.png", pixels(60))
    family = Brighter(Fit())
    job(family, work_size=8, restore_size=False)
    assert family.seen[0].shape == (1, 3, 8, 8)
    assert read_picture(tmp_path / "out" / "a.png").size == (40, 60)
    job(family, work_size=8, restore_size=False, box=(30, 30))
    assert read_picture(tmp_path / "out" / "a.png").size == (20, 30)


def test_a_request_for_the_whole_picture_is_answered_as_ever(tmp_path, job):
    values = pixels(60)
    save(tmp_path / "photos" / "a.png", values)
    _, results = job(Brighter(Fit()), at="all")
    made = read_picture(tmp_path / "out" / "a.png")
    wanted = np.minimum(np.rint(values + 0.1 * 127.5), 255)
    assert np.abs(made.pixels - wanted).max() <= 1
    assert results["a.png"].notes == ()
    assert read_provenance(made.metadata).digital_source_type == TRAINED
    assert json.loads(results["a.png"].to_json())["request"] == {"at": "all"}


def test_a_photograph_that_fails_is_named_and_fails_alone(tmp_path, job, caplog):
    for width in (60, 62, 66, 68, 70):
        save(tmp_path / "photos" / f"{width}.png", pixels(width))
    summary, results = job(Brighter(Fit()), batch_size=4)
    assert (summary.num_done, summary.num_failed) == (2, 3)
    photos = tmp_path / "photos"
    for width, words in [
        (66, "family 'inverse': locate returned no region; expected one at least"),
        (68, "it: nothing found; expected a mark; make one."),
        (70, "the family 'brighter' failed on it (ValueError: a bug of locate)"),
    ]:
        error = results[f"{width}.png"].error
        assert error.startswith(f"{photos / f'{width}.png'}: {words}")
        assert not (tmp_path / "out" / f"{width}.png").exists()
    assert "a bug of locate" in caplog.text


def test_a_crop_that_fails_fails_its_photograph_alone(tmp_path, job):
    class Fragile(Brighter):
        def translate(self, images, request):
            if images.shape[3] == 20:
                raise ImageError("too wide", where="it", expected="less", remedy="cut it")
            return super().translate(images, request)

    for width in (60, 62, 64):
        save(tmp_path / "photos" / f"{width}.png", pixels(width))
    summary, results = job(Fragile(Fit()), batch_size=4)
    assert (summary.num_done, summary.num_failed) == (2, 1)
    assert results["64.png"].error == f"{tmp_path / 'photos' / '64.png'}: it: too wide; expected " \
        "less; cut it."  # fmt: skip


def test_a_photograph_that_has_no_room_in_float32_is_refused(tmp_path, job, monkeypatch):
    save(tmp_path / "photos" / "60.png", pixels(60))
    monkeypatch.setattr(inference, "available", lambda: 40 * 60 * 24 - 1)
    _, results = job(Brighter(Fit()))
    assert "finding what to translate of 60x40 pixels needs about" in results["60.png"].error
    monkeypatch.setattr(inference, "available", lambda: 40 * 60 * 24)
    assert job(Brighter(Fit()))[0].num_done == 1


def test_only_the_box_around_a_region_is_ever_float(monkeypatch):
    seen = []

    def watched(pixels):
        seen.append(pixels.shape)
        return to_tensor(pixels)

    monkeypatch.setattr(regions_module, "to_tensor", watched)
    photograph = np.full((200, 300, 3), 7, np.uint8)
    region = turned(30, 1, 90, 90, (16, 16))  # 22 pixels across, with its corners
    crop = cut_out(photograph, region)
    torch.testing.assert_close(crop, to_tensor(np.full((16, 16, 3), 7, np.uint8)))
    paste(photograph.copy(), photograph, [region], [crop])
    assert len(seen) == 2
    assert max(max(shape) for shape in seen) <= 22 + 4


# The kit


class Locating(Tiny):
    """Keeps the rules: two places in most pictures, none in a white one."""

    def locate(self, image, request):
        if float(image.mean()) > 0.9:
            raise ImageError("it is white", where="it", expected="a mark", remedy="make one")
        return [HERE, THERE] if request.strong else None


class Unfinite(Tiny):
    def locate(self, image, request):
        return [Region(((float(image.max() / 0), 0.0, 0.0), (0.0, 1.0, 0.0)), (4, 4))]


class Empty(Tiny):
    def locate(self, image, request):
        return []


class Crashing(Tiny):
    def locate(self, image, request):
        raise ValueError("no detector")


class Drawing(Tiny):
    def locate(self, image, request):
        torch.rand(1)
        return [HERE]


class Counting(Tiny):
    calls = 0

    def locate(self, image, request):
        self.calls += 1
        return [Region(HERE.matrix, (8, 8 + self.calls))]


class Painting(Tiny):
    def locate(self, image, request):
        image.mul_(0.5)
        return [HERE]


class Enlarging(Tiny):
    @property
    def fit(self):
        return Fit(scale=2)

    def locate(self, image, request):
        return [HERE]


class Uninstalled(Tiny):
    def locate(self, image, request):
        raise UsageError("no detector", where="it", expected="the extra", remedy="install it")


def located(family: type[Tiny]) -> None:
    subject = Subject(family, TinyOptions(), lambda seed: pytest.fail("no batch is needed"))
    check_locate(subject, subject.build())


@pytest.mark.parametrize("family", [Tiny, Locating, Uninstalled])
def test_the_kit_passes_families_that_locate_well(family):
    located(family)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (Unfinite, "not finite"),
        (Empty, "it returned no region"),
        (Crashing, r"raises ValueError on \(3, 97, 131\) \(no detector\)"),
        (Drawing, "draws from torch's global generator"),
        (Counting, "differs from call to call"),
        (Painting, "changes its input"),
        (Enlarging, "translates 3 to 3 channels at scale 2"),
    ],
)
def test_the_kit_refuses_families_that_locate_badly_and_says_where(family, words):
    with pytest.raises(PluginError, match=words) as caught:
        located(family)
    assert caught.value.where.endswith(f"test_region_jobs.{family.__name__}.locate")


def test_the_kit_asks_for_regions_among_all_else():
    check_translator(Locating)
    with pytest.raises(PluginError, match="it returned no region"):
        check_translator(Empty)
