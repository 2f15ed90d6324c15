"""Adversarial games against closed forms, derivatives by difference, and their papers' theorems."""

from typing import get_args

import numpy
import pytest
import torch

from i2i.losses import Form, clip_weights_, game

FORMS = get_args(Form)
LABELLED = ("minimax", "non_saturating", "least_squares")
UNLABELLED = tuple(form for form in FORMS if form not in LABELLED)


@pytest.fixture
def logits():
    """Real and fake patch logits in float64, for batches of different sizes."""
    generator = torch.Generator().manual_seed(0)
    real = 2 * torch.randn(3, 1, 3, 2, generator=generator, dtype=torch.float64)
    fake = 2 * torch.randn(2, 1, 3, 2, generator=generator, dtype=torch.float64)
    return real, fake


def sigmoid(x):
    return 1 / (1 + numpy.exp(-x))


def judged(form, x, y, a=1.0):
    """What the papers have discriminators minimise, from the logits of real and fake."""
    if form in ("minimax", "non_saturating"):
        real = a * numpy.log(sigmoid(x)) + (1 - a) * numpy.log(1 - sigmoid(x))
        return -(real.mean() + numpy.log(1 - sigmoid(y)).mean())
    if form == "least_squares":
        return ((x - a) ** 2).mean() + (y**2).mean()
    if form == "hinge":
        return -(numpy.minimum(0, -1 + x).mean() + numpy.minimum(0, -1 - y).mean())
    if form == "wasserstein":
        return -(x.mean() - y.mean())
    real, fake = sigmoid(x - y.mean()), sigmoid(y - x.mean())
    return -(numpy.log(real).mean() + numpy.log(1 - fake).mean())


def fooled(form, x, y):
    """What the papers have generators minimise."""
    if form == "minimax":
        return numpy.log(1 - sigmoid(y)).mean()
    if form == "non_saturating":
        return -numpy.log(sigmoid(y)).mean()
    if form == "least_squares":
        return ((y - 1) ** 2).mean()
    if form in ("hinge", "wasserstein"):
        return -y.mean()
    real, fake = sigmoid(x - y.mean()), sigmoid(y - x.mean())
    return -(numpy.log(fake).mean() + numpy.log(1 - real).mean())


@pytest.mark.parametrize("form", FORMS)
def test_both_losses_are_the_papers_formulas(form, logits):
    real, fake = logits
    played, arrays = game(form), (real.numpy(), fake.numpy())
    assert played.judge(real, fake).item() == pytest.approx(judged(form, *arrays), rel=1e-12)
    assert played.fool(fake, real).item() == pytest.approx(fooled(form, *arrays), rel=1e-12)


@pytest.mark.parametrize("form", LABELLED)
def test_smoothing_changes_the_target_of_real_pictures_and_nothing_else(form, logits):
    real, fake = logits
    smooth, hard = game(form, real_label=0.9), game(form)
    expected = judged(form, real.numpy(), fake.numpy(), 0.9)
    assert smooth.judge(real, fake).item() == pytest.approx(expected, rel=1e-12)
    assert smooth.fool(fake) == hard.fool(fake)

    fake.requires_grad_()
    gradients = [torch.autograd.grad(each.judge(real, fake), fake)[0] for each in (smooth, hard)]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_both_orders_are_those_by_difference(form, logits):
    """No logit of the fixture is within a difference of hinge's corners."""
    played = game(form, 0.8 if form in LABELLED else 1.0)
    inputs = tuple(each.requires_grad_() for each in logits)
    assert min(abs(each.abs() - 1).min() for each in logits) > 1e-4
    for loss in (played.judge, lambda x, y: played.fool(y, x if played.needs_real else None)):
        assert torch.autograd.gradcheck(loss, inputs)
        if form not in ("hinge", "wasserstein"):  # linear in pieces: there is no second order
            assert torch.autograd.gradgradcheck(loss, inputs)


@pytest.mark.parametrize("label", [1.0, 0.7])
def test_gradients_of_the_cross_entropy_are_probability_less_target(label, logits):
    real, fake = (each.requires_grad_() for each in logits)
    minimax, trick = game("minimax", label), game("non_saturating", label)
    p, q = (each.detach().sigmoid() for each in logits)
    for played in (minimax, trick):
        gradients = torch.autograd.grad(played.judge(real, fake), (real, fake))
        torch.testing.assert_close(gradients[0], (p - label) / p.numel())
        torch.testing.assert_close(gradients[1], q / q.numel())
    torch.testing.assert_close(torch.autograd.grad(minimax.fool(fake), fake)[0], -q / q.numel())
    torch.testing.assert_close(torch.autograd.grad(trick.fool(fake), fake)[0], (q - 1) / q.numel())


@pytest.mark.parametrize("form", FORMS)
def test_each_player_gains_where_its_pictures_win(form, logits):
    """Between the targets, discriminators raise real logits and lower fakes, generators raise."""
    real, fake = (each.sigmoid().requires_grad_() for each in logits)
    played = game(form)
    of_real, of_fake = torch.autograd.grad(played.judge(real, fake), (real, fake))
    assert (of_real < 0).all()
    assert (of_fake > 0).all()
    (of_fake,) = torch.autograd.grad(played.fool(fake, real), fake)
    assert (of_fake < 0).all()


def test_the_trick_has_the_gradient_that_minimax_loses():
    """Section 3 of the original paper: early in learning D rejects with high confidence."""
    fake = torch.full((1,), -100.0, requires_grad=True)
    (trick,) = torch.autograd.grad(game("non_saturating").fool(fake), fake)
    (minimax,) = torch.autograd.grad(game("minimax").fool(fake), fake)
    assert trick.item() == -1
    assert abs(minimax.item()) < 1e-40


@pytest.mark.parametrize("form", ["minimax", "non_saturating", "relativistic_average"])
def test_extreme_logits_lose_no_precision_in_float32(form):
    """``log(1 - sigmoid(-20))`` taken literally is 0 in float32, and of 200 it is infinite."""
    played = game(form)
    for sure in (20.0, 40.0):  # log(1 + exp(-m)) for each kind, m between them if relativistic
        real, fake = torch.full((2, 1), sure), torch.full((2, 1), -sure)
        margin = 2 * sure if form == "relativistic_average" else sure
        expected = 2 * numpy.log1p(numpy.exp(-margin))
        assert played.judge(real, fake).item() == pytest.approx(expected, rel=1e-5)
    wrong = torch.full((2, 1), -1e4, requires_grad=True)
    loss = played.judge(wrong, -wrong.detach())
    assert loss.item() == pytest.approx(4e4 if form == "relativistic_average" else 2e4)
    assert torch.autograd.grad(loss, wrong)[0].isfinite().all()


def test_relativistic_logits_have_no_origin(logits):
    real, fake = logits
    played = game("relativistic_average")
    torch.testing.assert_close(played.judge(real + 3, fake + 3), played.judge(real, fake))
    torch.testing.assert_close(played.fool(fake + 3, real + 3), played.fool(fake, real))
    assert abs(played.judge(real + 3, fake) - played.judge(real, fake)) > 0.1


@pytest.mark.parametrize("form", FORMS)
def test_only_the_relativistic_generator_looks_at_real_pictures(form, logits):
    real, fake = logits
    played = game(form)
    assert played.needs_real == (form == "relativistic_average")
    if played.needs_real:
        with pytest.raises(ValueError, match="needs the logits of real"):
            played.fool(fake)
    else:
        assert played.fool(fake) == played.fool(fake, real * torch.nan)


@pytest.mark.parametrize("form", UNLABELLED)
def test_a_label_is_refused_where_there_is_none(form):
    with pytest.raises(ValueError, match=f"{form} has no label.*least_squares have one"):
        game(form, real_label=0.9)


@pytest.mark.parametrize("label", [0.0, -0.1, 1.1, float("nan")])
def test_a_label_that_is_no_probability_is_refused(label):
    with pytest.raises(ValueError, match="must lie above 0 and not above 1"):
        game("minimax", label)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_games_compute_in_float32_from_16_bit_logits(form, autocast):
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 1, 1, 64, 64, generator=generator).bfloat16().unbind()
    arrays = (real.double().numpy(), fake.double().numpy())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses = [game(form).judge(real, fake), game(form).fool(fake, real)]
    for loss, expected in zip(losses, (judged(form, *arrays), fooled(form, *arrays)), strict=True):
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


# Two densities on five points, in sixteenths; the middle one is as likely under both.
P = torch.tensor([8, 4, 2, 1, 1])
Q = torch.tensor([1, 3, 2, 2, 8])


def densities():
    return P.double() / 16, Q.double() / 16


class Table:
    """A discriminator of one free logit a point, and its loss over samples of p and q."""

    def __init__(self, played, p=P, q=Q):
        self.logits = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
        self.played, self.p, self.q = played, p, q

    def loss(self):
        points = torch.arange(5)
        real = self.logits[points.repeat_interleave(self.p)]
        return self.played.judge(real, self.logits[points.repeat_interleave(self.q)])

    def solve(self):
        """Minimise a smooth loss; return its least value."""
        optimizer = torch.optim.LBFGS(
            [self.logits], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
        )

        def closure():
            optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            return loss

        optimizer.step(closure)
        return self.loss().item()


@pytest.mark.parametrize("form", ["minimax", "non_saturating"])
def test_the_best_discriminator_tells_the_ratio_and_the_value_the_divergence(form):
    """Proposition 1 and theorem 1 of arXiv:1406.2661: D* = p / (p + q), V = 2 JSD - log 4."""
    p, q = densities()
    table = Table(game(form))
    value = -table.solve()
    middle = (p + q) / 2
    jsd = ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2
    torch.testing.assert_close(table.logits.sigmoid().detach(), p / (p + q), rtol=0, atol=1e-4)
    assert value == pytest.approx(2 * jsd.item() - numpy.log(4), abs=1e-6)
    assert jsd > 0.1


def test_the_value_is_minus_log_4_where_the_generator_has_won():
    """Theorem 1 of arXiv:1406.2661; so it is of the relativistic game, by its symmetry."""
    for form in ("minimax", "relativistic_average"):
        assert -Table(game(form), P, P).solve() == pytest.approx(-numpy.log(4), abs=1e-9)


@pytest.mark.parametrize("label", [1.0, 0.9])
def test_smoothing_scales_the_best_discriminator(label):
    """D* = a p / (p + q): arXiv:1606.03498, section 3.4."""
    p, q = densities()
    tables = [Table(game(form, label)) for form in LABELLED]
    for table in tables:
        table.solve()
    *sigmoids, least_squares = (table.logits.detach() for table in tables)
    for found in (*(each.sigmoid() for each in sigmoids), least_squares):
        torch.testing.assert_close(found, label * p / (p + q), rtol=0, atol=1e-4)


def test_the_least_squares_value_is_what_the_best_discriminator_leaves():
    """The sum of p q / (p + q), for D* = p / (p + q) with a = 0, b = 1 (arXiv:1611.04076)."""
    p, q = densities()
    assert Table(game("least_squares")).solve() == pytest.approx((p * q / (p + q)).sum().item())


def test_the_best_hinge_discriminator_is_the_sign():
    """D* = sign(p - q), and its loss is twice the overlap (arXiv:1705.02894)."""
    p, q = densities()
    table = Table(game("hinge"))
    candidates = torch.linspace(-2, 2, 17, dtype=torch.float64)
    with torch.no_grad():
        for point in (0, 1, 3, 4):  # the loss is a sum over points, so one at a time will do
            losses = []
            for candidate in candidates:
                table.logits[point] = candidate
                losses.append(table.loss().item())
            table.logits[point] = candidates[numpy.argmin(losses)]
    assert torch.equal(table.logits.detach(), (p - q).sign())
    assert table.loss().item() == pytest.approx(2 * torch.minimum(p, q).sum().item())


def test_the_best_clipped_critic_is_the_sign_times_the_limit():
    """Algorithm 1 of arXiv:1701.07875 on a table: its value is the limit times the L1 distance."""
    p, q = densities()
    table = Table(game("wasserstein"))
    optimizer = torch.optim.SGD([table.logits], lr=1.0)
    for _ in range(20):
        optimizer.zero_grad()
        table.loss().backward()
        optimizer.step()
        clip_weights_([table.logits], 0.5)
    torch.testing.assert_close(table.logits.detach(), 0.5 * (p - q).sign())
    assert -table.loss().item() == pytest.approx(0.5 * (p - q).abs().sum().item())


def test_the_best_relativistic_logits_rise_with_the_ratio():
    """Where the loss is least, p / q is an increasing function of the logit."""
    table = Table(game("relativistic_average"))
    assert table.solve() < numpy.log(4) - 0.1
    p, q = densities()
    assert torch.equal(table.logits.detach().argsort(), (p / q).argsort())


# Which side


@pytest.mark.parametrize(
    ("form", "label"), [*((form, 1.0) for form in FORMS), ("least_squares", 0.8)]
)
def test_side_is_that_of_what_a_discriminator_in_doubt_says(form, label, logits):
    """Of two equal distributions, which is found by trying; else of the other kind's mean.

    Between -1 and 1 a hinge is flat for these, and the same on both sides of 0.
    """
    real, fake = logits
    rules = game(form, label)
    if form in ("wasserstein", "relativistic_average"):
        boundary = fake.mean()
    elif form == "hinge":
        boundary = 0.0
    else:
        tried = torch.linspace(-2, 2, 401, dtype=torch.float64)
        boundary = tried[torch.stack([rules.judge(x, x) for x in tried]).argmin()]
        assert boundary.item() == pytest.approx(label / 2 if form == "least_squares" else 0.0)
    found = rules.side(real.requires_grad_(), fake)
    assert not found.requires_grad
    expected = torch.where(real.detach() > boundary, 1.0, -1.0)
    assert torch.equal(found.double(), expected.double())
    assert 0 < (expected > 0).float().mean() < 1
