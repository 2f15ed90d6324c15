"""What the other player is shown, and what follows from it: augmentation, noise, and its pool."""

from typing import Any

import pytest
import torch
from torch import nn

from i2i import PluginError
from i2i.adversary import Adversary, GameOptions
from i2i.nn import DiscriminatorOptions, PatchDiscriminator
from tests.unit.test_adversary import (
    Returns,
    adversary,
    batch_of,
    now_at,
    pictures,
    total,
)

BARE = {"width": 2, "patch": 16, "norm": "none"}


def ungrown(channels: int = 3, **options: Any) -> Adversary:
    judge = PatchDiscriminator(channels, DiscriminatorOptions(**BARE))
    return Adversary(judge, GameOptions.model_validate(options), [], "_b")


# How sure it is


def trained_on_one_kind(form: str, **options: Any) -> tuple[Adversary, list[float]]:
    """Let a discriminator judge two halves of one distribution; return it and what it was."""
    judge = Returns(lambda logits: logits)
    with torch.no_grad():
        nn.init.normal_(judge.convolution.weight, 0.0, 0.05)
        nn.init.constant_(judge.convolution.bias, 3.0)  # from where it must come back, if it can
    augment = {"policy": "adaptive", "target": 0.6, "speed": 200, "probability": 0.4}
    augment |= {"operations": ["pixels"]}
    player = adversary(judge, form=form, augment=augment, **options)
    optimizer = torch.optim.Adam(judge.parameters(), 0.1)
    sides = []
    for step in range(160):
        batch, now = batch_of(step), now_at(step)
        judged = player.judge(pictures(2 * step), pictures(2 * step + 1), batch, now)
        optimizer.zero_grad()
        total(judged.terms).backward()
        optimizer.step()
        values = {name: float(each) for name, each in judged.measured.items()}
        sides.append(values["sign"])
        player.after_step(now, values)
    return player, sides


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("minimax", {}),
        ("non_saturating", {}),
        ("least_squares", {}),
        ("least_squares", {"real_label": 0.8}),
        ("relativistic_average", {}),
    ],
)
def test_discriminator_that_cannot_tell_both_kinds_apart_is_shown_them_as_they_are(form, options):
    """Where both kinds are one, r_t of arXiv:2006.06676 is 0: nothing is learnt by heart.

    That of least squares then says the half of its label, and a relativistic one any number.
    """
    torch.manual_seed(0)
    player, sides = trained_on_one_kind(form, **options)
    assert abs(sum(sides[-60:]) / 60) < 0.35
    assert float(player.augment.probability) == 0


# Features


@pytest.mark.parametrize(
    "options",
    [
        {"augment": {"policy": "diffaugment"}},
        {"augment": {"policy": "adaptive", "probability": 0.7}},
        {"instance_noise": 0.7},
        {"instance_noise": 0.7, "augment": {"policy": "diffaugment"}},
    ],
)
def test_features_of_equal_pictures_are_equal_however_they_are_shown(options):
    """They are compared place by place, so both kinds are moved and disturbed alike."""
    player = adversary(feature_matching_weight=1.0, **options)
    real, fake = pictures(1), pictures(2)
    values = []
    for each in (real, fake):
        terms = player.fool(each, real, batch_of(0), now_at(0))
        values.append({term.name: term.value.item() for term in terms}["features"])
    assert values[0] == 0
    assert values[1] > 0.01


# Growing


def test_pool_without_a_size_names_the_call_that_is_missing():
    player = ungrown(pool_size=2)
    with pytest.raises(PluginError) as caught:
        player.judge(pictures(1), pictures(2), batch_of(0), now_at(0))
    assert str(caught.value) == (
        "i2i.adversary.Adversary_b: the pool has no size yet; expected grow() called with the "
        "(C, H, W) of what the discriminator sees; call it from the family's grow."
    )
    player.grow((3, 12, 12))
    assert player.judge(pictures(1), pictures(2), batch_of(0), now_at(0)).terms


def test_without_a_pool_nothing_needs_to_grow():
    player, real, fake = ungrown(), pictures(1), pictures(2).requires_grad_()
    expected = adversary(player.network, label="_b").judge(real, fake, batch_of(0), now_at(0))
    found = player.judge(real, fake, batch_of(0), now_at(0))
    assert torch.equal(found.terms[0].value, expected.terms[0].value)
    found.terms[0].value.backward()
    assert fake.grad is None


def test_any_number_of_channels_is_judged_where_nothing_is_augmented():
    player = ungrown(channels=4)
    real, fake = (torch.randn(4, 4, 12, 12) for _ in range(2))
    assert player.judge(real, fake, batch_of(0), now_at(0)).terms
    assert player.fool(fake, real, batch_of(0), now_at(0))
    with pytest.raises(PluginError, match="C a multiple of 3"):
        ungrown(channels=4, augment={"policy": "diffaugment"}).judge(
            real, fake, batch_of(0), now_at(0)
        )
