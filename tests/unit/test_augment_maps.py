"""The operations behind what a discriminator sees, against SciPy, NumPy and the formulas."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

from i2i import Inputs, Progress
from i2i.augment import adaptive, differentiable
from i2i.augment.chance import Chance
from i2i.augment.warp import warp
from i2i.testing import make_batch

NOW = Progress(seed=3, stage="train", step=5, images=20)
INPUTS = Inputs(("a",), paired=False)


class Told(Chance):
    """Chance that hands out what it is told: uniform numbers in [0, 1), then normal ones."""

    def __init__(self, uniform: list[float], normal: list[float]) -> None:
        self._uniform: Iterator[Tensor] = iter(torch.tensor([u]) for u in uniform)
        self._normal: Iterator[Tensor] = iter(torch.tensor([n]) for n in normal)


class Still(Chance):
    """Chance whose normal numbers are zero."""

    def normal(self) -> Tensor:
        return super().normal() * 0


def chance(number: int, kind: type[Chance] = Chance) -> Chance:
    return kind(make_batch(INPUTS, batch_size=number, shapes={"a": (3, 1, 1)}), NOW, "x")


def picture(height: int, width: int, number: int = 1) -> Tensor:
    return torch.rand(number, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def centred(matrix: np.ndarray) -> Tensor:
    return torch.tensor(matrix, dtype=torch.float32)[None]


def turned(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (13, 22), (20, 9)])
def test_warp_agrees_with_scipy(height: int, width: int) -> None:
    image = picture(height, width)
    matrix = (
        np.diag([1.2, 0.8, 1]) @ turned(0.7) @ np.array([[1, 0.1, 3.3], [0, 1, -7.6], [0, 0, 1]])
    )
    found = warp(image, centred(matrix))[0].numpy()
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])  # SciPy counts rows first, from a corner
    corner = np.array([[1, 0, (height - 1) / 2], [0, 1, (width - 1) / 2], [0, 0, 1]])
    theirs = corner @ swap @ matrix @ swap @ np.linalg.inv(corner)
    for channel in range(3):
        expected = ndimage.affine_transform(
            image[0, channel].numpy(), theirs, order=1, mode="reflect"
        )
        np.testing.assert_allclose(found[channel], expected, atol=2e-5)


def test_warp_by_whole_pixels_is_exact_and_reflects_at_the_edges() -> None:
    image = picture(12, 10)
    shifted = warp(image, adaptive.shift(torch.tensor([3.0]), torch.tensor([-2.0])))
    padded = np.pad(image[0].numpy(), [(0, 0), (4, 4), (4, 4)], mode="symmetric")
    np.testing.assert_allclose(shifted[0].numpy(), padded[:, 2:14, 7:17], atol=1e-5)
    mirrored = warp(image, adaptive.enlargement(torch.tensor([-1.0]), torch.tensor([1.0])))
    torch.testing.assert_close(mirrored, image.flip(-1), atol=1e-5, rtol=0)
    square = picture(11, 11)
    quarter = warp(square, adaptive.rotation(torch.tensor([math.pi / 2])))
    torch.testing.assert_close(quarter, square.rot90(1, (2, 3)), atol=1e-5, rtol=0)


def test_enlargement_shows_less_of_the_picture() -> None:
    image = torch.zeros(1, 1, 16, 16)
    image[..., 6:10, 6:10] = 1  # a square of 4 pixels becomes one of 8 by 4
    larger = warp(image, adaptive.enlargement(torch.tensor([2.0]), torch.tensor([1.0])))
    assert larger.sum() == pytest.approx(32)


def test_warp_is_the_identity_bit_by_bit_for_the_pictures_that_do_not_move() -> None:
    image = picture(9, 14, 3)
    matrices = torch.eye(3).repeat(3, 1, 1)
    matrices[1, 0, 2] = 0.5
    found = warp(image, matrices)
    assert torch.equal(found[[0, 2]], image[[0, 2]])
    assert not torch.equal(found[1], image[1])


def test_warp_has_first_and_second_derivatives() -> None:
    image = picture(5, 6, 2).double().requires_grad_()
    matrices = torch.tensor(turned(0.4) @ np.diag([0.9, 1.1, 1])).repeat(2, 1, 1)
    assert torch.autograd.gradcheck(lambda x: warp(x, matrices), image)
    assert torch.autograd.gradgradcheck(lambda x: warp(x, matrices) ** 2, image)


def scales(x: float, y: float) -> np.ndarray:
    return np.diag([x, y, 1])


def moves(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def test_pixel_operations_compose_in_the_papers_order() -> None:
    """Forward, one after another; the code composes the inverses."""
    told = Told([0.1, 0.9, 0.3, 0.1, 0.1, 0.9, 0.2], [])  # flip, a quarter turn, a shift
    found = adaptive.draw_pixels(told, torch.tensor(0.5), (32, 32))[0].numpy()
    shift = moves(round(0.1 * 32), round(-0.075 * 32))
    forward = np.linalg.inv(shift) @ turned(-math.pi / 2) @ scales(-1, 1)
    np.testing.assert_allclose(found, np.linalg.inv(forward), atol=1e-6)


def test_geometry_composes_in_the_papers_order() -> None:
    uniform = [0.1, 0.05, 0.7, 0.1, 0.05, 0.2, 0.1]
    normal = [0.5, -1.5, 0.8, -0.6]
    found = adaptive.draw_geometry(Told(uniform, normal), torch.tensor(0.5), (20, 40))[0].numpy()
    before, after = 0.4 * math.pi, -0.6 * math.pi
    one, two = 2 ** (0.2 * 0.5), 2 ** (0.2 * -1.5)
    forward = turned(-before) @ scales(one, one)
    forward = turned(-after) @ scales(two, 1 / two) @ forward
    forward = moves(-0.125 * 0.8 * 40, 0.125 * 0.6 * 20) @ forward
    np.testing.assert_allclose(found, np.linalg.inv(forward), atol=1e-5)


def test_nothing_happens_where_chance_is_above_p() -> None:
    told = Told([0.6, 0.9] * 8, [1.0] * 8)
    p = torch.tensor(0.5)
    for matrix in (adaptive.draw_pixels(told, p, (8, 8)), adaptive.draw_geometry(told, p, (8, 8))):
        assert torch.equal(matrix[0], torch.eye(3))
    colour = adaptive.draw_colour(Told([0.6, 0.6, 0.6, 0.9, 0.6, 0.9, 0.6], [1.0] * 4), p)
    assert torch.equal(colour[0], torch.eye(3, 4))


def test_colours_agree_with_the_operations_done_one_by_one() -> None:
    image = picture(5, 4, 1)
    uniform, normal = [0.1, 0.1, 0.1, 0.9, 0.1, 0.8, 0.1], [0.7, -0.4, 1.1]
    pixels = image[0].permute(1, 2, 0).reshape(-1, 3).double().numpy()
    pixels = (pixels + 0.2 * 0.7) * 2 ** (0.5 * -0.4)
    luma = pixels.mean(1, keepdims=True)
    pixels = pixels - 2 * luma
    pixels = Rotation.from_rotvec(0.6 * math.pi * np.ones(3) / math.sqrt(3)).apply(pixels)
    luma = pixels.mean(1, keepdims=True)
    pixels = luma + (pixels - luma) * 2**1.1
    # the order in which the numbers are asked for: contrast before luma flip, hue, saturation
    colour = adaptive.draw_colour(Told(uniform, normal), torch.tensor(0.5))
    found = adaptive.recolour(image, colour)[0].permute(1, 2, 0).reshape(-1, 3)
    np.testing.assert_allclose(found.numpy(), pixels, atol=1e-5)


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_pixel_operations_happen_as_often_as_p_says(p: float) -> None:
    number = 4000
    found = adaptive.draw_pixels(chance(number), torch.tensor(p), (64, 64))
    error = 4 * math.sqrt(0.25 / number)
    assert abs((torch.linalg.det(found) < 0).float().mean() - p / 2) < error
    # the lower row knows nothing of the mirror, which is left and right
    turns = torch.atan2(found[:, 1, 0], found[:, 1, 1]).div(math.pi / 2).round() % 4
    for quarter in (1, 2, 3):
        assert abs((turns == quarter).float().mean() - p / 4) < error
    offsets = torch.linalg.inv(found[:, :2, :2]) @ found[:, :2, 2:]
    assert torch.allclose(offsets, offsets.round(), atol=1e-4)
    assert offsets.abs().max().round() == 8
    assert abs((offsets.abs() > 0.5).any(1).float().mean() - p * (1 - 1 / 17**2)) < 2 * error


@pytest.mark.parametrize("p", [0.3, 0.8])
def test_geometry_happens_as_often_and_as_strongly_as_the_paper_says(p: float) -> None:
    number = 4000
    error = 4 * math.sqrt(0.25 / number)
    found = adaptive.draw_geometry(chance(number), torch.tensor(p), (64, 64))[:, :2, :2]
    scale = -0.5 * torch.log2(torch.linalg.det(found))  # rotations and stretches keep areas
    scaled = scale.abs() > 1e-5
    assert abs(scaled.float().mean() - p) < error
    assert abs(scale[scaled].std() - 0.2) < 0.02
    ratios = torch.linalg.svdvals(found)
    stretch = 0.5 * torch.log2(ratios[:, 0] / ratios[:, 1])
    assert abs((stretch > 1e-4).float().mean() - p) < error
    assert abs(stretch[stretch > 1e-4].square().mean().sqrt() - 0.2) < 0.02
    turned_only = adaptive.draw_geometry(chance(number, Still), torch.tensor(p), (64, 64))
    angles = torch.atan2(turned_only[:, 1, 0], turned_only[:, 0, 0])
    assert abs((angles.abs() > 1e-6).float().mean() - p) < error  # one of two rotations, or both


def test_pictures_that_are_not_square_are_turned_by_half_turns_only() -> None:
    found = adaptive.draw_pixels(chance(200), torch.tensor(1.0), (32, 48))[:, :2, :2]
    assert found[:, 0, 1].abs().max() < 1e-6
    assert {round(each) for each in found[:, 1, 1].tolist()} == {-1, 1}


def test_always_applied_colour_is_the_papers_formula() -> None:
    image = torch.cat([picture(6, 5), picture(6, 5).flip(-1) * 0.5], dim=1)
    found = differentiable.colour(image, Told([0.9, 0.2, 0.7], []))[0].double().numpy()
    for part in (0, 3):
        x = image[0, part : part + 3].double().numpy() + 0.4
        grey = x.mean(0)
        x = grey + (x - grey) * 0.4
        x = x.mean() + (x - x.mean()) * 1.2
        np.testing.assert_allclose(found[part : part + 3], x, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 20), (100, 8)])
def test_translation_shifts_up_to_an_eighth_and_zeros_come_in(height: int, width: int) -> None:
    image = picture(height, width)
    reach = {8: 1, 9: 1, 16: 2, 20: 3, 100: 13}  # halves go up
    most = reach[height], reach[width]
    padded = np.pad(image[0].numpy(), [(0, 0), (most[0],) * 2, (most[1],) * 2])
    known = {
        padded[:, y : y + height, x : x + width].tobytes()
        for y in range(2 * most[0] + 1)
        for x in range(2 * most[1] + 1)
    }
    many = differentiable.translation(image.expand(1000, -1, -1, -1), chance(1000))
    assert {(each + 0.0).numpy().tobytes() for each in many} == {
        (np.frombuffer(each, np.float32) + 0.0).tobytes() for each in known
    }


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 20)])
def test_cutout_blanks_half_of_each_side_about_any_place(height: int, width: int) -> None:
    image = torch.ones(600, 3, height, width)
    cut = differentiable.cutout(image, chance(600))
    assert ((cut == 0) | (cut == 1)).all()
    assert torch.equal(cut[:, 0], cut[:, 2])
    for lines, length in ((cut[:, 0].amin(2), height), (cut[:, 0].amin(1), width)):
        found = {tuple(torch.nonzero(each == 0).flatten().tolist()) for each in lines}
        half = (length + 1) // 2
        places = range(-(half // 2), length - half // 2 + (half + 1) % 2)
        assert found == {tuple(range(max(p, 0), min(p + half, length))) for p in places}
    centre = cut[:, 0, height // 2, width // 2]
    assert abs((centre == 0).float().mean() - 0.25) < 0.1
