"""The other player by itself: what it takes, what it keeps, and what it costs."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from i2i import Inputs, PluginError, Progress
from i2i.adversary import Adversary, GameOptions, Judged
from i2i.nn import DiscriminatorOptions, PatchDiscriminator
from i2i.testing import make_batch

INPUTS = Inputs(images=("a",), paired=False)
SHAPE = (3, 12, 12)

STATEFUL: dict[str, Any] = {
    "form": "hinge",
    "pool_size": 3,
    "lecam_weight": 1.0,
    "historical_average_weight": 1.0,
    "augment": {"policy": "adaptive", "target": 0.0, "speed": 12},
}
"""A game in which all that can follow from steps does."""


def batch_of(step: int, size: int = 4):
    return make_batch(INPUTS, batch_size=size, shapes={"a": SHAPE}, seed=step)


def now_at(step: int, size: int = 4) -> Progress:
    return Progress(seed=2, stage="train", step=step, images=step * size)


def pictures(seed: int, size: int = 4) -> Tensor:
    return torch.randn(size, *SHAPE, generator=torch.Generator().manual_seed(seed))


def network(seed: int = 0, **options: Any) -> PatchDiscriminator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = PatchDiscriminator(
            3, DiscriminatorOptions(**{"width": 2, "patch": 16, "norm": "none", **options})
        )
        for parameter in made.parameters():
            nn.init.normal_(parameter, 0.0, 0.3)
    return made


def adversary(
    judge: nn.Module | None = None, generator: nn.Module | None = None, label="", **options: Any
) -> Adversary:
    taught = (generator or nn.Linear(2, 2)).parameters()
    made = Adversary(judge or network(), GameOptions.model_validate(options), taught, label)
    made.grow(SHAPE)
    return made


class Returns(nn.Module):
    """A discriminator that says the same of any picture, or what is made of its logits."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 1, 4, 2, 1)
        self.change = change
        self.num_calls = 0

    def forward(self, x: Tensor) -> Any:
        self.num_calls += 1
        return self.change(self.convolution(x))


def total(terms) -> Tensor:
    return torch.stack([term.weight * term.value for term in terms]).sum()


def play(player: Adversary, step: int, size: int = 4) -> tuple[dict[str, float], Judged]:
    """Play a step with made pictures and follow it; return the values of all terms."""
    batch, now = batch_of(step, size), now_at(step, size)
    fake, real = pictures(2 * step, size), pictures(2 * step + 1, size)
    judged = player.judge(real, fake, batch, now)
    terms = [*judged.terms, *player.fool(fake, real, batch, now)]
    values = {term.name: term.value.detach().item() for term in terms}
    player.after_step(now, values | {n: float(v) for n, v in judged.measured.items()})
    return values, judged


# What a discriminator may return


def test_logits_alone_are_a_discriminator_of_one_layer():
    player = adversary(Returns(lambda logits: logits), r1_weight=1.0, form="hinge")
    real, fake = pictures(1), pictures(2)
    judged = player.judge(real, fake, batch_of(0), now_at(0))
    ours, theirs = player.network.convolution(real), player.network.convolution(fake)
    expected = (1 - ours).clamp(min=0).mean() + (1 + theirs).clamp(min=0).mean()
    assert [term.name for term in judged.terms] == ["judge", "r1"]
    torch.testing.assert_close(judged.terms[0].value, expected)
    assert player(real)[0][0].shape == (4, 1, 6, 6)


def test_scales_count_alike_whatever_their_number_of_logits():
    """The losses of scales are added; running means are over all logits."""
    player = adversary(
        Returns(lambda x: ((x,), (2 * x[..., :1, :1],))), form="wasserstein", lecam_weight=1.0
    )
    real, fake = pictures(1), pictures(2)
    judged = player.judge(real, fake, batch_of(0), now_at(0))
    ours, theirs = (player.network.convolution(each) for each in (real, fake))
    expected = theirs.mean() - ours.mean() + 2 * (theirs - ours)[..., :1, :1].mean()
    torch.testing.assert_close(judged.terms[0].value, expected)
    mean = (ours.sum() + 2 * ours[..., :1, :1].sum()) / (4 * 37)
    torch.testing.assert_close(judged.measured["mean_real"], mean.detach())


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda x: [x], "list"),
        (lambda x: (x, x), "tuple"),
        (lambda x: (), "tuple"),
        (lambda x: ((),), "tuple"),
        (lambda x: {"logits": x}, "dict"),
    ],
)
def test_other_returns_are_named(change, kind):
    player = adversary(Returns(change))
    with pytest.raises(PluginError, match=f"a discriminator returns {kind}"):
        player.judge(pictures(2), pictures(1), batch_of(0), now_at(0))


# Who learns from whom


def test_judging_teaches_the_discriminator_and_fooling_the_pictures():
    player = adversary(feature_matching_weight=1.0, form="relativistic_average", r1_weight=1.0)
    real, fake = pictures(1).requires_grad_(), pictures(2).requires_grad_()
    judged = player.judge(real, fake, batch_of(0), now_at(0))
    leaves = [fake, real, *player.network.parameters()]
    to_fake, to_real, *own = torch.autograd.grad(total(judged.terms), leaves, allow_unused=True)
    assert to_fake is None
    assert to_real is None
    assert all(each is not None for each in own)
    terms = player.fool(fake, real, batch_of(0), now_at(0))
    to_fake, to_real = torch.autograd.grad(total(terms), [fake, real], allow_unused=True)
    assert to_fake.abs().sum() > 0
    assert to_real is None


@pytest.mark.parametrize(
    ("options", "judging", "fooling"),
    [
        ({}, 2, 1),
        ({"r1_weight": 1.0}, 3, 1),
        ({"r1_weight": 1.0, "r2_weight": 1.0, "wgan_gp_weight": 1.0}, 5, 1),
        ({"form": "relativistic_average"}, 2, 2),
        ({"lecam_weight": 1.0, "orthogonal_weight": 1.0}, 2, 1),
        ({"instance_noise": 1.0, "augment": {"policy": "diffaugment"}}, 2, 1),
    ],
)
def test_what_is_off_costs_no_pass(options, judging, fooling):
    player = adversary(Returns(lambda x: ((x, x),)), **options)
    player.judge(pictures(2), pictures(1), batch_of(0), now_at(0))
    assert player.network.num_calls == judging
    player.fool(pictures(1), pictures(2), batch_of(0), now_at(0))
    assert player.network.num_calls == judging + fooling


def test_label_ends_every_name():
    player = adversary(
        label="_b",
        **STATEFUL,
        r1_weight=1.0,
        r2_weight=1.0,
        wgan_gp_weight=1.0,
        orthogonal_weight=1.0,
        feature_matching_weight=1.0,
    )
    values, judged = play(player, 0)
    names = [*values, *judged.measured]
    assert all(name.endswith("_b") for name in names)
    assert len(values) == 10
    assert len(set(names)) == len(names)
    assert player.pool.name == "pool_b"


def test_two_adversaries_of_a_family_draw_differently():
    options = {"instance_noise": 1.0, "form": "wasserstein"}
    one, other = (adversary(label=label, **options) for label in ("_a", "_b"))
    values = [play(each, 0)[0] for each in (one, other)]
    assert values[0]["judge_a"] != values[1]["judge_b"]
    again = play(adversary(label="_a", **options), 0)[0]
    assert again == values[0]


# State


def test_a_step_after_a_resume_is_the_step_that_would_have_come():
    generator = nn.Linear(2, 2)
    player = adversary(generator=generator, **STATEFUL)
    for step in range(3):
        play(player, step)
        with torch.no_grad():
            for parameter in (*generator.parameters(), *player.network.parameters()):
                parameter += 0.05
    resumed = adversary(network(seed=9), copy.deepcopy(generator), **STATEFUL)
    unlike, _ = play(copy.deepcopy(resumed), 3)
    resumed.load_state_dict(player.state_dict())
    expected, _ = play(player, 3)
    found, _ = play(resumed, 3)
    assert found == expected
    assert unlike != expected
    for name, each in player.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], each), name


def test_probability_follows_the_sign_of_real_logits_and_counts_the_images_since():
    player = adversary(augment=STATEFUL["augment"] | {"limit": 0.5})
    found = []
    for images, sign in ((0, 1.0), (3, 1.0), (6, 1.0), (9, 1.0), (12, -1.0), (15, 1.0)):
        player.after_step(Progress(0, "train", 0, images), {"sign": sign})
        found.append(float(player.augment.probability))
    # by 3 of 12 images a step, from the second on, up to the limit
    assert found == pytest.approx([0.0, 0.25, 0.5, 0.5, 0.25, 0.5])


def test_probability_goes_on_where_another_stage_counts_from_zero():
    player = adversary(augment=STATEFUL["augment"])
    for images in (0, 3, 6, 0, 3):
        player.after_step(Progress(0, "train", 0, images), {"sign": 1.0})
    assert float(player.augment.probability) == pytest.approx(3 * 3 / 12)


def test_sign_is_the_mean_sign_of_all_logits_of_real_pictures():
    player = adversary(**STATEFUL)
    real = pictures(1)
    judged = player.judge(real, pictures(2), batch_of(0), now_at(0))
    logits = player.network(real)[0][-1]
    share = (logits > 0).float().mean().item()
    assert 0 < share < 1
    assert float(judged.measured["sign"]) == pytest.approx(2 * share - 1)


def test_nothing_is_measured_or_kept_that_no_switch_asks_for():
    player = adversary()
    _, judged = play(player, 0)
    assert judged.measured == {}
    kept = {name for name, _ in player.named_buffers() if not name.startswith("network.")}
    assert not {"mean_real", "mean_fake", "own_history.mean"} & kept


# Micro-batches

INVARIANT: dict[str, dict[str, Any]] = {
    **{
        form: {"form": form}
        for form in ("minimax", "non_saturating", "least_squares", "hinge", "wasserstein")
    },
    "penalties": {"wgan_gp_weight": 2.0, "r1_weight": 2.0, "r2_weight": 2.0},
    "state": STATEFUL,
    "features": {"feature_matching_weight": 1.0},
    "shown": {"instance_noise": 0.5, "augment": {"policy": "diffaugment"}},
}


@pytest.mark.parametrize("options", INVARIANT.values(), ids=INVARIANT)
def test_micro_batches_add_up_to_the_whole_batch(options):
    player = adversary(**options)
    parts = copy.deepcopy(player)
    for step in range(2):
        batch, now = batch_of(step), now_at(step)
        fake, real = pictures(2 * step), pictures(2 * step + 1)
        whole = player.judge(real, fake, batch, now)
        expected = {term.name: term.value.detach() for term in whole.terms} | dict(whole.measured)
        expected |= {t.name: t.value.detach() for t in player.fool(fake, real, batch, now)}
        found = dict.fromkeys(expected, 0.0)
        for piece, f, r in zip(
            batch.split(2), fake.tensor_split(2), real.tensor_split(2), strict=True
        ):
            judged = parts.judge(r, f, piece, now)
            values = {t.name: t.value.detach() for t in judged.terms} | dict(judged.measured)
            values |= {t.name: t.value.detach() for t in parts.fool(f, r, piece, now)}
            for name, value in values.items():
                found[name] += float(value) / 2
        for name, value in expected.items():
            assert found[name] == pytest.approx(float(value), rel=1e-5, abs=1e-6), name
        for each in (player, parts):
            each.after_step(now, {name: float(value) for name, value in expected.items()})


def test_relativistic_means_are_those_of_the_micro_batch():
    player = adversary(form="relativistic_average")
    fake, real = pictures(1), pictures(2)
    whole = player.judge(real, fake, batch_of(0), now_at(0)).terms[0].value.item()
    halves = [
        player.judge(r, f, piece, now_at(0)).terms[0].value.item() / 2
        for piece, f, r in zip(
            batch_of(0).split(2), fake.tensor_split(2), real.tensor_split(2), strict=True
        )
    ]
    assert abs(sum(halves) - whole) > 1e-4


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty_every": 2}, "no penalty_every without wgan_gp_weight or r1_weight or r2_weight"),
        ({"lecam_decay": 0.5}, "no lecam_decay without lecam_weight"),
        ({"instance_noise_images": 9}, "no instance_noise_images without instance_noise"),
        ({"form": "hinge", "real_label": 0.9}, "hinge has no label to smooth"),
        (
            {"form": "wasserstein", "augment": {"policy": "adaptive", "target": 0.6}},
            "no augment.target beside wasserstein: its logits have no zero",
        ),
        ({"real_label": 0.5}, "greater than 0.5"),
        ({"adversarial_weight": 0.0}, "greater than 0"),
        ({"r1_weight": math.inf}, "finite"),
        ({"gradient_penalty": 10.0}, "Extra inputs are not permitted"),
    ],
)
def test_options_without_effect_or_sense_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        GameOptions.model_validate(options)


def test_defaults_written_out_are_accepted():
    """A run's recipe spells out every key, those without effect included."""
    options = GameOptions()
    assert GameOptions.model_validate(options.model_dump()) == options


# Compilation


def test_compiled_discriminator_still_takes_the_slopes_of_penalties():
    """What is compiled cannot be differentiated twice: penalties go around it."""
    options = {"r1_weight": 1.0, "wgan_gp_weight": 1.0, "augment": {"policy": "diffaugment"}}
    plain, compiled = adversary(**options), adversary(**options)
    compiled.compile(backend="aot_eager")
    gradients = []
    for player in (plain, compiled):
        judged = player.judge(pictures(2), pictures(1), batch_of(0), now_at(0))
        parameters = [*player.network.parameters()]
        gradients.append(torch.autograd.grad(total(judged.terms), parameters))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    at = pictures(1).requires_grad_()
    (slope,) = torch.autograd.grad(compiled(at)[0][-1].sum(), at, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        slope.sum().backward()  # it was compiled indeed
