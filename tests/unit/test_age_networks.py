"""The networks of face ageing against the same in plain torch, from their descriptions."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i_face_aging.ages import AGE_GROUPS, AgeRequest, group_of, middle_of, span_of
from i2i_face_aging.latent_networks import LatentDiscriminator, LatentEncoder, LatentGenerator
from i2i_face_aging.networks import AgeDiscriminator, AgingGenerator, age_features

Weights = Mapping[str, Tensor]


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight and running statistic the size of a trained network's, in float64."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            else:
                tensor += 0.1 * torch.randn(tensor.shape, generator=generator)
    return network.double()


def normal(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def normalised(x: Tensor, over: tuple[int, ...] = (2, 3)) -> Tensor:
    apart = x - x.mean(over, keepdim=True)
    return apart / (apart.square().mean(over, keepdim=True) + 1e-5).sqrt()


def convolved(weights: Weights, name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), stride, padding)


def enlarged(weights: Weights, name: str, x: Tensor) -> Tensor:
    """A transposed convolution is the gradient of one: its kernel is laid around each pixel."""
    weight = weights[f"{name}.weight"]
    made = x.new_zeros(len(x), weight.shape[1], 2 * x.shape[2] + 2, 2 * x.shape[3] + 2)
    for row in range(4):
        for column in range(4):
            part = torch.einsum("nihw,io->nohw", x, weight[:, :, row, column])
            places = (
                slice(row, row + 2 * x.shape[2], 2),
                slice(column, column + 2 * x.shape[3], 2),
            )
            made[:, :, places[0], places[1]] += part
    bias = weights.get(f"{name}.bias", torch.zeros(made.shape[1], dtype=made.dtype))
    return made[:, :, 1:-1, 1:-1] + bias[:, None, None]


# Ages


@pytest.mark.parametrize(
    ("age", "group"),
    [
        (0, "0-18"),
        (18, "0-18"),
        (18.99, "0-18"),
        (19, "19-29"),
        (29.5, "19-29"),
        (30, "30-39"),
        (40, "40-49"),
        (49.99, "40-49"),
        (50, "50-59"),
        (59, "50-59"),
        (60, "60+"),
        (116, "60+"),
    ],
)
def test_age_belongs_to_the_group_that_names_it(age, group):
    assert AGE_GROUPS[group_of(age)] == group


def test_every_whole_age_is_in_the_group_whose_name_has_it():
    named = [
        place
        for place, name in enumerate(AGE_GROUPS[:-1])
        for _ in range(int(name.split("-")[0]), int(name.split("-")[1]) + 1)
    ]
    assert [group_of(age) for age in range(101)] == named + [5] * 41


def test_middle_of_a_group_is_in_it_and_spans_touch():
    assert [group_of(middle_of(place)) for place in range(6)] == [*range(6)]
    assert [middle_of(place) for place in range(5)] == [9.0, 24.0, 34.5, 44.5, 54.5]
    ends = [span_of(place) for place in range(6)]
    assert [start for start, _ in ends[1:]] == [end for _, end in ends[:-1]]


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ({}, middle_of(5)),
        ({"age_group": "19-29"}, 24.0),
        ({"age_group": "0-18"}, 9.0),
        ({"age": 0}, 0.0),
        ({"age": 33.5}, 33.5),
    ],
)
def test_target_is_the_age_or_the_middle_of_the_group(asked, target):
    assert AgeRequest.model_validate(asked).target == target


def test_features_of_an_age_are_itself_and_four_waves():
    """At a quarter of a hundred years all waves have values that are known."""
    root = math.sqrt(0.5)
    expected = [[-0.5, root, 1.0, 0.0, 0.0, root, 0.0, -1.0, 1.0]]
    torch.testing.assert_close(age_features(torch.tensor([25.0])), torch.tensor(expected))
    expected = [[-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]]
    torch.testing.assert_close(age_features(torch.tensor([0.0])), torch.tensor(expected))
    assert age_features(torch.arange(5)).dtype == torch.float32


def test_ages_beyond_a_hundred_count_as_a_hundred_and_no_others_are_alike():
    oldest, older = age_features(torch.tensor([100.0, 116.0]))
    assert torch.equal(oldest, older)
    features = age_features(torch.arange(101.0))
    apart = torch.cdist(features, features) + 9 * torch.eye(101)
    assert apart.min() > 0.1


# Image-conditional


def plain_generator(weights: Weights, faces: Tensor, features: Tensor, num_blocks: int) -> Tensor:
    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def block(name: str, x: Tensor) -> Tensor:
        changes = linear(f"{name}.ages", ages)[:, :, None, None]
        width = x.shape[1]
        a, b, c, d = (changes[:, place * width : (place + 1) * width] for place in range(4))
        y = leaky((1 + a) * normalised(x) + b)
        y = leaky((1 + c) * normalised(convolved(weights, f"{name}.first", y)) + d)
        return x + convolved(weights, f"{name}.second", y)

    ages = linear("embed.0", features)
    ages = linear("embed.2", ages * ages.sigmoid())
    ages = ages * ages.sigmoid()
    height, width = faces.shape[2:]
    corners = [faces[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    half = torch.stack(corners, 2).reshape(len(faces), 12, height // 2, width // 2)
    half = leaky(convolved(weights, "stem", half))
    quarter = leaky(convolved(weights, "reduce.0", half, 2))
    x = leaky(convolved(weights, "reduce.1", quarter, 2))
    for place in range(num_blocks):
        x = block(f"blocks.{place}", x)
    for place, beside in enumerate((quarter, half)):
        x = torch.cat([x.repeat_interleave(2, 2).repeat_interleave(2, 3), beside], 1)
        x = block(f"refine.{place}", leaky(convolved(weights, f"enlarge.{place}", x)))
    x = torch.cat([doubled(x), faces], 1)
    return convolved(weights, "last", leaky(convolved(weights, "beside", x)))


def doubled(x: Tensor) -> Tensor:
    """Bilinear: 3/4 of the nearest and 1/4 of the next pixel, borders repeated."""
    for axis in (2, 3):
        places = torch.arange(x.shape[axis])
        sides = [
            0.75 * x + 0.25 * x.index_select(axis, (places + by).clamp(0, len(places) - 1))
            for by in (-1, 1)
        ]
        x = torch.stack(sides, axis + 1).flatten(axis, axis + 1)
    return x


@pytest.mark.parametrize("num_blocks", [0, 2])
def test_aging_generator_is_what_it_says(num_blocks):
    torch.manual_seed(0)
    network = lively(AgingGenerator(4, num_blocks))
    given: list[Tensor] = []

    def cast(_: nn.Module, waves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        given.append(waves[0].double())
        return (given[-1],)

    network.embed.register_forward_pre_hook(cast)
    faces, source, target = normal(2, 3, 16, 24), torch.tensor([20.0, 70]), torch.tensor([50.0, 3])
    found = network(faces, source, target)
    expected = plain_generator(network.state_dict(), faces, given[0], num_blocks)
    assert found.shape == faces.shape
    torch.testing.assert_close(found, expected)
    features = torch.cat([age_features(source), age_features(target)], 1).double()
    assert torch.equal(given[0], features)


def test_aging_generator_begins_with_small_changes_that_know_both_ages():
    torch.manual_seed(0)
    network = AgingGenerator(8, 1).eval()
    faces = torch.rand(1, 3, 64, 64) * 2 - 1
    one, other = torch.tensor([20.0]), torch.tensor([60.0])
    with torch.no_grad():
        changes = [network(faces, *ages) for ages in ((one, other), (other, one), (one, one))]
    assert all(each.abs().mean() < 0.1 for each in changes)
    assert not torch.equal(changes[0], changes[1])
    assert not torch.equal(changes[0], changes[2])


def count(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


def convolution(seen: int, made: int, side: int, bias: bool = True) -> int:
    return made * (seen * side**2 + bias)


def block(width: int) -> int:
    return 2 * convolution(width, width, 3) + 129 * 4 * width


def test_numbers_of_parameters_of_the_image_conditional_networks_add_up():
    w = 32
    expected = 19 * 128 + 129 * 128 + convolution(12, w, 3)
    expected += convolution(w, 2 * w, 4) + convolution(2 * w, 4 * w, 4)
    expected += 4 * block(4 * w) + block(2 * w) + block(w)
    expected += convolution(6 * w, 2 * w, 3) + convolution(3 * w, w, 3)
    expected += convolution(w + 3, w // 2, 3) + convolution(w // 2, 3, 3)
    assert count(AgingGenerator(w, 4)) == expected
    w = 48
    expected = convolution(3, w, 4) + convolution(w + 9, 2 * w, 4) + convolution(2 * w, 4 * w, 4)
    expected += convolution(4 * w, 8 * w, 4) + convolution(8 * w, 1, 3)
    assert count(AgeDiscriminator(w)) == expected


def test_age_discriminator_is_what_it_says():
    torch.manual_seed(0)
    network = lively(AgeDiscriminator(3))
    faces, ages, weights = normal(2, 3, 64, 80), normal(2, 9, seed=2), network.state_dict()
    ((*layers, logits),) = network(faces, ages)
    x = leaky(convolved(weights, "first", faces, 2))
    expected = [x]
    x = torch.cat([x, ages[:, :, None, None] * torch.ones_like(x[:, :1])], 1)
    for place in range(3):
        x = leaky(convolved(weights, f"others.{place}", x, 2))
        expected.append(x)
    for found, wanted in zip(layers, expected, strict=True):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(logits, convolved(weights, "last", x))
    assert logits.shape == (2, 1, 4, 5)


# Latent


def batch_normalised(weights: Weights, name: str, x: Tensor, running: bool) -> Tensor:
    if running:
        mean, variance = (weights[f"{name}.running_{n}"][:, None, None] for n in ("mean", "var"))
        x = (x - mean) / (variance + 1e-5).sqrt()
    else:
        x = normalised(x, (0, 2, 3))
    scale, offset = (weights[f"{name}.{n}"][:, None, None] for n in ("weight", "bias"))
    return x * scale + offset


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("side", [64, 128])
def test_latent_generator_is_dcgans_beside_a_group(side, running):
    torch.manual_seed(0)
    network = lively(LatentGenerator(side, 5, 2))
    weights = {name: each.clone() for name, each in network.state_dict().items()}
    latents, groups = normal(3, 5), torch.eye(6, dtype=torch.float64)[:3]
    with torch.no_grad():
        found = network(latents, groups, running=running)
    given = torch.cat([latents, groups], 1)
    x = torch.einsum("ni,iohw->nohw", given, weights["first.weight"])
    num_enlarged = int(math.log2(side)) - 3
    assert x.shape[1] == 2 * 2**num_enlarged
    for place in range(num_enlarged):
        x = torch.relu(batch_normalised(weights, f"norms.{place}", x, running))
        x = enlarged(weights, f"enlarge.{place}", x)
    x = torch.relu(batch_normalised(weights, f"norms.{num_enlarged}", x, running))
    torch.testing.assert_close(found, torch.tanh(enlarged(weights, "last", x)))
    assert found.shape == (3, 3, side, side)
    moved = [n for n, each in network.state_dict().items() if not torch.equal(each, weights[n])]
    assert bool(moved) != running  # statistics are kept in training alone


def test_latent_discriminator_is_dcgans_with_the_group_behind_its_first_convolution():
    torch.manual_seed(0)
    network = lively(LatentDiscriminator(64, 2))
    weights = {name: each.clone() for name, each in network.state_dict().items()}
    faces, groups = normal(3, 3, 64, 64), torch.eye(6, dtype=torch.float64)[3:]
    ((*layers, logits),) = network(faces, groups)
    x = leaky(convolved(weights, "first", faces, 2))
    expected = [x]
    x = torch.cat([x, groups[:, :, None, None] * torch.ones_like(x[:, :1])], 1)
    for place in range(3):
        x = convolved(weights, f"others.{place}", x, 2)
        x = leaky(batch_normalised(weights, f"norms.{place}", x, running=False))
        expected.append(x)
    for found, wanted in zip(layers, expected, strict=True):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(logits, convolved(weights, "last", x, padding=0))
    assert logits.shape == (3, 1, 1, 1)


@pytest.mark.parametrize("running", [True, False])
def test_latent_encoder_is_what_it_says(running):
    torch.manual_seed(0)
    network = lively(LatentEncoder(64, 7, 2, 11))
    weights = {name: each.clone() for name, each in network.state_dict().items()}
    faces = normal(4, 3, 64, 64)
    with torch.no_grad():
        found = network(faces, running=running)
    x = faces
    for place in range(4):
        x = convolved(weights, f"reduce.{place}", x, 2, 2)
        x = torch.relu(batch_normalised(weights, f"norms.{place}", x, running))
    x = (x.flatten(1) @ weights["hidden.weight"].flatten(1).T)[:, :, None, None]
    x = torch.relu(batch_normalised(weights, "hidden_norm", x, running)).flatten(1)
    torch.testing.assert_close(found, x @ weights["last.weight"].T + weights["last.bias"])
    assert found.shape == (4, 7)


def test_numbers_of_parameters_of_the_latent_networks_are_dcgans():
    """Convolutions of 1024, 512, 256 and 128 channels (arXiv:1511.06434, figure 1), and norms."""
    made = LatentGenerator(64, 100, 128)
    expected = 106 * 1024 * 16
    expected += (1024 * 512 + 512 * 256 + 256 * 128) * 16 + 128 * 3 * 16 + 3
    expected += 2 * (1024 + 512 + 256 + 128)
    assert count(made) == expected
    judge = LatentDiscriminator(64, 64)
    expected = convolution(3, 64, 4) + (70 * 128 + 128 * 256 + 256 * 512) * 16
    expected += 2 * (128 + 256 + 512) + 512 * 16 + 1
    assert count(judge) == expected
    encoder = LatentEncoder(64, 100, 32, 4096)
    expected = (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256) * 25 + 2 * (32 + 64 + 128 + 256)
    expected += 256 * 16 * 4096 + 2 * 4096 + 4097 * 100
    assert count(encoder) == expected
