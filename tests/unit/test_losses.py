"""Losses against closed forms, in value and in gradient."""

import pytest
import torch

from i2i.losses import LeastSquares, l1


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(2, 3, 1, 5, 4).unbind()


def test_least_squares_judge_is_the_closed_form(logits):
    real, fake = logits
    expected = ((real.double() - 1) ** 2).sum() / 60 + (fake.double() ** 2).sum() / 60
    assert float(LeastSquares().judge(real, fake)) == pytest.approx(float(expected), rel=1e-6)


def test_least_squares_is_zero_where_each_player_has_won():
    game, ones, zeros = LeastSquares(), torch.ones(2, 1, 3, 3), torch.zeros(2, 1, 3, 3)
    assert game.judge(ones, zeros) == 0
    assert game.judge(zeros, ones) == 2
    assert game.fool(ones) == game.fool(ones, zeros) == 0
    assert game.fool(zeros) == game.fool(zeros, ones) == 1


def test_least_squares_weighs_pictures_of_both_kinds_alike(logits):
    """The means are taken apart, so that two fakes for one real picture change no balance."""
    real, fake = logits
    once, twice = (LeastSquares().judge(real, x) for x in (fake, torch.cat([fake, fake])))
    torch.testing.assert_close(once, twice)


def test_least_squares_without_smoothing_is_bit_identical_to_the_plain_formula(logits):
    """Golden losses of families pin it."""
    real, fake = logits
    assert torch.equal(
        LeastSquares().judge(real, fake), (real - 1).square().mean() + fake.square().mean()
    )
    assert torch.equal(LeastSquares().fool(fake), (fake - 1).square().mean())


def test_least_squares_gradients_are_the_closed_forms(logits):
    real, fake = (each.clone().requires_grad_() for each in logits)
    gradients = torch.autograd.grad(LeastSquares().judge(real, fake), (real, fake))
    torch.testing.assert_close(gradients[0], 2 * (real.detach() - 1) / 60)
    torch.testing.assert_close(gradients[1], 2 * fake.detach() / 60)
    (gradient,) = torch.autograd.grad(LeastSquares().fool(fake), fake)
    torch.testing.assert_close(gradient, 2 * (fake.detach() - 1) / 60)


def test_l1_is_the_closed_form_in_value_and_gradient():
    torch.manual_seed(0)
    image, target = torch.randn(2, 2, 3, 4, 5).unbind()
    image.requires_grad_()
    loss = l1(image, target)
    difference = (image - target).detach()
    assert loss.item() == pytest.approx(float(difference.double().abs().sum() / 120), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, image)
    torch.testing.assert_close(gradient, difference.sign() / 120)


@pytest.mark.parametrize("autocast", [False, True])
def test_losses_compute_in_float32_from_16_bit_inputs(autocast):
    """Summing 4,096 bfloat16 values of 1.0078 in 16 bits would be far off."""
    x = torch.full((1, 1, 64, 64), 1.0078125, dtype=torch.bfloat16)
    zero = torch.zeros_like(x)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        game = LeastSquares()
        losses = [l1(x, zero), game.judge(zero, x) - 1, game.judge(-x, zero), game.fool(-x)]
    expected = [1.0078125, 1.0078125**2, 2.0078125**2, 2.0078125**2]
    for loss, value in zip(losses, expected, strict=True):
        assert loss.dtype == torch.float32
        assert float(loss) == pytest.approx(value, rel=1e-6)
