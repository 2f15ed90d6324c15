"""What discriminators see: options, draws, gradients, adaptation, and that it does not leak."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest
import tomli_w
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from i2i import Batch, Inputs, PluginError, Progress
from i2i.augment import DiscriminatorAugment, DiscriminatorAugmentOptions, adaptive
from i2i.augment.chance import Chance
from i2i.augment.warp import warp
from i2i.testing import make_batch

NOW = Progress(seed=3, stage="train", step=5, images=20)
INPUTS = Inputs(("a", "b"), paired=True)
ALWAYS = {"policy": "diffaugment"}
OFTEN = {"policy": "adaptive", "probability": 0.7}


def augment(**options: Any) -> DiscriminatorAugment:
    return DiscriminatorAugment(DiscriminatorAugmentOptions(**options))


@pytest.fixture
def batch() -> Batch:
    shape = (3, 16, 16)
    return make_batch(INPUTS, batch_size=6, shapes={"a": shape, "b": shape})


@pytest.mark.parametrize("options", [ALWAYS, OFTEN])
def test_draws_follow_sample_step_and_name(batch: Batch, options: dict[str, Any]) -> None:
    tried, images = augment(**options), batch.images["a"]
    whole = tried(images, batch, NOW, "real")
    for number in (2, 6):
        parts = [tried(part.images["a"], part, NOW, "real") for part in batch.split(number)]
        torch.testing.assert_close(torch.cat(parts), whole)
    assert torch.equal(tried(images, batch, NOW, "real"), whole)
    assert not torch.equal(tried(images, batch, NOW, "fake"), whole)
    assert not torch.equal(tried(images, batch, replace(NOW, step=6), "real"), whole)
    same = images[:1].expand(6, -1, -1, -1)
    assert len({each.sum().item() for each in tried(same, batch, NOW, "real")}) > 3


@pytest.mark.parametrize("options", [ALWAYS, OFTEN])
def test_pictures_side_by_side_in_channels_are_changed_alike(
    batch: Batch, options: dict[str, Any]
) -> None:
    tried, (a, b) = augment(**options), batch.images.values()
    both = tried(torch.cat([a, b], 1), batch, NOW, "x")
    torch.testing.assert_close(both[:, :3], tried(a, batch, NOW, "x"))
    torch.testing.assert_close(both[:, 3:], tried(b, batch, NOW, "x"))


@pytest.mark.parametrize("size", [(12, 20), (21, 9), (16, 16)])
@pytest.mark.parametrize("options", [ALWAYS, OFTEN])
def test_pictures_of_any_shape_and_precision_keep_them(
    batch: Batch, options: dict[str, Any], size: tuple[int, int]
) -> None:
    tried, images = augment(**options), torch.rand(6, 3, *size)
    found = tried(images, batch, NOW, "x")
    assert found.shape == images.shape
    lower = tried(images.bfloat16(), batch, NOW, "x")
    assert lower.dtype == torch.bfloat16
    torch.testing.assert_close(lower.float(), found, atol=0.06, rtol=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tried(images, batch, NOW, "x"), found)


@pytest.mark.parametrize("options", [ALWAYS, OFTEN])
def test_first_and_second_gradients_reach_the_pictures(options: dict[str, Any]) -> None:
    batch = make_batch(Inputs(("a",), False), batch_size=2, shapes={"a": (3, 5, 6)})
    tried, images = augment(**options), batch.images["a"].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tried(x, batch, NOW, "x"), images)
    assert torch.autograd.gradgradcheck(
        lambda x: tried(x, batch, NOW, "x") ** 2, images, fast_mode=True
    )


def test_penalty_through_the_augmentation_moves_the_discriminator(batch: Batch) -> None:
    """R1's gradient with respect to a weight, against a difference quotient."""
    tried, images = augment(**OFTEN), batch.images["a"].double().requires_grad_()
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 2, 3).double()

    def penalty() -> Tensor:
        score = F.softplus(network(tried(images, batch, NOW, "x"))).sum()
        (slope,) = torch.autograd.grad(score, images, create_graph=True)
        return slope.square().sum()

    penalty().backward()
    assert network.weight.grad is not None
    found = float(network.weight.grad[0, 0, 0, 0])
    values = []
    for move in (1e-5, -2e-5):
        network.weight.data[0, 0, 0, 0] += move
        values.append(float(penalty().detach()))
    assert found == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"policy": "adaptive", "target": 0.6}])
def test_pictures_come_back_as_they_are_where_nothing_is_done(
    batch: Batch, options: dict[str, Any]
) -> None:
    assert augment(**options)(batch.images["a"], batch, NOW, "x") is batch.images["a"]


def test_all_moves_are_one_warp_and_colours_follow(batch: Batch) -> None:
    images, chance = batch.images["a"], Chance(batch, NOW, "x")
    p, size = torch.tensor(0.7), (16, 16)
    moves = adaptive.draw_pixels(chance, p, size) @ adaptive.draw_geometry(chance, p, size)
    expected = adaptive.recolour(warp(images, moves), adaptive.draw_colour(chance, p))
    torch.testing.assert_close(augment(**OFTEN)(images, batch, NOW, "x"), expected)


def test_small_probability_leaves_most_pictures_bit_identical(batch: Batch) -> None:
    tried = augment(policy="adaptive", probability=0.02)
    found = tried(batch.images["a"], batch, NOW, "x")
    same = [torch.equal(one, two) for one, two in zip(found, batch.images["a"], strict=True)]
    assert sum(same) >= 3


@pytest.mark.parametrize(
    ("operations", "keeps_mean_colour", "keeps_places"),
    [(["colour"], False, True), (["pixels"], True, False), (["geometry"], False, False)],
)
def test_operations_can_be_chosen(
    batch: Batch, operations: list[str], keeps_mean_colour: bool, keeps_places: bool
) -> None:
    tried = augment(policy="adaptive", probability=0.8, operations=operations)
    images = batch.images["a"].clone()
    images[:, :, 4:12, 4:12] = images[:, :, :1, :1]  # flat in the middle
    found = tried(images, batch, NOW, "x")
    flat = found[:, :, 5:11, 5:11].std(dim=(2, 3)).amax(1)
    assert bool((flat < 1e-5).all()) == keeps_places
    changed = (found.mean((2, 3)) - images.mean((2, 3))).abs().amax()
    assert bool(changed < 0.35) == keeps_mean_colour or not keeps_mean_colour
    assert not torch.equal(found, images)


def test_order_of_the_operations_is_the_policys() -> None:
    one = augment(policy="diffaugment", operations=["cutout", "colour"])
    assert one.operations == ("colour", "cutout")


@pytest.mark.parametrize("images", [torch.zeros(5, 3, 8, 8), torch.zeros(6, 4, 8, 8)])
def test_pictures_that_do_not_fit_are_refused(batch: Batch, images: Tensor) -> None:
    with pytest.raises(PluginError, match=r"for 'x'.*expected \(6, C, H, W\)"):
        augment(**OFTEN)(images, batch, NOW, "x")
    assert augment()(images, batch, NOW, "x") is images  # any will do where nothing is done


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 0.6}, "no target beside none: target is for adaptive"),
        ({"policy": "diffaugment", "probability": 0.5}, "no probability beside diffaugment"),
        ({"policy": "diffaugment", "limit": 0.5}, "no limit beside diffaugment"),
        ({"speed": 1000}, "no speed beside none"),
        ({"policy": "diffaugment", "operations": ["pixels"]}, "pixels .* is for adaptive"),
        ({"policy": "adaptive", "operations": ["cutout"]}, "cutout .* is for diffaugment"),
        ({"operations": ["colour"]}, "colour beside none: it is for diffaugment and adaptive"),
        ({"policy": "diffaugment", "operations": []}, "each once, and at least one"),
        ({"policy": "diffaugment", "operations": ["colour"] * 2}, "each once"),
        ({"policy": "adaptive"}, "without target and probability changes nothing"),
        ({"policy": "adaptive", "probability": 0.9}, "at most limit, which is 0.8"),
        ({"policy": "adaptive", "probability": 0.2, "speed": 9}, "no speed without target"),
        ({"policy": "adaptive", "probability": 0.2, "limit": 0.9}, "no limit without target"),
        ({"policy": "adaptive", "target": 1.0}, "less than 1"),
        ({"polcy": "none"}, "Extra inputs"),
    ],
)
def test_options_without_effect_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DiscriminatorAugmentOptions(**options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        ALWAYS,
        OFTEN | {"target": None},
        {"policy": "adaptive", "target": 0.6, "operations": ["colour"], "speed": "50k"},
    ],
)
def test_options_come_back_from_a_runs_recipe(options: dict[str, Any]) -> None:
    """TOML has no null, so that what is unset is left out and must be the default."""
    chosen = DiscriminatorAugmentOptions(**options)
    text = tomli_w.dumps(chosen.model_dump(mode="json", exclude_none=True))
    assert DiscriminatorAugmentOptions(**tomllib.loads(text)) == chosen
    assert all(each.description for each in DiscriminatorAugmentOptions.model_fields.values())


def test_probability_rises_to_the_limit_and_falls_to_zero_as_fast_as_speed_says() -> None:
    tried = augment(policy="adaptive", target=0.6, speed=1000, limit=0.5)
    for step in range(1, 101):
        tried.adapt(1.0, 10)
        assert float(tried.probability) == pytest.approx(min(step * 10 / 1000, 0.5), abs=1e-6)
    for step in range(1, 101):
        tried.adapt(0.59, 10)
        assert float(tried.probability) == pytest.approx(max(0.5 - step / 100, 0.0), abs=1e-6)


def test_probability_stays_without_a_target() -> None:
    tried = augment(policy="adaptive", probability=0.3)
    tried.adapt(1.0, 10_000)
    assert float(tried.probability) == pytest.approx(0.3)


def test_probability_survives_a_state_dict_and_goes_on_from_there() -> None:
    first = augment(policy="adaptive", target=0.6, speed=1000)
    for _ in range(7):
        first.adapt(0.9, 32)
    second = augment(policy="adaptive", target=0.6, speed=1000)
    second.load_state_dict(first.state_dict())
    for tried in (first, second):
        tried.adapt(0.9, 32)
    assert torch.equal(first.probability, second.probability)
    assert float(second.probability) == pytest.approx(0.256)


def test_certainty_of_the_discriminator_drives_the_probability_up_and_doubt_down() -> None:
    """Pictures that every augmentation leaves brighter than the fakes, then copies as fakes."""
    torch.manual_seed(0)
    batch = make_batch(Inputs(("a",), False), batch_size=4, shapes={"a": (3, 8, 8)})
    real = batch.images["a"] / 2 + 0.5
    network = torch.nn.Linear(3 * 64, 1)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    tried = augment(policy="adaptive", target=0.6, speed=400, operations=["pixels"])

    def train(num_steps: int, copies: bool) -> None:
        for step in range(num_steps):
            now = replace(NOW, step=step)
            fake = real.flip(0) if copies else torch.rand_like(real) - 1
            seen = [
                network(tried(images, batch, now, name).flatten(1))
                for images, name in ((real, "real"), (fake, "fake"))
            ]
            loss = F.softplus(-seen[0]).mean() + F.softplus(seen[1]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            tried.adapt(float(seen[0].detach().sign().mean()), len(real))

    train(120, copies=False)
    assert float(tried.probability) == pytest.approx(0.8)
    train(250, copies=True)
    assert float(tried.probability) == 0


def pattern() -> Tensor:
    """A picture whose eight flips and turns all differ, in its middle too."""
    low = torch.tensor([[0.9, 0.1, -0.8], [-0.3, 0.6, 0.2], [-0.6, -0.9, 0.4]])
    return F.interpolate(low[None, None], size=(24, 24), mode="bilinear").expand(1, 3, 24, 24)


def dihedral(image: Tensor) -> Tensor:
    """Return the eight flips and quarter turns of a square picture."""
    turns = [image.rot90(k, (2, 3)) for k in range(4)]
    return torch.cat([*turns, *(each.flip(-1) for each in turns)])


FIXED = {"policy": "adaptive", "operations": ["pixels"], "target": 0.6, "limit": 1.0}
"""What lets a probability be 1: it may move, and stays as long as nobody calls ``adapt``."""


def mixing(probability: float, number: int) -> Tensor:
    """Return how often each of the eight becomes each: (8, 8), columns sum to 1."""
    tried = augment(**FIXED, probability=probability)
    known = dihedral(pattern())
    batch = make_batch(Inputs(("a",), False), batch_size=number, shapes={"a": (3, 1, 1)})
    columns = []
    for place, each in enumerate(known):
        images = each.expand(number, -1, -1, -1)
        found = tried(images, batch, replace(NOW, step=place), "x")
        # pictures were also shifted by up to three pixels, so compare them at every shift
        middle, most = found[:, 0, 6:18, 6:18].flatten(1), torch.full((8, number), 9.0)
        for y in range(-3, 4):
            for x in range(-3, 4):
                windows = known[:, 0, 6 + y : 18 + y, 6 + x : 18 + x].flatten(1)
                most = torch.minimum(most, torch.cdist(windows, middle))
        assert most.amin(0).max() < 0.05
        columns.append(torch.bincount(most.argmin(0), minlength=8) / number)
    return torch.stack(columns, dim=1)


def test_augmented_distributions_identify_the_clean_one_below_the_limit_and_not_at_one() -> None:
    """Section 2 of the paper: the operator on distributions is invertible, and singular at p = 1.

    A flip with probability p keeps a part 1 - p of what tells both sides apart, turns as well.
    """
    for p in (0.3, 0.6):
        values = torch.linalg.svdvals(mixing(p, 800))
        assert float(values[-1]) == pytest.approx((1 - p) ** 2, abs=0.06)
        assert float(values[-1]) > 0.1
    values = torch.linalg.svdvals(mixing(1.0, 800))
    assert float(values[1]) < 0.1  # all but the total is lost


@pytest.mark.parametrize(("probability", "recovers"), [(0.5, True), (1.0, False)])
def test_generator_learns_the_orientation_through_augmentation_below_one_only(
    probability: float, recovers: bool
) -> None:
    """The generator is a distribution over eight orientations; real pictures have the third."""
    torch.manual_seed(0)
    tried = augment(**FIXED, probability=probability)
    known, truth, copies = dihedral(pattern()), 2, 4
    batch = make_batch(Inputs(("a",), False), batch_size=8 * copies, shapes={"a": (3, 1, 1)})
    orientation = torch.zeros(8, requires_grad=True)
    judge = torch.zeros(24 * 24, requires_grad=True)
    players = torch.optim.Adam([orientation], 0.05), torch.optim.SGD([judge], 0.02)
    fakes, reals = known.repeat(copies, 1, 1, 1), known[truth].expand(8 * copies, -1, -1, -1)
    for step in range(200):
        now = replace(NOW, step=step)
        fake = tried(fakes, batch, now, "fake")[:, 0].flatten(1)
        real = tried(reals, batch, now, "real")[:, 0].flatten(1)
        share = orientation.softmax(0).repeat(copies) / copies
        advantage = (share[:, None] * fake).sum(0) @ judge - real.mean(0) @ judge
        players[0].zero_grad()
        (-advantage).backward(inputs=[orientation])
        players[0].step()
        players[1].zero_grad()
        loss = (share.detach()[:, None] * fake).sum(0) @ judge - real.mean(0) @ judge
        (loss + judge.square().sum() / 2).backward(inputs=[judge])
        players[1].step()
    found = orientation.softmax(0)
    assert (float(found[truth].detach()) > 0.8) == recovers
    if not recovers:
        assert float(found.detach().max()) < 0.5


def test_compiled_call_sees_the_same(batch: Batch) -> None:
    tried = augment(**OFTEN)
    expected = tried(batch.images["a"], batch, NOW, "x")
    compiled = torch.compile(tried, backend="eager")
    torch.testing.assert_close(compiled(batch.images["a"], batch, NOW, "x"), expected)
