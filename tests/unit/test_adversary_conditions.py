"""The other player under conditions: an age or a class, beside what it sees."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from i2i import Batch, Inputs, Progress
from i2i.adversary import Adversary, GameOptions
from i2i.testing import make_batch

INPUTS = Inputs(images=("a",), paired=False)
SHAPE = (3, 12, 12)
NUMBER = 3 * 12 * 12  # of values in a picture


class Scaled(nn.Module):
    """Says of a picture its mean times a weight and the condition's first number.

    Of a picture x under c the logit is ``weight c mean(x)``, whose slope has the length
    ``|weight c| / sqrt(NUMBER)``. It remembers what it was given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.5))
        self.given: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, condition: Tensor) -> tuple[tuple[Tensor, ...]]:
        self.given.append((x.detach().clone(), condition.detach().clone()))
        said = self.weight * x.mean((1, 2, 3)) * condition[:, 0]
        return ((x * condition[:, :1, None, None], said[:, None, None, None]),)


def adversary(**options: Any) -> Adversary:
    taught = nn.Linear(2, 2).parameters()
    made = Adversary(
        Scaled(), GameOptions.model_validate({"form": "wasserstein", **options}), taught
    )
    made.grow(SHAPE, 2)
    return made


def batch_of(step: int = 0, size: int = 4) -> Batch:
    return make_batch(INPUTS, batch_size=size, shapes={"a": SHAPE}, seed=step)


def now_at(step: int = 0, size: int = 4) -> Progress:
    return Progress(seed=2, stage="train", step=step, images=step * size)


def pictures(seed: int, size: int = 4) -> Tensor:
    return torch.randn(size, *SHAPE, generator=torch.Generator().manual_seed(seed))


def conditions(seed: int = 0, size: int = 4) -> tuple[Tensor, Tensor]:
    both = torch.randn(2, size, 2, generator=torch.Generator().manual_seed(100 + seed))
    return both[0], both[1]


def values(terms: Any) -> dict[str, float]:
    return {term.name: term.value.item() for term in terms}


def test_each_kind_is_judged_under_its_own_condition():
    player, (real, fake) = adversary(), (pictures(1), pictures(2))
    of_real, of_fake = conditions()
    judged = player.judge(real, fake, batch_of(), now_at(), (of_real, of_fake))
    said = [1.5 * x.mean((1, 2, 3)) * c[:, 0] for x, c in ((real, of_real), (fake, of_fake))]
    assert values(judged.terms)["judge"] == pytest.approx((said[1] - said[0]).mean().item())
    assert [
        torch.equal(c, expected)
        for (_, c), expected in zip(player.network.given, (of_real, of_fake), strict=True)
    ] == [True, True]


def test_generator_is_taught_under_the_condition_of_what_it_made():
    player, (real, fake) = adversary(), (pictures(1), pictures(2).requires_grad_())
    given = conditions()
    (term,) = player.fool(fake, real, batch_of(), now_at(), given)
    (slope,) = torch.autograd.grad(term.value, fake)
    expected = (-1.5 * given[1][:, 0] / NUMBER / 4)[:, None, None, None].expand_as(slope)
    torch.testing.assert_close(slope, expected)


def test_real_pictures_that_the_generator_is_compared_with_keep_their_condition():
    options = {"form": "relativistic_average", "feature_matching_weight": 1.0}
    player, (real, fake) = adversary(**options), (pictures(1), pictures(2))
    of_real, of_fake = conditions()
    found = values(player.fool(fake, real, batch_of(), now_at(), (of_real, of_fake)))
    ours, theirs = (
        1.5 * x.mean((1, 2, 3)) * c[:, 0] for x, c in ((real, of_real), (fake, of_fake))
    )
    lost = (-(theirs - ours.mean())).exp().log1p() + (ours - theirs.mean()).exp().log1p()
    assert found["adversarial"] == pytest.approx(lost.mean().item(), rel=1e-5)
    planes = [c[:, :1, None, None] for c in (of_real, of_fake)]
    apart = (real * planes[0] - fake * planes[1]).abs().mean().item()
    assert found["features"] == pytest.approx(apart, rel=1e-5)


def test_penalties_take_the_slope_under_the_condition_of_their_pictures():
    """Closed forms: the slope's length is |weight c| over the root of the number of values."""
    player = adversary(r1_weight=1.0, r2_weight=1.0, wgan_gp_weight=1.0)
    of_real, of_fake = conditions()
    batch, now = batch_of(), now_at()
    found = values(player.judge(pictures(1), pictures(2), batch, now, (of_real, of_fake)).terms)
    mix = now.uniform(batch, "mix", 1, 1, 1).flatten()
    between = mix * of_real[:, 0] + (1 - mix) * of_fake[:, 0]
    squares = {"r1": of_real[:, 0], "r2": of_fake[:, 0]}
    for name, condition in squares.items():
        expected = 0.5 * (1.5 * condition).square().mean().item() / NUMBER
        assert found[name] == pytest.approx(expected, rel=1e-5), name
    expected = ((1.5 * between).abs() / NUMBER**0.5 - 1).square().mean().item()
    assert found["wgan_gp"] == pytest.approx(expected, rel=1e-5)


def test_pictures_between_real_and_made_are_judged_between_their_conditions():
    """As much of the real condition as of the real picture: here they are equal numbers."""
    player = adversary(wgan_gp_weight=1.0)
    of_real, of_fake = conditions()
    real, fake = (c[:, :1, None, None].expand(-1, *SHAPE) for c in (of_real, of_fake))
    player.judge(real, fake, batch_of(), now_at(), (of_real, of_fake))
    seen, condition = player.network.given[-1]
    torch.testing.assert_close(seen[:, 0, 0, 0], condition[:, 0])
    apart = [(condition - each).abs().min().item() for each in (of_real, of_fake)]
    assert min(apart) > 1e-3  # it is neither


def test_pool_gives_each_older_picture_back_with_the_condition_it_was_made_under():
    player, num_older = adversary(pool_size=3), 0
    for step in range(8):
        given = conditions(step)
        fake = given[1][:, :1, None, None].expand(-1, *SHAPE)
        player.judge(pictures(step), fake, batch_of(step), now_at(step), given)
        seen, condition = player.network.given[-1]
        assert torch.equal(seen, condition[:, :1, None, None].expand_as(seen))
        is_new = (condition[:, None] == given[1]).all(2).any(1)
        num_older += int((~is_new).sum())
    assert 4 < num_older < 28  # of 32


def test_pool_and_its_conditions_survive_a_resume():
    player, again = adversary(pool_size=3), adversary(pool_size=3)
    for step in range(3):
        player.judge(
            pictures(step), pictures(9 + step), batch_of(step), now_at(step), conditions(step)
        )
    again.load_state_dict(player.state_dict())
    for each in (player, again):
        each.network.given.clear()
        each.judge(pictures(7), pictures(8), batch_of(7), now_at(7), conditions(7))
    for ours, theirs in zip(player.network.given, again.network.given, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {"augment": {"policy": "diffaugment"}},
        {"augment": {"policy": "adaptive", "probability": 0.8}},
        {"instance_noise": 0.5},
    ],
)
def test_what_changes_pictures_leaves_conditions_alone(options):
    player, given = adversary(**options, r1_weight=1.0), conditions()
    real, fake = pictures(1), pictures(2)
    player.judge(real, fake, batch_of(), now_at(), given)
    player.fool(fake, real, batch_of(), now_at(), given)
    expected = [given[0], given[1], given[0], given[1]]  # r1 looks at real ones
    shown = [real, fake, real, fake]
    for (seen, condition), wanted, picture in zip(
        player.network.given, expected, shown, strict=True
    ):
        assert torch.equal(condition, wanted)
        assert not torch.equal(seen, picture)


@pytest.mark.parametrize(
    "options",
    [{"pool_size": 3}, {"wgan_gp_weight": 1.0, "r1_weight": 1.0, "r2_weight": 1.0}],
)
def test_micro_batches_under_conditions_add_up_to_the_whole_batch(options):
    player = adversary(**options)
    parts = copy.deepcopy(player)
    for step in range(3):
        batch, now, given = batch_of(step), now_at(step), conditions(step)
        real, fake = pictures(step), pictures(9 + step)
        whole = values(player.judge(real, fake, batch, now, given).terms)
        found = dict.fromkeys(whole, 0.0)
        for piece, rows in zip(batch.split(2), torch.arange(4).split(2), strict=True):
            some = given[0][rows], given[1][rows]
            judged = parts.judge(real[rows], fake[rows], piece, now, some)
            for name, value in values(judged.terms).items():
                found[name] += value / 2
        assert found == pytest.approx(whole, rel=1e-5, abs=1e-6)


def test_game_without_conditions_gives_its_network_the_picture_alone():
    class Alone(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((1, 2, 3), keepdim=True)

    player = Adversary(
        Alone(), GameOptions(pool_size=2, r1_weight=1.0), nn.Linear(1, 1).parameters()
    )
    player.grow(SHAPE)
    judged = player.judge(pictures(1), pictures(2), batch_of(), now_at())
    assert values(judged.terms)["r1"] == pytest.approx(0.5 / NUMBER, rel=1e-5)
    assert player(pictures(1))[0][0].shape == (4, 1, 1, 1)
