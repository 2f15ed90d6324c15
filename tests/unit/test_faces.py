import hashlib
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.transform import SimilarityTransform
from torch import Tensor, nn

import i2i_face_aging.faces
from i2i.errors import ImageError
from i2i_face_aging import faces as module
from i2i_face_aging.faces import TEMPLATE, Face, Finder, align, find_faces, misplaced
from i2i_face_aging.mtcnn import (
    _apart,
    _halvings,
    _looked,
    _points,
    _square,
    detector,
    similarity,
)

Array = NDArray[np.float64]
CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))
SHIPPED = Path(i2i_face_aging.faces.__file__).parent / "shipped"


def shared(name: str) -> Path:
    folder = Path(os.environ.get("I2I_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))
    if not (folder / name).exists():
        pytest.skip(f"{name} is not here: set I2I_SHARED_DATA")
    return folder / name


def opened(path: Path) -> NDArray[np.uint8]:
    return np.array(Image.open(path).convert("RGB"))


def utkface(count: int) -> list[NDArray[np.uint8]]:
    """Return held-out faces, which the template was not measured on."""
    paths = shared("utkface").rglob("*.jpg")
    order = sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())
    return [opened(path) for path in order[:count]]


def turned(degrees: float, scale: float, centre: tuple[float, float]) -> Array:
    """Return the 2x3 matrix from a crop of 128 pixels to a photograph."""
    angle = np.radians(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, np.array(centre) - turn @ [63.5, 63.5]])


def at(matrix: object, points: object) -> Array:
    matrix, points = np.asarray(matrix), np.asarray(points)
    return points @ matrix[:, :2].T + matrix[:, 2]


def face_at(matrix: Array, side: int) -> Face:
    """Return a face that lies in a crop as the template says."""
    points = at(matrix, np.array(TEMPLATE) * side - 0.5)
    return Face((0, 0, 1, 1), tuple(map(tuple, points.tolist())), 1.0)


# Cutting


@pytest.mark.parametrize("degrees", [0, 20, -75, 180])
def test_the_crop_of_a_face_is_the_one_that_it_lies_in_as_the_template_says(degrees: float) -> None:
    truth = turned(degrees, 1.0, (300, -20))
    region = align(face_at(truth, 128))
    assert region.size == (128, 128)
    np.testing.assert_allclose(region.matrix, truth, atol=1e-9)


def test_a_large_face_is_cut_pixel_by_pixel_and_a_small_one_to_64_pixels() -> None:
    large = align(face_at(turned(10, 3.0, (500, 500)), 128))
    assert large.size == (384, 384)
    small = align(face_at(turned(10, 0.25, (500, 500)), 128))
    assert small.size == (64, 64)
    for region, scale in ((large, 1.0), (small, 0.5)):
        matrix = np.array(region.matrix)
        assert np.hypot(*matrix[:, 0]) == pytest.approx(scale)
        corner = at(matrix, np.array(CORNERS) * region.size[0] - 0.5)
        np.testing.assert_allclose(corner.mean(0), (500, 500), atol=1e-9)


def test_a_face_unlike_the_template_is_cut_with_the_least_squared_error() -> None:
    generator = np.random.default_rng(0)
    template = np.array(TEMPLATE)
    points = template * 90 + generator.normal(0, 6, template.shape) + 200
    oracle = SimilarityTransform.from_estimate(template, points)
    slope, origin = similarity(
        torch.tensor(template), torch.view_as_complex(torch.tensor(points)[None])
    )
    assert complex(slope) == pytest.approx(complex(oracle.params[0, 0], oracle.params[1, 0]))
    assert complex(origin) == pytest.approx(complex(*oracle.translation))


def test_no_face_is_mirrored_to_fit() -> None:
    mirrored = np.array(TEMPLATE) * (-100, 100) + (100, 0)
    region = align(Face((0, 0, 1, 1), tuple(map(tuple, mirrored.tolist())), 1.0))
    assert np.linalg.det(np.array(region.matrix)[:, :2]) > 0


# The detector's parts


class Remembers(nn.Module):
    """Takes crops (n, 3, s, s) to their red and green, and keeps them."""

    def forward(self, crops: Tensor) -> Tensor:
        self.crops = crops
        return crops.new_zeros(len(crops), 16)


def test_a_frame_is_cut_out_as_it_lies_and_at_the_level_of_its_size() -> None:
    y, x = torch.meshgrid(torch.arange(400.0), torch.arange(600.0), indexing="ij")
    picture = torch.stack([x + 0.5, y + 0.5, torch.zeros_like(x)])  # each pixel says where it is
    frames = torch.tensor([[300.0, 200, 12, 0], [310, 190, 60, 30], [250, 210, -20, 40]])
    network = Remembers()
    _looked(network, _halvings(picture), frames, 24)
    across = (torch.arange(24) + 0.5) / 12 - 1
    for (left, top, right, down), crop in zip(frames.tolist(), network.crops, strict=True):
        wanted_x = left + across[None] * right - across[:, None] * down
        wanted_y = top + across[None] * down + across[:, None] * right
        torch.testing.assert_close(crop[0], wanted_x, atol=0.02, rtol=0)
        torch.testing.assert_close(crop[1], wanted_y, atol=0.02, rtol=0)


def test_a_pattern_too_fine_for_the_network_is_averaged_away() -> None:
    picture = torch.zeros(3, 384, 384)
    picture[:, :, ::2] = 1.0
    network = Remembers()
    _looked(network, _halvings(picture), torch.tensor([[192.0, 192, 170, 0]]), 24)
    torch.testing.assert_close(network.crops, torch.full((1, 3, 24, 24), 0.5), atol=0.02, rtol=0)


def test_beyond_the_picture_a_frame_shows_its_edge() -> None:
    network = Remembers()
    picture = torch.linspace(0, 1, 100).expand(3, 100, 100)
    _looked(network, _halvings(picture), torch.tensor([[0.0, 50, 12, 0]]), 24)
    assert (network.crops[:, :, :, :12] == 0).all()


def test_points_are_fractions_of_the_square_in_a_frame() -> None:
    frame = torch.tensor([[10.0, 20, 0, 4]])  # a quarter turn: right is down, down is left
    fractions = torch.tensor([[0.0, 1, 0.5, 0, 1, 0, 0, 0.5, 1, 1]])
    points = _points(fractions, frame)[0]
    wanted = torch.tensor([[14.0, 16], [14, 24], [10, 20], [6, 16], [6, 24]])
    torch.testing.assert_close(points, wanted)


def test_a_box_becomes_the_square_about_its_centre() -> None:
    frame = _square(torch.tensor([[0.0, 10, 8, 30]]))
    torch.testing.assert_close(frame, torch.tensor([[4.0, 20, 10, 0]]))


def test_of_boxes_that_overlap_the_best_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [0, 0, 5, 5]])
    scores = torch.tensor([0.7, 0.9, 0.7, 0.95])
    assert _apart(boxes, scores, 0.5).tolist() == [3, 1, 2]
    assert _apart(boxes, scores, 0.5, of_smaller=True).tolist() == [3, 2]
    assert _apart(boxes, torch.full((4,), 0.5), 0.5).tolist() == [0, 2, 3]
    assert _apart(boxes[:0], scores[:0], 0.5).tolist() == []


def test_the_first_network_sees_12_pixels_and_steps_by_two() -> None:
    networks = detector()
    assert networks.propose(torch.zeros(1, 3, 12, 12)).shape == (1, 6, 1, 1)
    assert networks.propose(torch.zeros(1, 3, 12, 22)).shape == (1, 6, 1, 6)
    assert networks.refine(torch.zeros(1, 3, 24, 24)).shape == (1, 6)
    assert networks.decide(torch.zeros(1, 3, 48, 48)).shape == (1, 16)


def test_reading_the_networks_draws_nothing() -> None:
    detector.cache_clear()
    before = torch.get_rng_state()
    detector()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_weights_are_the_documented_ones() -> None:
    stated = re.findall(
        r"## mtcnn\.safetensors.*?sha256\*\* ([0-9a-f]{64})",
        (SHIPPED / "README.md").read_text(),
        re.S,
    )
    assert stated == [hashlib.sha256((SHIPPED / "mtcnn.safetensors").read_bytes()).hexdigest()]
    assert "Permission is hereby granted" in (SHIPPED / "mtcnn.LICENCE.txt").read_text()


# Photographs


@pytest.mark.parametrize("shape", [(1, 1), (5, 400), (64, 64), (300, 200)])
def test_where_there_is_no_face_none_is_found(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert find_faces(pixels) == ()
    assert misplaced(pixels) == "no face was found in it"


def test_a_photograph_without_a_face_is_refused_in_words() -> None:
    with pytest.raises(ImageError, match=r"no face was found.*24 pixels.*face=aligned"):
        Finder()(torch.zeros(3, 64, 64))


def test_the_last_photograph_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[float] = []

    def found(pixels: NDArray[np.uint8]) -> tuple[Face, ...]:
        looked.append(float(pixels.mean()))
        return (Face((4, 4, 60, 60), tuple((64 * x, 64 * y) for x, y in TEMPLATE), 1.0),)

    monkeypatch.setattr(module, "find_faces", found)
    finder = Finder()
    grey, white = torch.zeros(3, 64, 64), torch.ones(3, 64, 64)
    assert finder(grey) == finder(grey.clone())
    finder(white)
    finder(grey)
    assert looked == [128, 255, 128]


@pytest.fixture(scope="module")
def rushmore() -> NDArray[np.uint8]:
    return opened(shared("photos/monuments_mountRushmore.jpg"))


def test_four_presidents_are_found_largest_first(rushmore: NDArray[np.uint8]) -> None:
    faces = find_faces(rushmore)
    assert [face.side for face in faces] == sorted((face.side for face in faces), reverse=True)
    noses = sorted(face.points[2] for face in faces)
    # the tips of the noses, seen on a copy four times larger
    by_eye = [(403, 324), (504, 365), (583, 429), (670, 431)]
    np.testing.assert_allclose(noses, by_eye, atol=10)


def test_a_photograph_has_the_same_faces_every_time_and_in_16_bits(
    rushmore: NDArray[np.uint8],
) -> None:
    part = rushmore[240:440, 340:620]
    faces = find_faces(part)
    assert faces
    assert find_faces(part) == faces
    assert find_faces(part.astype(np.uint16) * 257) == faces


def test_a_face_in_a_large_photograph_is_found_on_a_reduced_copy() -> None:
    (crop,) = utkface(1)
    photograph = np.full((1000, 4800, 3), 128, np.uint8)
    photograph[200:712, 3000:3512] = np.array(Image.fromarray(crop).resize((512, 512)))
    (face,) = find_faces(photograph)
    region = align(face)
    corners = at(region.matrix, np.array(CORNERS) * region.size[0] - 0.5)
    truth = np.array(CORNERS) * 512 + (2999.5, 199.5)
    assert np.hypot(*(corners - truth).T).mean() < 0.1 * 512


def test_faces_are_cut_as_they_were_pasted() -> None:
    y, x = np.mgrid[0:480, 0:640] / 640
    photograph = np.stack([90 + 60 * x, 120 + 40 * y, 150 - 50 * x], 2).astype(np.uint8)
    placed = [
        turned(-20, 0.5, (80, 100)),
        turned(20, 1.0, (230, 130)),
        turned(-12, 2.0, (460, 200)),
        turned(8, 0.75, (120, 330)),
        turned(35, 0.9, (300, 380)),
    ]
    crops = utkface(len(placed))
    for crop, matrix in zip(crops, placed, strict=True):
        inside = cv2.warpAffine(np.full((128, 128), 1.0), matrix, (640, 480))[..., None]
        sharp = cv2.warpAffine(crop, matrix, (640, 480), flags=cv2.INTER_LINEAR)
        photograph = (photograph * (1 - inside) + sharp * inside).round().astype(np.uint8)
    regions = [align(face) for face in find_faces(photograph)]
    assert len(regions) == len(placed)
    for crop, matrix in zip(crops, placed, strict=True):
        truth = at(matrix, np.array(CORNERS) * 128 - 0.5)
        apart = [
            np.hypot(*(at(r.matrix, np.array(CORNERS) * r.size[0] - 0.5) - truth).T).mean()
            / (128 * np.hypot(*matrix[:, 0]))
            for r in regions
        ]
        assert min(apart) < 0.1  # of the side; a random pair of faces is apart by over 0.5
        region = regions[int(np.argmin(apart))]
        assert likeness(crop, photograph, region.matrix, region.size[0]) > 0.8


def likeness(
    crop: NDArray[np.uint8], photograph: NDArray[np.uint8], to: object, side: int
) -> float:
    """Return the correlation of a face with what a region shows of a photograph."""
    scale = side / 128
    matrix = np.array(to) @ np.array(
        [[scale, 0, scale / 2 - 0.5], [0, scale, scale / 2 - 0.5], [0, 0, 1]]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(
        photograph, matrix, (128, 128), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    inner = np.s_[16:112, 16:112]
    return float(np.corrcoef(cut[inner].ravel(), crop[inner].ravel())[0, 1])


# Data that should be aligned


def test_faces_of_utkface_are_in_their_place() -> None:
    remarks = [misplaced(face) for face in utkface(20)]
    assert sum(remark is not None for remark in remarks) <= 1


@pytest.mark.parametrize(("degrees", "scale", "shift"), [(0, 1, 20), (20, 1, 0), (0, 0.65, 0)])
def test_faces_that_were_moved_are_out_of_place(degrees: float, scale: float, shift: float) -> None:
    matrix = turned(degrees, scale, (63.5 + shift, 63.5))
    remarks = [
        misplaced(cv2.warpAffine(face, matrix, (128, 128), borderMode=cv2.BORDER_REPLICATE))
        for face in utkface(10)
    ]
    said = r"its face is [1-9]\d% of the side away from where it should be|no face was found in it"
    assert all(re.fullmatch(said, remark or "") for remark in remarks)
    assert sum("away" in (remark or "") for remark in remarks) >= 8


def test_two_faces_in_one_picture_are_counted() -> None:
    assert misplaced(np.concatenate(utkface(2), 1)) == "2 faces were found in it"
