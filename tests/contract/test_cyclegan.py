"""CycleGAN against its paper: networks, pool, losses, and every option."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from i2i import Batch, DataError, Progress, RecipeError, UsageError
from i2i.model_file import build, exported_state, grow
from i2i.testing import check_translator, make_batch
from i2i_cyclegan.networks import Architecture, InstanceNorm, PatchDiscriminator, ResNetGenerator
from i2i_cyclegan.pool import ImagePool
from i2i_cyclegan.translator import CycleGAN, CycleGANOptions

SMALL = CycleGANOptions(width=4, num_blocks=1, discriminator_width=4, pool_size=4)
NOW = Progress(seed=0, stage="train", step=0, images=0)


def parameters_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def grown(options: CycleGANOptions = SMALL, seed: int = 0, size: int = 32) -> CycleGAN:
    translator = build(CycleGAN, options, seed)
    grow(translator, "train", {"a": (3, size, size), "b": (3, size, size)}, seed)
    return translator


def moves_of(translator: CycleGAN, batch: Batch, now: Progress = NOW) -> list:
    return list(translator.training_step(batch, now))


# Networks


@pytest.mark.parametrize(("num_blocks", "count"), [(9, 11_378_179), (6, 7_837_699)])
def test_generator_has_the_published_number_of_parameters(num_blocks, count):
    with torch.device("meta"):
        assert parameters_of(ResNetGenerator(Architecture.published(64, num_blocks))) == count


def test_discriminator_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert parameters_of(PatchDiscriminator(3, 64)) == 2_764_737


def test_discriminator_logit_sees_70_pixels():
    judge = PatchDiscriminator(3, 1).double()
    judge.norm = nn.Identity()  # statistics would let a logit see the whole picture
    picture = torch.randn(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = judge(picture)
    assert logits.shape == (1, 1, 14, 14)
    logits[0, 0, 7, 7].backward()
    rows = picture.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 70


@pytest.mark.parametrize("size", [(8, 8), (32, 20), (12, 40)])
def test_generator_keeps_the_size_and_the_range(size):
    output = ResNetGenerator(Architecture.published(4, 1))(torch.randn(2, 3, *size))
    assert output.shape == (2, 3, *size)
    assert output.abs().max() <= 1


def test_instance_norm_equals_pytorchs_in_value_and_gradient():
    x = torch.randn(2, 3, 7, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, 7, 5, dtype=torch.float64)
    gradients = []
    for norm in (InstanceNorm(), nn.InstanceNorm2d(3)):
        y = norm(x)
        gradients.append((y, *torch.autograd.grad((y * weights).sum(), x)))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_weights_are_drawn_as_published():
    generator = build(CycleGAN, CycleGANOptions(width=16, num_blocks=2), 0).a2b
    weights = torch.cat([p.flatten() for n, p in generator.named_parameters() if "weight" in n])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert weights.mean().item() == pytest.approx(0.0, abs=2e-4)
    assert all(not p.any() for n, p in generator.named_parameters() if n.endswith("bias"))


# Pool


def draws_of(batch: Batch, now: Progress, name: str) -> list[list[float]]:
    return now.uniform(batch, name, 2).tolist()


def oracle_pool(kept: list, images: np.ndarray, draws: list, size: int) -> np.ndarray:
    """The history of section 2.3 of arXiv:1612.07828, on a plain list."""
    shown = []
    for image, (coin, place) in zip(images, draws, strict=True):
        if len(kept) < size:
            kept.append(image)
            shown.append(image)
        elif coin < 0.5:
            chosen = int(place * size)
            shown.append(kept[chosen])
            kept[chosen] = image
        else:
            shown.append(image)
    return np.stack(shown)


def test_pool_fills_then_exchanges_half_of_the_time():
    pool, size = ImagePool("pool", 3, (1, 2, 2)), 3
    kept: list = []
    exchanged = 0
    for step in range(40):
        batch = make_batch(CycleGAN.inputs, batch_size=4, seed=step)
        images = torch.full((4, 1, 2, 2), float(step)) + torch.arange(4.0)[:, None, None, None] / 4
        now = replace(NOW, step=step)
        shown = pool(images, batch, now)
        expected = oracle_pool(kept, images.numpy(), draws_of(batch, now, "pool"), size)
        np.testing.assert_array_equal(shown.numpy(), expected)
        np.testing.assert_array_equal(pool.pictures.numpy()[: len(kept)], np.stack(kept))
        assert int(pool.num_filled) == min(size, 4 * (step + 1))
        exchanged += int((shown != images).flatten(1).any(1).sum())
    assert 0.4 < exchanged / (4 * 40 - size) < 0.6


def test_pool_shows_the_same_to_micro_batches_as_to_the_whole_batch():
    whole, parts = ImagePool("pool", 3, (1, 2, 2)), ImagePool("pool", 3, (1, 2, 2))
    for step in range(6):
        batch = make_batch(CycleGAN.inputs, batch_size=5, seed=step)
        images = torch.randn(5, 1, 2, 2)
        now = replace(NOW, step=step)
        shown = [
            parts(part, micro, now)
            for part, micro in zip(images.tensor_split(2), batch.split(2), strict=True)
        ]
        assert torch.equal(whole(images, batch, now), torch.cat(shown))
        assert torch.equal(whole.pictures, parts.pictures)


def test_pool_detaches_and_leaves_its_input_alone():
    pool = ImagePool("pool", 1, (1, 2, 2))
    for step in range(8):
        images = torch.full((2, 1, 2, 2), float(step), requires_grad=True)
        shown = pool(images, make_batch(CycleGAN.inputs, batch_size=2, seed=step), NOW)
        assert not shown.requires_grad
        assert (images == step).all()


def test_pool_of_size_zero_shows_each_picture_itself():
    images = torch.randn(3, 1, 2, 2)
    batch = make_batch(CycleGAN.inputs)
    assert torch.equal(ImagePool("pool", 0, (1, 2, 2))(images, batch, NOW), images)


# The game


def test_terms_are_those_of_the_paper():
    """Equation 3 with the least squares of section 4 and the identity loss of section 5.2."""
    translator = grown()
    batch = make_batch(CycleGAN.inputs, batch_size=2)
    a, b = batch.images["a"], batch.images["b"]
    to_b, to_a, judge_a, judge_b = (
        lambda x, net=net: net(x).detach().double()
        for net in (translator.a2b, translator.b2a, translator.judge_a, translator.judge_b)
    )
    fake_a, fake_b = to_a(b).float(), to_b(a).float()
    expected = {
        "adversarial_a": (1.0, ((judge_a(fake_a) - 1) ** 2).mean()),
        "adversarial_b": (1.0, ((judge_b(fake_b) - 1) ** 2).mean()),
        "cycle_a": (10.0, (to_a(fake_b) - a).abs().mean()),
        "cycle_b": (10.0, (to_b(fake_a) - b).abs().mean()),
        "identity_a": (5.0, (to_a(a) - a).abs().mean()),
        "identity_b": (5.0, (to_b(b) - b).abs().mean()),
        "judge_a": (0.5, ((judge_a(a) - 1) ** 2).mean() + (judge_a(fake_a) ** 2).mean()),
        "judge_b": (0.5, ((judge_b(b) - 1) ** 2).mean() + (judge_b(fake_b) ** 2).mean()),
    }
    generators, discriminators = moves_of(translator, batch)
    assert generators.players == ("generators",)
    assert discriminators.players == ("discriminators",)
    terms = {term.name: term for term in (*generators.terms, *discriminators.terms)}
    assert terms.keys() == expected.keys()
    for name, (weight, value) in expected.items():
        assert terms[name].weight == weight
        assert terms[name].value.item() == pytest.approx(value.item(), rel=1e-5)


def test_each_player_owns_its_networks_and_together_they_own_all():
    translator = grown()
    owners = {name: set(owned) for name, owned in translator.players("train").items()}
    assert owners["generators"] == {*translator.a2b.parameters(), *translator.b2a.parameters()}
    assert not owners["generators"] & owners["discriminators"]
    assert owners["generators"] | owners["discriminators"] == set(translator.parameters())


def test_identity_terms_come_every_so_many_steps():
    translator = grown(SMALL.model_copy(update={"identity_every": 3}))
    batch = make_batch(CycleGAN.inputs, batch_size=1)
    with_identity = [
        step
        for step in range(7)
        if any(
            term.name == "identity_a"
            for term in moves_of(translator, batch, replace(NOW, step=step))[0].terms
        )
    ]
    assert with_identity == [0, 3, 6]


def weights_of(translator: CycleGAN, step: int = 0) -> dict[str, float]:
    moves = moves_of(translator, make_batch(CycleGAN.inputs), replace(NOW, step=step))
    return {term.name: term.weight for move in moves for term in move.terms}


EFFECTS = {
    "width": (8, lambda t: t.a2b.stem.out_channels == t.b2a.stem.out_channels == 8),
    "num_blocks": (2, lambda t: len(t.a2b.blocks) == len(t.b2a.blocks) == 2),
    "widths": (
        (7, 9, 5, 8, 6),
        lambda t: (
            [each.out_channels for each in (*t.a2b.down, t.b2a.blocks[0].first, *t.a2b.up)]
            == [7, 9, 5, 8, 6]
        ),
    ),
    "separable": (True, lambda t: hasattr(t.b2a.blocks[0].second, "depthwise")),
    "norm_affine": (
        True,
        lambda t: all(
            norm.weight is not None
            for norm in (*t.a2b.norms, t.b2a.blocks[0].first_norm, t.b2a.blocks[0].second_norm)
        ),
    ),
    "padding": (
        "zero",
        lambda t: all(
            each.padding_mode == "zeros" for each in (t.a2b.stem, t.b2a.blocks[0].first, t.a2b.head)
        ),
    ),
    "directions": ("b2a", lambda t: not hasattr(t, "a2b")),
    "discriminator_width": (
        8,
        lambda t: t.judge_a.first.out_channels == t.judge_b.first.out_channels == 8,
    ),
    "cycle_weight": (3.0, lambda t: weights_of(t)["cycle_a"] == weights_of(t)["cycle_b"] == 3),
    "identity_weight": (0.0, lambda t: "identity_a" not in weights_of(t)),
    "identity_every": (2, lambda t: "identity_a" not in weights_of(t, step=1)),
    "pool_size": (7, lambda t: len(t.pool_a.pictures) == len(t.pool_b.pictures) == 7),
}


def test_table_of_effects_names_every_option():
    assert EFFECTS.keys() == CycleGANOptions.model_fields.keys()


@pytest.mark.parametrize("name", EFFECTS)
def test_option_has_its_effect_and_the_default_has_not(name):
    value, effect = EFFECTS[name]
    assert not effect(grown())
    assert effect(grown(CycleGANOptions(**{**SMALL.model_dump(), name: value})))


@pytest.mark.parametrize("changed", [{"separable": True, "norm_affine": True}, {"padding": "zero"}])
def test_variants_of_the_generator_keep_the_contract(changed):
    check_translator(CycleGAN, SMALL.model_copy(update=changed))


def test_widths_are_counted():
    with pytest.raises(ValidationError, match="5 numbers for 1 blocks, or none"):
        CycleGANOptions(num_blocks=1, widths=(8, 16))


def test_one_generator_translates_its_direction_and_refuses_the_other_and_training():
    options = SMALL.model_copy(update={"directions": "b2a"})
    translator, picture = build(CycleGAN, options, 0).eval(), torch.zeros(1, 3, 8, 8)

    assert translator.translate(picture, CycleGAN.Request(direction="b2a")).shape == picture.shape
    assert {name.partition(".")[0] for name in exported_state(translator)} == {"b2a"}
    with pytest.raises(UsageError, match="direction=a2b: the model translates b2a only"):
        translator.translate(picture, CycleGAN.Request())
    with pytest.raises(RecipeError, match=r"model\.directions: there is a generator for b2a only"):
        translator.players("train")


def test_directions_use_their_own_generators():
    translator = grown().eval()
    picture = make_batch(CycleGAN.inputs).images["a"]
    with torch.no_grad():
        for direction, generator in (("a2b", translator.a2b), ("b2a", translator.b2a)):
            request = CycleGAN.Request(direction=direction)
            assert torch.equal(translator.translate(picture, request), generator(picture))


def test_smallest_size_is_the_smallest_that_works():
    generator, fit = ResNetGenerator(Architecture.published(2, 1)), grown().fit
    generator(torch.zeros(1, 3, fit.smallest, fit.smallest))
    smaller = fit.smallest - fit.multiple
    with pytest.raises(ValueError, match="more than 1 value"):
        generator(torch.zeros(1, 3, smaller, smaller))


@pytest.mark.parametrize("shape", [(3, 33, 33), (3, 32, 30), (3, 20, 32)])
def test_crops_that_the_networks_cannot_take_are_refused(shape):
    translator = build(CycleGAN, SMALL, 0)
    _, height, width = shape

    with pytest.raises(RecipeError) as caught:
        grow(translator, "train", {"a": (3, 32, 32), "b": shape}, 0)
    assert str(caught.value) == (
        f"augment.host: crops are {width}x{height}; expected multiples of 4, at least 24; "
        "change the crop in [augment]."
    )


def test_the_smallest_crop_that_is_taken_trains():
    batch = make_batch(CycleGAN.inputs, shapes=dict.fromkeys("ab", (3, 24, 24)))
    assert len(moves_of(grown(size=24), batch)) == 2


def test_trained_size_is_that_of_the_crops():
    assert grown(size=24).fit.trained_size == 24


def test_pool_names_a_picture_of_another_size():
    pool = ImagePool("pool", 2, (3, 8, 8))
    batch = Batch({"a": torch.zeros(1, 3, 9, 8)}, torch.tensor([1]))
    with pytest.raises(DataError, match=r"\(3, 9, 8\) comes after those of \(3, 8, 8\)"):
        pool(batch.images["a"], batch, Progress(0, "train", 0, 0))
