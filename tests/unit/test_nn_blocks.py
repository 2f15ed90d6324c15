"""Blocks of networks against torch's own modules, numpy and closed forms."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from i2i.engine.memory import bytes_a_pixel
from i2i.nn import (
    BatchNorm,
    BlurPool,
    InstanceNorm,
    MinibatchStandardDeviation,
    SelfAttention,
    attention,
    downsampling,
    initialise,
    upsampling,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def value_and_gradient(module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return what a module makes of ``x``, and the gradient of a weighted sum of it."""
    weights = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
    y = module(x)
    return y, *torch.autograd.grad((y * weights).sum(), x)


def trained(norm: nn.Module, reference: nn.Module) -> torch.Tensor:
    """Give both equal weights and running statistics; return the batches that they saw."""
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 0.5, 1.0)
    reference.load_state_dict(norm.state_dict(), strict=False)  # ours counts no batches
    batches = 3 * torch.randn(6, 4, 3, 7, 5, dtype=torch.float64) + 2
    for batch in batches:
        torch.testing.assert_close(norm(batch), reference(batch))
    return batches


# Normalisations


@pytest.mark.parametrize("width", [None, 3])
def test_instance_norm_equals_pytorchs_in_value_and_gradient(width):
    x = torch.randn(2, 3, 7, 5, dtype=torch.float64, requires_grad=True)
    ours = InstanceNorm(width).double()
    theirs = nn.InstanceNorm2d(3, affine=width is not None).double()
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs.load_state_dict(ours.state_dict())
    for got, expected in zip(
        value_and_gradient(ours, x), value_and_gradient(theirs, x), strict=True
    ):
        torch.testing.assert_close(got, expected)


def test_batch_norm_trains_as_pytorchs_does():
    ours, theirs = BatchNorm(3).double(), nn.BatchNorm2d(3).double()
    batches = trained(ours, theirs)
    assert ours.momentum == 0.1
    for name, got in ours.state_dict().items():
        torch.testing.assert_close(got, theirs.state_dict()[name], msg=name)
    assert theirs.state_dict().keys() - ours.state_dict().keys() == {"num_batches_tracked"}
    x = batches[0].clone().requires_grad_()
    for got, expected in zip(
        value_and_gradient(ours, x), value_and_gradient(theirs, x), strict=True
    ):
        torch.testing.assert_close(got, expected)


def test_batch_norm_translates_each_picture_as_a_batch_of_its_own():
    ours, theirs = BatchNorm(3).double(), nn.BatchNorm2d(3).double()
    pictures = trained(ours, theirs)[0]
    ours.eval()
    kept = {name: value.clone() for name, value in ours.state_dict().items()}
    together = ours(pictures)
    for index, picture in enumerate(pictures):
        torch.testing.assert_close(together[index : index + 1], theirs(picture[None]))
        assert torch.equal(together[index : index + 1], ours(picture[None]))
    for name, value in ours.state_dict().items():
        assert torch.equal(value, kept[name])


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_takes_the_running_statistics_where_asked(training):
    ours, theirs = BatchNorm(3).double(), nn.BatchNorm2d(3).double()
    pictures = trained(ours, theirs)[0]
    ours.train(training)
    kept = {name: value.clone() for name, value in ours.state_dict().items()}
    torch.testing.assert_close(ours(pictures, running=True), theirs.eval()(pictures))
    for name, value in ours.state_dict().items():
        assert torch.equal(value, kept[name])
    assert not torch.allclose(ours(pictures), theirs(pictures), atol=0.1)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_batch_norm_refuses_a_picture_without_statistics(batch_size):
    norm = BatchNorm(3).eval()
    pixel = torch.randn(batch_size, 3, 1, 1)
    with pytest.raises(ValueError, match="one pixel has no statistics"):
        norm(pixel)
    assert norm(pixel, running=True).shape == pixel.shape


# Weights


@pytest.mark.parametrize(
    ("module", "mean"),
    [
        (nn.Conv2d(16, 32, 4), 0.0),
        (nn.ConvTranspose2d(16, 32, 4), 0.0),
        (BatchNorm(8000), 1.0),
        (nn.BatchNorm2d(8000), 1.0),
    ],
)
def test_weights_are_drawn_from_a_normal_of_002(module, mean):
    nn.init.ones_(module.bias)
    nn.Sequential(module).apply(initialise)
    assert module.weight.mean().item() == pytest.approx(mean, abs=1e-3)
    assert module.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert not module.bias.any()


def test_other_modules_stay_as_they_are():
    modules = [InstanceNorm(5), nn.Linear(3, 4), nn.Conv2d(1, 1, 1, bias=False)]
    before = [parameter.clone() for module in modules[:2] for parameter in module.parameters()]
    nn.Sequential(*modules).apply(initialise)
    after = [parameter for module in modules[:2] for parameter in module.parameters()]
    assert all(map(torch.equal, before, after))


def test_weights_under_a_parametrisation_are_not_drawn_in_vain():
    with pytest.raises(ValueError, match="initialise first"):
        initialise(spectral_norm(nn.Conv2d(2, 2, 3)))


# Attention


def attended(block: SelfAttention, picture: np.ndarray) -> np.ndarray:
    """Equations 1 to 3 of arXiv:1805.08318, place by place, with keys and values pooled by 2."""
    weights = {
        name: getattr(block, name).weight.detach().numpy()[:, :, 0, 0]
        for name in ("query", "key", "value", "output")
    }
    channels, height, width = picture.shape
    keys, values = [], []
    for row in range(0, height - 1, 2):
        for column in range(0, width - 1, 2):
            square = picture[:, row : row + 2, column : column + 2].reshape(channels, 4)
            keys.append((weights["key"] @ square).max(1))
            values.append((weights["value"] @ square).max(1))
    result = np.empty_like(picture)
    for row in range(height):
        for column in range(width):
            query = weights["query"] @ picture[:, row, column]
            scores = np.exp([query @ key for key in keys])
            seen = sum(s * v for s, v in zip(scores / scores.sum(), values, strict=True))
            result[:, row, column] = weights["output"] @ seen
    return float(block.gamma.detach()) * result + picture


@pytest.mark.parametrize(("channels", "size"), [(16, (4, 6)), (8, (5, 7)), (4, (2, 3))])
def test_attention_is_that_of_the_paper(channels, size):
    block = SelfAttention(channels).double()
    nn.init.constant_(block.gamma, 0.7)
    pictures = torch.randn(2, channels, *size, dtype=torch.float64)
    got = block(pictures).detach().numpy()
    for index, picture in enumerate(pictures.numpy()):
        np.testing.assert_allclose(got[index], attended(block, picture), rtol=1e-9, atol=1e-9)


def test_attention_has_the_published_widths_and_starts_at_nothing():
    block = SelfAttention(64)
    shapes = {name: tuple(parameter.shape) for name, parameter in block.named_parameters()}
    assert shapes == {
        "query.weight": (8, 64, 1, 1),
        "key.weight": (8, 64, 1, 1),
        "value.weight": (32, 64, 1, 1),
        "output.weight": (64, 32, 1, 1),
        "gamma": (),
    }
    pictures = torch.randn(2, 64, 4, 4)
    assert torch.equal(block(pictures), pictures)
    block(pictures).square().sum().backward()
    assert block.gamma.grad.abs() > 0  # and leaves it


def test_attention_can_be_differentiated_twice():
    block = SelfAttention(4).double()
    nn.init.constant_(block.gamma, 0.7)
    pictures = torch.randn(1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (pictures,))
    assert torch.autograd.gradgradcheck(block, (pictures,))


@pytest.mark.parametrize("most", [1, 90, 2**20])
def test_attention_without_gradients_is_the_same_in_parts(most, monkeypatch):
    monkeypatch.setattr(attention, "_MOST_WEIGHTS", most)
    block = SelfAttention(16).double()
    nn.init.constant_(block.gamma, 0.7)
    pictures = torch.randn(2, 16, 9, 7, dtype=torch.float64)
    expected = block(pictures)
    with torch.no_grad():
        found = block(pictures)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-12)


def test_memory_of_attention_without_gradients_does_not_grow_with_the_pictures_square(monkeypatch):
    """Tiles are sized from what a small picture needs a pixel."""
    monkeypatch.setattr(attention, "_MOST_WEIGHTS", 2**12)
    block = SelfAttention(8)
    with torch.no_grad():
        small, large = (bytes_a_pixel(block, torch.randn(1, 8, size, size)) for size in (16, 64))
    assert large < 1.1 * small
    whole = 4 * 32 * 32  # a float for each pooled place, a pixel
    assert large < whole / 4


# Statistics of a batch


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_minibatch_deviation_is_that_of_the_paper(batch_size, dtype):
    """In float32: means in bfloat16, of numbers near 100, would be off by what they differ by."""
    x = (100 + torch.randn(batch_size, 4, 3, 5)).to(dtype)
    y = MinibatchStandardDeviation()(x)
    values = x.double().numpy()
    expected = np.sqrt(values.var(axis=0) + 1e-8).mean()
    assert y.dtype == dtype
    assert y.shape == (batch_size, 5, 3, 5)
    assert torch.equal(y[:, :4], x)
    added = y[:, 4].double().numpy()
    assert (added == added.flat[0]).all()
    assert added.flat[0] == pytest.approx(expected, rel=1e-3 if dtype == torch.float32 else 4e-3)
    assert batch_size > 1 or added.flat[0] == pytest.approx(1e-4, rel=4e-3)


def test_minibatch_deviation_has_the_gradients_of_differences():
    block = MinibatchStandardDeviation()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,))
    assert torch.autograd.gradgradcheck(block, (x,))
    equal = torch.ones(3, 2, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(equal)[:, -1].sum(), equal)
    assert not gradient.any()


# Resampling


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (2, 3), (1, 5), (4, 1), (1, 1)])
def test_blur_pool_is_a_binomial_filter_on_reflected_edges(size):
    x = torch.randn(2, 3, *size)
    taps = np.array([1, 2, 1]) / 4
    blurred = x.double().numpy()
    for axis in (2, 3):
        blurred = ndimage.correlate1d(blurred, taps, axis=axis, mode="mirror")
    np.testing.assert_allclose(BlurPool()(x).numpy(), blurred[:, :, ::2, ::2], atol=1e-6)


def test_blur_pool_has_nothing_to_save_but_moves_with_its_network():
    assert BlurPool().state_dict() == {}
    assert BlurPool().double()(torch.ones(1, 1, 4, 4, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_both_ways_to_halve_have_one_size_and_one_number_of_parameters(kernel, bias):
    strided, blurred = (downsampling(kind, 2, 5, kernel, bias) for kind in ("stride", "blur"))
    counts = [sum(p.numel() for p in module.parameters()) for module in (strided, blurred)]
    assert counts == [2 * 5 * kernel**2 + 5 * bias] * 2
    for height in range(2, 12):
        for width in (2, 9):
            x = torch.randn(1, 2, height, width)
            halved = [(side + (kernel == 3)) // 2 for side in (height, width)]
            assert strided(x).shape == blurred(x).shape == (1, 5, *halved)


@pytest.mark.parametrize("kernel", [3, 4])
def test_blurred_halving_convolves_and_then_filters(kernel):
    x, block = torch.randn(1, 2, 9, 12), downsampling("blur", 2, 5, kernel)
    convolution = block[0]
    full = F.conv2d(x, convolution.weight, convolution.bias, padding=1).detach().numpy()
    for axis in (2, 3):
        full = ndimage.correlate1d(full, [0.25, 0.5, 0.25], axis=axis, mode="mirror")
    np.testing.assert_allclose(block(x).detach().numpy(), full[:, :, ::2, ::2], atol=1e-5)


@pytest.mark.parametrize("kernel", [3, 4])
def test_blurred_halving_moves_less_under_a_shift(kernel):
    """On noise a shift of one pixel makes of a strided result another one altogether."""
    strided, blurred = (
        downsampling(kind, 3, 16, kernel, bias=False) for kind in ("stride", "blur")
    )
    blurred[0].weight = strided.weight
    picture = torch.randn(1, 3, 65, 65)
    changes = []
    for block in (strided, blurred):
        still, moved = block(picture[..., :-1])[..., 3:-3], block(picture[..., 1:])[..., 3:-3]
        changes.append(float(((still - moved).norm() / still.norm()).detach()))
    assert changes[0] > 1
    assert changes[1] < 0.75 * changes[0]
    stripes = torch.tensor([1.0, -1.0]).repeat(1, 1, 8, 4)
    assert BlurPool()(stripes).abs().max() < 1e-6  # what a stride would show as all 1 or all -1


@pytest.mark.parametrize(("kind", "kernel"), [("transposed", 3), ("transposed", 4), ("resize", 3)])
def test_ways_to_double_double_exactly(kind, kernel):
    for height, width in [(1, 1), (2, 5), (7, 4)]:
        doubled = upsampling(kind, 2, 3, kernel)(torch.randn(2, 2, height, width))
        assert doubled.shape == (2, 3, 2 * height, 2 * width)
    block = upsampling(kind, 2, 3, kernel, bias=False)
    assert sum(p.numel() for p in block.parameters()) == 2 * 3 * kernel**2


def test_resize_repeats_pixels_and_convolves():
    x, block = torch.randn(1, 2, 3, 4), upsampling("resize", 2, 3)
    repeated = torch.from_numpy(x.numpy().repeat(2, axis=2).repeat(2, axis=3))
    expected = F.conv2d(repeated, block[1].weight, block[1].bias, padding=1)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("kind", "kernel", "checkered"),
    [("transposed", 3, True), ("transposed", 4, True), ("resize", 3, False)],
)
def test_only_a_transposed_convolution_draws_a_checkerboard(kind, kernel, checkered):
    """What random weights make of a constant picture repeats every second pixel, or nowhere."""
    inside = upsampling(kind, 2, 4, kernel)(torch.ones(1, 2, 8, 8)).detach()[..., 4:12, 4:12]
    torch.testing.assert_close(inside[..., 2:, 2:], inside[..., :-2, :-2])
    phases = torch.stack([inside[0, :, row, column] for row in (0, 1) for column in (0, 1)])
    spread = phases.std(0).max().item() / inside.abs().max().item()
    assert spread > 0.1 if checkered else spread < 1e-6
