"""SRGAN's and Real-ESRGAN's discriminators against their papers: counts, layers, and what norms."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from i2i import RecipeError
from i2i_srgan.discriminators import UNetDiscriminator, VGGDiscriminator


def pictures(*size: int) -> torch.Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def made(kind: type[nn.Module], *arguments, **options) -> nn.Module:
    torch.manual_seed(0)
    return kind(*arguments, **options)


def parameters_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def normalised(judge: nn.Module) -> list[nn.Conv2d]:
    return [
        each
        for each in judge.modules()
        if isinstance(each, nn.Conv2d) and hasattr(each, "parametrizations")
    ]


def leaky(x: torch.Tensor) -> torch.Tensor:
    return torch.maximum(x, 0.2 * x)


# SRGAN's


def test_vgg_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert parameters_of(VGGDiscriminator(96)) == 23_565_505


def test_vgg_is_the_network_of_figure_4():
    """Computed again from its weights, in their order, with torch's functions alone."""
    judge = made(VGGDiscriminator, 32, width=4)
    for parameter in judge.parameters():
        nn.init.normal_(parameter, 0.05, 0.2)
    weights = iter(judge.parameters())
    x = pictures(32, 32)
    widths = [4, 4, 8, 8, 16, 16, 32, 32]
    strides = [1, 2, 1, 2, 1, 2, 1, 2]
    for place, (width, stride) in enumerate(zip(widths, strides, strict=True)):
        weight, bias = next(weights), next(weights)
        assert weight.shape[2:] == (3, 3)
        x = F.conv2d(x, weight, bias, stride, 1)
        assert x.shape[1] == width
        if place:
            x = F.batch_norm(x, None, None, next(weights), next(weights), training=True)
        x = leaky(x)
    x = leaky(F.linear(x.flatten(1), next(weights), next(weights)))
    assert x.shape[1] == 64
    expected = F.linear(x, next(weights), next(weights))
    assert next(weights, None) is None
    found = judge(pictures(32, 32))
    assert found.shape == (2, 1)
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 1  # no sigmoid


@pytest.mark.parametrize(("side", "better"), [(0, 16), (8, 16), (40, 32), (100, 96), (-16, 16)])
def test_vgg_refuses_a_side_that_cannot_be_halved_four_times(side, better):
    with pytest.raises(RecipeError, match=f"use {better}"):
        VGGDiscriminator(side)


def test_vgg_keeps_no_state_beside_its_weights():
    judge = made(VGGDiscriminator, 16, width=2)
    assert {*judge.state_dict()} == {name for name, _ in judge.named_parameters()}
    trained = judge(pictures(16, 16))
    assert torch.equal(judge.eval()(pictures(16, 16)), trained)


# Real-ESRGAN's


@pytest.mark.parametrize("skip", [True, False])
def test_unet_has_the_published_number_of_parameters(skip):
    assert parameters_of(UNetDiscriminator(skip=skip)) == 4_376_897


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("size", [(32, 24), (8, 8)])
def test_unet_is_the_network_of_figure_6(skip, size):
    judge = made(UNetDiscriminator, 4, skip=skip).eval()
    weights = [each.weight for each in judge.modules() if isinstance(each, nn.Conv2d)]
    assert [tuple(each.shape) for each in weights] == [
        (4, 3, 3, 3),
        (8, 4, 4, 4),
        (16, 8, 4, 4),
        (32, 16, 4, 4),
        (16, 32, 3, 3),
        (8, 16, 3, 3),
        (4, 8, 3, 3),
        (4, 4, 3, 3),
        (4, 4, 3, 3),
        (1, 4, 3, 3),
    ]
    x = leaky(F.conv2d(pictures(*size), weights[0], judge.first.bias, 1, 1))
    kept = []
    for weight in weights[1:4]:
        kept.append(x)
        x = leaky(F.conv2d(x, weight, None, 2, 1))
    for weight in weights[4:7]:
        x = leaky(F.conv2d(doubled(x), weight, None, 1, 1))
        x = x + kept.pop() if skip else x
    for weight in weights[7:9]:
        x = leaky(F.conv2d(x, weight, None, 1, 1))
    expected = F.conv2d(x, weights[9], judge.last.bias, 1, 1)
    found = judge(pictures(*size))
    assert found.shape == (2, 1, *size)
    torch.testing.assert_close(found, expected)


def doubled(x: torch.Tensor) -> torch.Tensor:
    """Bilinear doubling as weights of 3/4 and 1/4 on the nearest pixels, borders repeated."""
    for axis in (2, 3):
        last = x.shape[axis] - 1
        before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, last)], axis)
        after = torch.cat([x.narrow(axis, 1, last), x.narrow(axis, last, 1)], axis)
        both = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = both.flatten(axis, axis + 1)
    return x


def test_unet_normalises_all_but_the_first_and_the_last_convolution():
    judge = made(UNetDiscriminator, 8)
    with torch.no_grad():
        for each in normalised(judge):
            each.parametrizations.weight.original.mul_(7)
        for _ in range(60):
            judge(pictures(8, 8))
    assert len(normalised(judge)) == 8
    judge.eval()
    for each in normalised(judge):
        largest = torch.linalg.svdvals(each.weight.detach().flatten(1).double())[0]
        assert float(largest) == pytest.approx(1, abs=0.02)
    plain = {*judge.modules()} - {*normalised(judge)}
    assert {each for each in plain if isinstance(each, nn.Conv2d)} == {judge.first, judge.last}


def test_unet_iterates_in_training_alone_and_its_vectors_are_buffers():
    judge = made(UNetDiscriminator, 4)
    vectors = {name for name, _ in judge.named_buffers()}
    assert len(vectors) == 16
    before = copy.deepcopy(judge.state_dict())
    judge.eval()(pictures(8, 8))
    assert all(torch.equal(value, before[name]) for name, value in judge.state_dict().items())
    judge.train()(pictures(8, 8))
    changed = {n for n, value in judge.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == vectors


def test_a_copy_of_unet_judges_alike_and_learns_alone():
    judge = made(UNetDiscriminator, 4).eval()
    twin = copy.deepcopy(judge)
    expected = judge(pictures(16, 8))
    assert torch.equal(twin(pictures(16, 8)), expected)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1)
    assert torch.equal(judge(pictures(16, 8)), expected)
    assert not torch.equal(twin(pictures(16, 8)), expected)
    again = made(UNetDiscriminator, 4).eval()
    again.load_state_dict(twin.state_dict())
    assert torch.equal(again(pictures(16, 8)), twin(pictures(16, 8)))


@pytest.mark.parametrize("arguments", [(VGGDiscriminator, 16, 2), (UNetDiscriminator, 2)])
def test_every_weight_learns(arguments):
    judge = made(*arguments)
    (judge(pictures(16, 16)) ** 2).sum().backward()
    for name, parameter in judge.named_parameters():
        # a batch normalisation takes away what a bias before it adds
        if parameter.ndim > 1:
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("kind", "multiple"), [(VGGDiscriminator, 16), (UNetDiscriminator, 8)])
def test_a_discriminator_says_which_sizes_it_takes(kind, multiple):
    assert kind.multiple == multiple
    judge = kind(multiple, 2) if kind is VGGDiscriminator else kind(2)
    assert torch.isfinite(judge(pictures(multiple, multiple))).all()
