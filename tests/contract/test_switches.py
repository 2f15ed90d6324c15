"""Every game and every penalty: switched on, it changes the gradients by what is computed here.

A family is built twice from one seed, off and on, and brought to the same step; the gradient of
each player's loss with the switch less that without it must be that of a formula in plain torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from pydantic.fields import FieldInfo
from torch import Tensor

from i2i import Translator, load_plugins
from i2i.adversary import GameOptions
from tests.contract.duels import (
    ALONE,
    Duel,
    assert_equal,
    duels,
    gradients_of,
    lead,
    less,
    made,
    make,
    norm,
    nudge,
    play,
)
from tests.contract.plain import FOOLS, JUDGES, one_centred, overlaps, zero_centred

FAMILIES = sorted(ALONE)
Loss = Callable[[Duel], Tensor]


@dataclass(frozen=True)
class Switch:
    """A row: what is switched, after how many steps, and what that adds to the losses."""

    on: dict[str, Any]
    judging: Loss | None = None
    fooling: Loss | None = None
    off: dict[str, Any] = field(default_factory=dict)
    steps: int = 0  # played before


def judged(form: str, real: list[Tensor], fake: list[Tensor]) -> Tensor:
    return torch.stack([JUDGES[form](r, f) for r, f in zip(real, fake, strict=True)]).sum()


def fooled(form: str, real: list[Tensor], fake: list[Tensor]) -> Tensor:
    return torch.stack([FOOLS[form](r, f) for r, f in zip(real, fake, strict=True)]).sum()


def of_form(form: str) -> Switch:
    def judging(duel: Duel) -> Tensor:
        return judged(form, *duel.said()) - judged("non_saturating", *duel.said())

    def fooling(duel: Duel) -> Tensor:
        real, fake = duel.said()
        real = [each.detach() for each in real]
        return fooled(form, real, fake) - fooled("non_saturating", real, fake)

    # both games of the first paper share the discriminator's loss
    return Switch({"form": form}, None if form == "minimax" else judging, fooling)


def smoothed(form: str) -> Switch:
    """One-sided: the loss of real pictures alone, at a label of 0.8 less that at 1."""

    def judging(duel: Duel) -> Tensor:
        logits = duel.on_real.logits(duel.real)[0]
        if form == "least_squares":
            return ((logits - 0.8) ** 2 - (logits - 1) ** 2).mean()
        p = logits.sigmoid()
        return (-0.8 * p.log() - 0.2 * (1 - p).log() + p.log()).mean()

    return Switch({"form": form, "real_label": 0.8}, judging, off={"form": form})


def matching(duel: Duel) -> Tensor:
    """2.0 times the mean distance of the features before the logits."""
    distances = [
        (r.detach() - f).abs().mean()
        for reals, fakes in zip(duel.on_real(duel.real), duel.on_fake(duel.fake), strict=True)
        for r, f in zip(reals[:-1], fakes[:-1], strict=True)
    ]
    return 2.0 * torch.stack(distances).mean()


def mixed(duel: Duel) -> Tensor:
    mix = duel.now.uniform(duel.batch, f"mix{duel.label}", 1, 1, 1).double()
    return one_centred(duel.between(mix), duel.real, duel.fake.detach(), mix)


def means(duel: Duel) -> tuple[Tensor, Tensor]:
    return tuple(torch.cat([e.flatten() for e in each]).mean() for each in duel.said())


def flat_at_real(duel: Duel) -> Tensor:
    return 4.0 * zero_centred(duel.on_real, duel.real)


def flat_at_fake(duel: Duel) -> Tensor:
    return 4.0 * zero_centred(duel.on_fake, duel.fake)


def lecam(decay: float) -> Loss:
    """Each kind against the other's running mean, which begins at zero."""

    def judging(duel: Duel) -> Tensor:
        mean_real = mean_fake = torch.zeros((), dtype=torch.float64)
        for earlier in duel.past:
            real, fake = means(earlier)
            mean_real = (decay * mean_real + (1 - decay) * real).detach()
            mean_fake = (decay * mean_fake + (1 - decay) * fake).detach()
        (real,), (fake,) = duel.said()
        return 3.0 * (((real - mean_fake) ** 2).mean() + ((fake - mean_real) ** 2).mean())

    return judging


def away(now: dict[str, Tensor], before: list[dict[str, Tensor]]) -> Tensor:
    """The squared distance of weights from their mean over earlier steps."""
    apart = [
        ((weight - sum(each[name].detach() for each in before) / len(before)) ** 2).sum()
        for name, weight in now.items()
    ]
    return torch.stack(apart).sum()


def noisy(deviation: float) -> Switch:
    """Half of the images over which the noise fades have been seen: half of it is left."""

    def judging(duel: Duel) -> Tensor:
        real = duel.real + deviation / 2 * duel.normal("noise_real")
        fake = duel.fake + deviation / 2 * duel.normal("noise_fake")
        under = judged("non_saturating", duel.on_real.logits(real), duel.on_fake.logits(fake))
        return under - judged("non_saturating", *duel.said())

    def fooling(duel: Duel) -> Tensor:
        fake = duel.on_fake.logits(duel.fake + deviation / 2 * duel.normal("noise_fooling"))
        return fooled("non_saturating", fake, fake) - fooled("non_saturating", *duel.said())

    on = {"instance_noise": deviation, "instance_noise_images": 8}
    return Switch(on, judging, fooling, steps=2)


def penalised_under_noise(duel: Duel) -> Tensor:
    """The slopes at real pictures of what the discriminator sees of them: they are under noise."""
    noise = 0.5 * duel.normal("noise_real")
    return 4.0 * zero_centred(duel.on_real, duel.real, lambda index, x: x + noise[index])


def pooled(duel: Duel) -> Tensor:
    """Half of the time an older translation, as a plain list of two decides, and its condition."""
    kept: list[tuple[Tensor, Tensor | None]] = []
    for met in (*duel.past, duel):
        shown = []
        draws = met.now.uniform(met.batch, f"pool{met.label}", 2).tolist()
        for new, (coin, place) in zip(met.made(), draws, strict=True):
            shown.append(new)
            if len(kept) < 2:
                kept.append(new)
            elif coin < 0.5:
                shown[-1], kept[int(2 * place)] = kept[int(2 * place)], new
    pictures, conditions = zip(*shown, strict=True)
    under = None if conditions[0] is None else torch.stack(conditions)
    logits = duel.plain.under(under).logits(torch.stack(pictures))
    real, fake = duel.said()
    return judged("non_saturating", real, logits) - judged("non_saturating", real, fake)


SWITCHES = {
    **{f"form {form}": of_form(form) for form in JUDGES if form != "non_saturating"},
    **{
        f"real_label {form}": smoothed(form)
        for form in ("minimax", "non_saturating", "least_squares")
    },
    "adversarial_weight": Switch(
        {"adversarial_weight": 3.0}, None, lambda duel: 2 * fooled("non_saturating", *duel.said())
    ),
    "discriminator_weight": Switch(
        {"discriminator_weight": 3.0}, lambda duel: 2 * judged("non_saturating", *duel.said())
    ),
    "feature_matching_weight": Switch({"feature_matching_weight": 2.0}, None, matching),
    "wgan_gp_weight": Switch({"wgan_gp_weight": 5.0}, lambda duel: 5.0 * mixed(duel)),
    "r1_weight": Switch({"r1_weight": 4.0}, flat_at_real),
    "r2_weight": Switch({"r2_weight": 4.0}, flat_at_fake),
    "penalties beside a loss of another weight": Switch(
        {"r1_weight": 4.0, "discriminator_weight": 0.5},
        flat_at_real,
        off={"discriminator_weight": 0.5},
    ),
    "penalty_every, when due": Switch(
        {"r1_weight": 4.0, "penalty_every": 3},
        lambda duel: 3 * flat_at_real(duel),
        steps=3,
    ),
    "penalty_every, when not": Switch({"r1_weight": 4.0, "penalty_every": 3}, steps=2),
    "penalties under noise": Switch(
        {"r1_weight": 4.0, "instance_noise": 0.5},
        penalised_under_noise,
        off={"instance_noise": 0.5},
    ),
    "lecam_weight, at first": Switch({"lecam_weight": 3.0}, lecam(0.99)),
    "lecam_weight": Switch({"lecam_weight": 3.0}, lecam(0.99), steps=2),
    "lecam_decay": Switch({"lecam_weight": 3.0, "lecam_decay": 0.5}, lecam(0.5), steps=2),
    "orthogonal_weight": Switch(
        {"orthogonal_weight": 0.3}, lambda duel: 0.3 * overlaps(duel.plain.weights)
    ),
    "historical_average_weight, at first": Switch({"historical_average_weight": 7.0}),
    "historical_average_weight": Switch(
        {"historical_average_weight": 7.0},
        lambda duel: 7.0 * away(duel.plain.weights, [each.plain.weights for each in duel.past]),
        lambda duel: 7.0 * away(duel.taught, [each.taught for each in duel.past]),
        steps=2,
    ),
    "instance_noise": noisy(0.8),
    "instance_noise, faded": Switch({"instance_noise": 0.8, "instance_noise_images": 4}, steps=2),
    "pool_size": Switch({"pool_size": 2}, pooled, steps=4),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("row", SWITCHES)
def test_switch_adds_to_the_gradients_what_its_formula_says(family, row):
    switch = SWITCHES[row]
    gradients = []
    for options in (switch.off, switch.on):
        translator = made(family, options)
        past = lead(translator, switch.steps)
        batch, now = make(translator, switch.steps)
        met = duels(translator, batch, now, past)
        gradients.append(play(translator, batch, now)[0])
    off, on = gradients
    expected = gradients_of(translator, met, switch.judging, switch.fooling)
    assert_equal(less(on, off), expected)
    for player, loss in zip(expected, (switch.judging, switch.fooling), strict=True):
        without = norm(off[player])
        assert loss is None or norm(expected[player]) > 0.03 * without, f"{row} hardly matters"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", JUDGES)
def test_whole_gradient_of_a_game_is_that_of_its_formulas(family, form):
    translator = made(family, {"form": form})
    batch, now = make(translator)
    met = duels(translator, batch, now)

    def fooling(duel: Duel) -> Tensor:
        real, fake = duel.said()
        return fooled(form, [each.detach() for each in real], fake)

    found, _ = play(translator, batch, now)
    expected = gradients_of(translator, met, lambda duel: judged(form, *duel.said()), fooling)
    assert_equal(found, expected)


def clip_by_hand(translator: Translator, limit: float) -> int:
    """Clip the discriminators' weights and no others; return how many there were to clip."""
    num_clipped = 0
    with torch.no_grad():
        for name, parameter in translator.named_parameters():
            if name.startswith(("judge_", "adversary.")):
                num_clipped += int((parameter.abs() > limit).sum())
                parameter.copy_(parameter.clamp(-limit, limit))
    return num_clipped


@pytest.mark.parametrize("family", FAMILIES)
def test_weight_limit_clips_the_discriminators_weights_after_the_step_and_no_others(family):
    translator, expected = made(family, {"weight_limit": 0.1}), made(family)
    batch, now = make(translator)
    _, values = play(translator, batch, now)
    nudge(translator, 1)  # the players move
    expected.load_state_dict(translator.state_dict())
    translator.after_step(now, values)
    assert clip_by_hand(expected, 0.1) > 100
    for name, parameter in expected.named_parameters():
        assert torch.equal(translator.get_parameter(name), parameter), name


@pytest.mark.parametrize("family", FAMILIES)
def test_generator_is_never_taught_by_weights_beyond_the_limit(family):
    """Algorithm 1 of arXiv:1701.07875 clips after each move of the critic, not after a step.

    pix2pix's discriminator moves before the generator in a step. With the moves of a step played
    in its order, the generator's gradient must be that of a discriminator clipped by hand.
    """
    on, off = made(family, {"weight_limit": 0.1}), made(family)
    batch, now = make(on)
    unlike, _ = play(off, batch, now)
    assert clip_by_hand(off, 0.1) > 100
    player = next(name for name in unlike if name.startswith("generator"))
    found, _ = play(on, batch, now)
    expected, _ = play(off, batch, now)
    assert_equal({player: found[player]}, expected, 1e-6)
    assert norm(less({player: found[player]}, unlike)[player]) > 0.05 * norm(unlike[player])


@pytest.mark.parametrize("family", FAMILIES)
def test_discriminator_steps_are_the_moves_for_one_of_the_generator(family):
    off, on = made(family), made(family, {"discriminator_steps": 3})
    moves = []
    for step in range(7):
        batch, now = make(on, step)
        found, _ = play(on, batch, now)
        expected, _ = play(off, batch, now)
        moves.append(len(found))
        assert_equal(found, expected)  # whoever moves does so as ever
        assert any(name.startswith("discriminator") for name in found)
    assert moves == [2, 1, 1, 2, 1, 1, 2]


@pytest.mark.parametrize("family", FAMILIES)
def test_penalty_is_due_as_often_as_said_and_weighs_as_many_times_more(family):
    translator = made(family, {"r1_weight": 4.0, "r2_weight": 1.0, "penalty_every": 2})
    for step in range(4):
        batch, now = make(translator, step)
        weights = {
            term.name.removesuffix("_a"): term.weight
            for update in translator.training_step(batch, now)
            for term in update.terms
            if term.name.startswith(("r1", "r2")) and not term.name.endswith("_b")
        }
        assert weights == ({} if step % 2 else {"r1": 8.0, "r2": 2.0})


def test_every_family_that_plays_the_game_takes_part():
    plugins = load_plugins()
    options = {name: plugins.family(name).Options.model_fields for name in plugins.families}
    players = [name for name, fields in options.items() if plays(fields)]
    assert sorted(players) == FAMILIES


def plays(fields: Mapping[str, FieldInfo]) -> bool:
    kinds = [each.annotation for each in fields.values()]
    return any(isinstance(kind, type) and issubclass(kind, GameOptions) for kind in kinds)


def test_every_key_of_the_game_has_a_row():
    apart = {"weight_limit", "discriminator_steps", "augment"}  # tests of their own
    switched = {key for switch in SWITCHES.values() for key in switch.on}
    assert switched | apart == set(GameOptions.model_fields)
