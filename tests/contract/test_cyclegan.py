"""CycleGAN against its paper: networks, losses, and every option."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from i2i import Batch, Progress, RecipeError, UsageError, load_plugins
from i2i.adversary import Adversary
from i2i.model_file import Header, build, exported_state, grow, load_model, save_model
from i2i.nn import SelfAttention
from i2i.testing import check_translator, make_batch
from i2i_cyclegan.networks import Architecture, ResNetGenerator
from i2i_cyclegan.translator import CycleGAN, CycleGANOptions

SMALL = CycleGANOptions(width=4, num_blocks=1, discriminator={"width": 4}, game={"pool_size": 4})
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


@pytest.mark.parametrize("size", [(8, 8), (32, 20), (12, 40)])
def test_generator_keeps_the_size_and_the_range(size):
    output = ResNetGenerator(Architecture.published(4, 1))(torch.randn(2, 3, *size))
    assert output.shape == (2, 3, *size)
    assert output.abs().max() <= 1


def test_weights_are_drawn_as_published():
    generator = build(CycleGAN, CycleGANOptions(width=16, num_blocks=2), 0).a2b
    weights = torch.cat([p.flatten() for n, p in generator.named_parameters() if "weight" in n])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert weights.mean().item() == pytest.approx(0.0, abs=2e-4)
    assert all(not p.any() for n, p in generator.named_parameters() if n.endswith("bias"))


# The game


def test_terms_are_those_of_the_paper():
    """Equation 3 with the least squares of section 4 and the identity loss of section 5.2."""
    translator = grown()
    batch = make_batch(CycleGAN.inputs, batch_size=2)
    a, b = batch.images["a"], batch.images["b"]
    to_b, to_a = (
        lambda x, net=net: net(x).detach().double() for net in (translator.a2b, translator.b2a)
    )
    judge_a, judge_b = (
        lambda x, net=net: net(x)[0][-1].detach().double()
        for net in (translator.judge_a.network, translator.judge_b.network)
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


def test_identity_terms_count_the_moves_of_the_generators():
    game = {"pool_size": 0, "discriminator_steps": 3}
    options = SMALL.model_dump() | {"identity_every": 2, "game": game}
    translator = grown(CycleGANOptions.model_validate(options))
    names = [{*weights_of(translator, step)} for step in range(13)]
    assert [step for step, each in enumerate(names) if "cycle_a" in each] == [0, 3, 6, 9, 12]
    for role in "ab":
        with_identity = [step for step, each in enumerate(names) if f"identity_{role}" in each]
        assert with_identity == [0, 6, 12]


def weights_of(translator: CycleGAN, step: int = 0) -> dict[str, float]:
    moves = moves_of(translator, make_batch(CycleGAN.inputs), replace(NOW, step=step))
    return {term.name: term.weight for move in moves for term in move.terms}


def first_layer(adversary: Adversary) -> torch.Tensor:
    """Return the weight of the discriminator's first convolution."""
    return next(adversary.network.parameters())


def ups_of(translator: CycleGAN) -> list[nn.Module]:
    return [*translator.a2b.up, *translator.b2a.up]


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
    "downsampling": (
        "blur",
        lambda t: all(len(list(each.children())) == 2 for each in (*t.a2b.down, *t.b2a.down)),
    ),
    "upsampling": (
        "resize",
        lambda t: all(any(isinstance(m, nn.Upsample) for m in up.modules()) for up in ups_of(t)),
    ),
    "self_attention": (
        True,
        lambda t: all(isinstance(each.attention, SelfAttention) for each in (t.a2b, t.b2a)),
    ),
    "discriminator": (
        {"width": 8},
        lambda t: len(first_layer(t.judge_a)) == len(first_layer(t.judge_b)) == 8,
    ),
    "cycle_weight": (3.0, lambda t: weights_of(t)["cycle_a"] == weights_of(t)["cycle_b"] == 3),
    "identity_weight": (0.0, lambda t: "identity_a" not in weights_of(t)),
    "identity_every": (2, lambda t: "identity_a" not in weights_of(t, step=1)),
    "game": (
        {"pool_size": 7},
        lambda t: len(t.judge_a.pool.pictures) == len(t.judge_b.pool.pictures) == 7,
    ),
}


def test_table_of_effects_names_every_option():
    assert EFFECTS.keys() == CycleGANOptions.model_fields.keys()


@pytest.mark.parametrize("name", EFFECTS)
def test_option_has_its_effect_and_the_default_has_not(name):
    value, effect = EFFECTS[name]
    assert not effect(grown())
    assert effect(grown(CycleGANOptions(**{**SMALL.model_dump(), name: value})))


@pytest.mark.parametrize(
    "changed",
    [
        {"separable": True, "norm_affine": True},
        {"padding": "zero", "downsampling": "blur", "upsampling": "resize", "self_attention": True},
    ],
)
def test_variants_of_the_generator_keep_the_contract(changed):
    check_translator(CycleGAN, SMALL.model_copy(update=changed))


def test_models_of_the_first_version_still_load(tmp_path):
    """Their headers say two options at the top that are in tables now."""
    new = CycleGANOptions(width=4, num_blocks=1, discriminator={"width": 5}, game={"pool_size": 6})
    old = {"width": 4, "num_blocks": 1, "discriminator_width": 5, "pool_size": 6}
    shapes = dict.fromkeys("ab", (3, 32, 32))
    header = Header(
        family="cyclegan",
        distribution="i2i-gan 0.1.0",
        options=old,
        request={},
        stages={"train": shapes},
    )
    translator = grown(new)
    save_model(tmp_path / "old.safetensors", translator, header)
    loaded = load_model(tmp_path / "old.safetensors", load_plugins()).translator

    assert loaded.options == new
    assert loaded.options.game.form == "least_squares"
    for name, tensor in exported_state(translator).items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name


def test_old_names_are_for_old_models_alone():
    today = {"width": 4, "discriminator": {"norm": "none"}, "game": {"form": "hinge"}}
    assert CycleGAN.upgrade(today) == today
    assert CycleGAN.upgrade(today | {"pool_size": 3}) == {
        **today,
        "game": {"form": "hinge", "pool_size": 3},
    }
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        CycleGANOptions(pool_size=3)


def test_identity_terms_that_weigh_nothing_have_no_steps():
    with pytest.raises(ValidationError, match="no identity_every without identity_weight"):
        CycleGANOptions(identity_weight=0.0, identity_every=2)


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


@pytest.mark.parametrize("directions", ["a2b", "b2a"])
def test_half_a_model_of_a_game_with_a_history_can_be_built(directions):
    """A player who is not there has been nowhere."""
    options = SMALL.model_dump() | {
        "directions": directions,
        "game": {"historical_average_weight": 1.0},
    }
    translator = build(CycleGAN, CycleGANOptions.model_validate(options), 0).eval()
    picture = torch.zeros(1, 3, 8, 8)
    request = CycleGAN.Request(direction=directions)
    assert translator.translate(picture, request).shape == picture.shape
    absent = translator.judge_a if directions == "a2b" else translator.judge_b
    assert absent.generator_history.distance() == 0


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
