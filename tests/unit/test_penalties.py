"""Penalties against discriminators whose gradients are known, and derivatives by difference."""

import numpy
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

from i2i.losses import (
    clip_weights_,
    feature_matching,
    game,
    lecam,
    orthogonal,
    r1,
    r2,
    wgan_gp,
)


@pytest.fixture
def pictures():
    """Real and fake pictures in float64, and how much of the real one each pair is mixed from."""
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 3, 2, 5, 4, generator=generator, dtype=torch.float64).unbind()
    return real, fake, torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64).view(3, 1, 1, 1)


def linear(weight):
    """D(x) = <w, x>: its gradient is w everywhere."""
    return lambda images: (images * weight).sum(dim=(1, 2, 3))


def quadratic(curvature):
    """D(x) = a ||x||^2 / 2: its gradient is a x."""
    return lambda images: curvature * images.square().sum(dim=(1, 2, 3)) / 2


def smooth(dtype=torch.float64):
    """A discriminator with curvature: its scores are the means of its patch logits."""
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 3, 3, stride=2), nn.Tanh(), nn.Conv2d(3, 1, (1, 1))
    return nn.Sequential(*layers, nn.Flatten(), nn.AdaptiveAvgPool1d(1), nn.Flatten(0)).to(dtype)


def penalties(score, pictures):
    real, fake, mix = pictures
    return [wgan_gp(score, real, fake, mix), r1(score, real), r2(score, fake)]


def test_penalties_of_a_linear_discriminator_know_no_pictures(pictures):
    weight = torch.full((2, 5, 4), 0.5, dtype=torch.float64, requires_grad=True)
    norm = 0.5 * 40**0.5
    gradient_penalty, on_real, on_fake = penalties(linear(weight), pictures)
    assert gradient_penalty.item() == pytest.approx((norm - 1) ** 2, rel=1e-12)
    assert on_real.item() == pytest.approx(norm**2 / 2, rel=1e-12)
    assert on_fake.item() == pytest.approx(norm**2 / 2, rel=1e-12)

    (gradient,) = torch.autograd.grad(gradient_penalty, weight)
    torch.testing.assert_close(gradient, 2 * (1 - 1 / norm) * weight.detach())
    for penalty in (on_real, on_fake):
        torch.testing.assert_close(torch.autograd.grad(penalty, weight)[0], weight.detach())


def test_penalties_of_a_quadratic_discriminator_follow_the_pictures(pictures):
    real, fake, mix = (each.numpy() for each in pictures)
    a = torch.tensor(-0.3, dtype=torch.float64, requires_grad=True)
    between = mix * real + (1 - mix) * fake
    norms = numpy.sqrt((between**2).sum(axis=(1, 2, 3)))
    squares = [(each**2).sum(axis=(1, 2, 3)).mean() for each in (real, fake)]

    expected = [((0.3 * norms - 1) ** 2).mean(), *(0.3**2 * each / 2 for each in squares)]
    by_a = [-(2 * (0.3 * norms - 1) * norms).mean(), *(-0.3 * each for each in squares)]
    found = penalties(quadratic(a), pictures)
    assert [each.item() for each in found] == pytest.approx(expected, rel=1e-12)
    gradients = [torch.autograd.grad(each, a)[0].item() for each in found]
    assert gradients == pytest.approx(by_a, rel=1e-12)


def test_gradients_of_penalties_are_those_by_difference_in_both_orders(pictures):
    network = smooth()
    names = [name for name, _ in network.named_parameters()]
    weights = tuple(each.detach().requires_grad_() for each in network.parameters())

    def all_three(*values):
        parameters = dict(zip(names, values, strict=True))
        return tuple(penalties(lambda x: functional_call(network, parameters, (x,)), pictures))

    assert torch.autograd.gradcheck(all_three, weights)
    assert torch.autograd.gradgradcheck(all_three, weights)


def test_penalties_are_means_over_pictures(pictures):
    """So that micro-batches add up to the whole batch, and no picture feels its neighbours."""
    together = penalties(smooth(), pictures)
    alone = [penalties(smooth(), [part[i : i + 1] for part in pictures]) for i in range(3)]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.stack(parts).mean())
        assert torch.stack(parts).std() > 0


def test_penalties_move_no_generator(pictures):
    real, fake, mix = pictures
    network = smooth()
    sum(penalties(network, (real.requires_grad_(), fake.requires_grad_(), mix))).backward()
    assert real.grad is None
    assert fake.grad is None
    assert network[0].weight.grad.abs().sum() > 0


def test_a_flat_discriminator_has_a_penalty_and_finite_gradients(pictures):
    """The norm has a corner at zero, where a division by it would not be a number."""
    weight = torch.zeros(2, 5, 4, dtype=torch.float64, requires_grad=True)
    found = penalties(linear(weight), pictures)
    assert [each.item() for each in found] == [1, 0, 0]
    for each in found:
        assert torch.equal(torch.autograd.grad(each, weight)[0], torch.zeros_like(weight))


def test_penalties_see_through_spectral_norm(pictures):
    """A normalised layer is linear with gain 1, so that its slope is at most 1."""
    layer = parametrizations.spectral_norm(
        nn.Linear(40, 1, bias=False).double(), n_power_iterations=5
    )
    norm, half, _ = penalties(lambda x: layer(x.flatten(1)).flatten(), pictures)
    assert norm.item() == pytest.approx(0, abs=1e-12)
    assert half.item() == pytest.approx(0.5, rel=1e-6)


def test_penalties_compute_in_float32_whatever_the_networks_ran_in(pictures):
    network = smooth(torch.float32)
    seen = []

    def score(images):
        seen.append((images.dtype, torch.is_autocast_enabled("cpu")))
        return network(images)

    pictures = [each.float().bfloat16() for each in pictures]
    expected = penalties(network, [each.float() for each in pictures])
    with torch.autocast("cpu", torch.bfloat16):
        found = penalties(score, pictures)
        assert torch.is_autocast_enabled("cpu")
    assert seen == [(torch.float32, False)] * 3
    for each, other in zip(found, expected, strict=True):
        torch.testing.assert_close(each, other, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(3,), (1, 1, 1, 1), (3, 2, 5, 4), (3, 1, 1)])
def test_one_number_a_pair_is_mixed_by(pictures, shape):
    """Others would be stretched over pixels or pairs in silence."""
    real, fake, _ = pictures
    with pytest.raises(ValueError, match="mix holds one number a pair"):
        wgan_gp(smooth(), real, fake, torch.ones(shape))


def test_pairs_of_unequal_shapes_are_not_mixed(pictures):
    real, fake, mix = pictures
    with pytest.raises(ValueError, match=r"are \(3, 2, 5, 4\), \(1, 2, 5, 4\)"):
        wgan_gp(smooth(), real, fake[:1], mix)


def test_lecam_draws_each_kind_to_the_mean_of_the_other():
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 3, 1, 4, 4, generator=generator, dtype=torch.float64).unbind()
    real, fake = real.requires_grad_(), fake[:2].requires_grad_()
    means = [torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in (0.7, -0.4)]
    loss = lecam(real, fake, *means)
    x, y = real.detach(), fake.detach()
    expected = ((x.numpy() + 0.4) ** 2).mean() + ((y.numpy() - 0.7) ** 2).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-12)

    loss.backward()
    torch.testing.assert_close(real.grad, 2 * (x + 0.4) / 48)
    torch.testing.assert_close(fake.grad, 2 * (y - 0.7) / 32)
    assert [each.grad for each in means] == [None, None]
    assert torch.autograd.gradcheck(lambda *each: lecam(*each, *means), (real, fake))


def test_lecam_turns_the_wasserstein_game_into_the_lecam_divergence():
    """Proposition 1 of arXiv:2104.03310, on four points, with anchors a and -a and weight l.

    ``D* = (1 / (2 l) - a) (p - q) / (p + q)``, worth as much times the sum of
    ``(p - q)^2 / (p + q)``.
    """
    counts = torch.tensor([[4, 2, 1, 1], [1, 1, 2, 4]])
    p, q = counts.double() / 8
    anchor, weight = torch.tensor(0.3, dtype=torch.float64), 0.25
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(200):
        real, fake = (logits.repeat_interleave(each) for each in counts)
        loss = game("wasserstein").judge(real, fake)
        loss = loss + weight * lecam(real, fake, anchor, -anchor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    factor = 1 / (2 * weight) - 0.3
    torch.testing.assert_close(logits.detach(), factor * (p - q) / (p + q))
    constant = 2 * weight * 0.3**2  # the anchors' squares, which the paper's value leaves out
    divergence = ((p - q) ** 2 / (p + q)).sum().item()
    assert constant - loss.item() == pytest.approx(weight * factor**2 * divergence)


def products(weight):
    """The sum of squared products of different filters, one pair at a time."""
    filters = weight.reshape(len(weight), -1)
    pairs = [(a, b) for a in range(len(filters)) for b in range(len(filters)) if a != b]
    return sum((filters[a] @ filters[b]) ** 2 for a, b in pairs)


def test_orthogonal_adds_the_squared_products_of_different_filters():
    torch.manual_seed(0)
    weights = [torch.randn(4, 2, 3, 3).double(), torch.randn(2, 5).double()]
    expected = sum(products(weight.numpy()) for weight in weights)
    assert orthogonal(weights).item() == pytest.approx(expected, rel=1e-12)

    weights = tuple(each.requires_grad_() for each in weights)
    assert torch.autograd.gradcheck(lambda *each: orthogonal(each), weights)
    kernel = weights[0].detach().flatten(1)
    gram = kernel @ kernel.T
    (gradient,) = torch.autograd.grad(orthogonal(iter(weights)), weights[0])
    apart = gram - torch.diag(torch.diag(gram))
    torch.testing.assert_close(gradient.flatten(1), 4 * apart @ kernel)


def test_orthogonal_leaves_the_lengths_of_filters_free():
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    scaled = torch.tensor([[0.1], [1.0], [2.0], [3.0], [9.0]]) * rotation
    assert orthogonal([scaled]).item() == pytest.approx(0, abs=1e-8)
    assert orthogonal([scaled.T]).item() > 1  # its filters are the columns of a rotation


def test_orthogonal_multiplies_in_float32_under_autocast():
    torch.manual_seed(0)
    weight = torch.randn(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = orthogonal([weight])
    assert found.dtype == torch.float32
    assert torch.equal(found, orthogonal([weight]))
    assert orthogonal([weight.bfloat16()]).dtype == torch.float32


def test_orthogonal_refuses_what_has_no_filters():
    with pytest.raises(ValueError, match=r"a weight is \(4,\)"):
        orthogonal([torch.ones(4)])
    with pytest.raises(ValueError, match="there are no weights"):
        orthogonal([])


def test_clipping_is_in_place_and_leaves_small_weights_alone():
    parameter = nn.Parameter(torch.tensor([-3.0, -0.01, 0.005, 0.02]))
    place, version = parameter.data_ptr(), parameter._version
    clip_weights_(iter([parameter]), 0.01)
    assert parameter.tolist() == torch.tensor([-0.01, -0.01, 0.005, 0.01]).tolist()
    assert parameter.data_ptr() == place
    assert parameter._version > version  # or a stale graph would pass unseen
    assert parameter.is_leaf


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_clipping_to_nothing_is_refused(limit):
    with pytest.raises(ValueError, match="it must be positive"):
        clip_weights_([nn.Parameter(torch.ones(2))], limit)


@pytest.fixture
def features():
    """What two scales of a discriminator return for real and fake: two layers, then logits."""
    generator = torch.Generator().manual_seed(0)
    shapes = [
        [(2, 4, 6, 6), (2, 8, 3, 3), (2, 1, 2, 2)],
        [(2, 4, 3, 3), (2, 8, 2, 2), (2, 1, 1, 1)],
    ]
    return [
        tuple(
            tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in scale)
            for scale in shapes
        )
        for _ in range(2)
    ]


def test_feature_matching_is_the_mean_distance_of_all_layers_but_the_logits(features):
    real, fake = features
    distances = [
        numpy.abs(x.numpy() - y.numpy()).mean()
        for xs, ys in zip(real, fake, strict=True)
        for x, y in list(zip(xs, ys, strict=True))[:2]
    ]
    assert feature_matching(real, fake).item() == pytest.approx(sum(distances) / 4, rel=1e-12)
    assert feature_matching(real, real) == 0


def test_feature_matching_teaches_fakes_and_leaves_real_features_alone(features):
    real, fake = features
    for x in (*real[0], *real[1], *fake[0], *fake[1]):
        x.requires_grad_()
    feature_matching(real, fake).backward()
    assert all(x.grad is None for scale in real for x in scale)
    for xs, ys in zip(real, fake, strict=True):
        assert ys[2].grad is None
        for x, y in zip(xs[:2], ys[:2], strict=True):
            torch.testing.assert_close(y.grad, (y - x).detach().sign() / y.numel() / 4)
    layers = [y for scale in fake for y in scale[:2]]

    def loss(a, b, c, d):
        return feature_matching(real, ((a, b, fake[0][2]), (c, d, fake[1][2])))

    assert torch.autograd.gradcheck(loss, layers)


def test_feature_matching_computes_in_float32_from_16_bit_features():
    real = ((torch.full((1, 1, 64, 64), 1.0078125, dtype=torch.bfloat16), torch.zeros(1)),)
    fake = ((torch.zeros(1, 1, 64, 64, dtype=torch.bfloat16), torch.zeros(1)),)
    loss = feature_matching(real, fake)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1.0078125, rel=1e-6)


def test_feature_matching_refuses_sides_that_differ_and_logits_alone(features):
    real, fake = features
    with pytest.raises(ValueError, match="shorter"):
        feature_matching(real, fake[:1])
    with pytest.raises(ValueError, match="shorter"):
        feature_matching(real, (fake[0], fake[1][:2]))
    with pytest.raises(ValueError, match=r"are \(2, 4, 6, 6\) and \(1, 4, 6, 6\)"):
        feature_matching(real, ((fake[0][0][:1], *fake[0][1:]), fake[1]))
    with pytest.raises(ValueError, match="there are logits only"):
        feature_matching([scale[2:] for scale in real], [scale[2:] for scale in fake])
