"""pix2pix against its paper: networks, losses, the order of moves, and noise that is keyed."""

import copy
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from i2i import Batch, Progress, RecipeError, UsageError
from i2i.engine.inference import translate_batch
from i2i.model_file import build, exported_state, grow
from i2i.nn import BatchNorm
from i2i.testing import check_translator, make_batch
from i2i_pix2pix.networks import Architecture, KeyedDropout, UNetGenerator
from i2i_pix2pix.translator import Pix2Pix, Pix2PixOptions

SMALL = {
    "width": 4,
    "num_halvings": 3,
    "discriminator": {"width": 4, "patch": 16},
}
NOW = Progress(seed=0, stage="train", step=0, images=0)
SHAPES = {"a": (3, 16, 16), "b": (3, 16, 16)}


def parameters_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def grown(size: tuple[int, int] = (16, 16), **changed) -> Pix2Pix:
    translator = build(Pix2Pix, Pix2PixOptions.model_validate(SMALL | changed), 0)
    grow(translator, "train", dict.fromkeys("ab", (3, *size)), 0)
    return translator


def lively(translator: Pix2Pix) -> Pix2Pix:
    """Give weights, offsets and running statistics of a trained network's size."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in translator.generator.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.is_floating_point():
                tensor += 0.2 * torch.randn(tensor.shape, generator=generator)
    return translator.eval()


def pictures(number: int = 3, size: tuple[int, int] = (16, 16)) -> Tensor:
    return torch.rand(number, 3, *size, generator=torch.Generator().manual_seed(5)) * 2 - 1


# Networks


@pytest.mark.parametrize(("num_halvings", "count"), [(8, 54_413_955), (7, 41_828_995)])
def test_generator_has_the_published_number_of_parameters(num_halvings, count):
    with torch.device("meta"):
        architecture = Pix2PixOptions(num_halvings=num_halvings).architecture
        assert parameters_of(UNetGenerator(architecture)) == count


def test_discriminator_sees_both_pictures_and_has_the_published_number_of_parameters():
    with torch.device("meta"):
        judge = Pix2Pix(Pix2PixOptions()).adversary
    assert parameters_of(judge) == 2_768_705
    assert next(judge.parameters()).shape == (64, 6, 4, 4)


def test_weights_are_drawn_as_published():
    generator = build(Pix2Pix, Pix2PixOptions(width=16, num_halvings=5), 0).generator
    convolutions, norms = [], []
    for module in generator.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            convolutions.append(module.weight.flatten())
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d):
            norms.append(module.weight.flatten())
            assert not module.bias.any()
    for drawn, mean in ((convolutions, 0.0), (norms, 1.0)):
        drawn = torch.cat(drawn)
        assert drawn.std().item() == pytest.approx(0.02, rel=0.1)
        assert drawn.mean().item() == pytest.approx(mean, abs=0.003)


def nest(generator: UNetGenerator, x: Tensor, depth: int = 0) -> Tensor:
    """The U-Net as the paper draws it: a block around a block, joined by a skip."""
    last = len(generator.down) - 1
    x = generator.down[depth](F.leaky_relu(x, 0.2) if depth else x)
    if 0 < depth < last:
        x = normalised(generator.down_norms[depth - 1], x)
    if depth < last:
        x = torch.cat([x, nest(generator, x, depth + 1)], 1)
    x = generator.up[last - depth](F.relu(x))
    return normalised(generator.up_norms[last - depth], x) if depth else x.tanh()


def normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """Each picture by its own statistics, with what was learnt."""
    x = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), False, keepdim=True) + 1e-5).sqrt()
    if isinstance(norm, nn.BatchNorm2d):
        return x * norm.weight[:, None, None] + norm.bias[:, None, None]
    return x


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("num_halvings", [2, 4])
def test_generator_is_the_papers_u_net(norm, num_halvings):
    translator = lively(grown(norm=norm, num_halvings=num_halvings, dropout=0.0))
    images = pictures(size=(16, 32))
    with torch.no_grad():
        expected = nest(translator.generator, images)
        found = translator.translate(images, Pix2Pix.Request())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# The game


def test_terms_and_moves_are_those_of_the_paper():
    """Equation 4 with a weight of 100; the discriminator's loss is halved, and it moves first."""
    translator = grown(dropout=0.0)
    batch = make_batch(Pix2Pix.inputs, batch_size=2, shapes=SHAPES)
    a, b = batch.images["a"], batch.images["b"]
    discriminator, generator = translator.training_step(batch, NOW)
    assert (discriminator.players, generator.players) == (("discriminator",), ("generator",))
    made = copy.deepcopy(translator.generator)(a).detach()

    def judged(second: Tensor) -> Tensor:
        return translator.adversary.network(torch.cat([a, second], 1))[0][-1].detach().double()

    expected = {
        "judge": (0.5, -judged(b).sigmoid().log().mean() - (-judged(made)).sigmoid().log().mean()),
        "adversarial": (1.0, -judged(made).sigmoid().log().mean()),
        "l1": (100.0, (made - b).abs().mean()),
    }
    terms = [*discriminator.terms, *generator.terms]
    assert [term.name for term in terms] == [*expected]
    for term, (weight, value) in zip(terms, expected.values(), strict=True):
        assert term.weight == weight
        assert term.value.detach().item() == pytest.approx(value.item(), rel=1e-5)


def test_perceptual_term_compares_the_translation_with_its_target():
    translator = grown((24, 24), dropout=0.0, perceptual={"weight": 3.0})
    large = dict.fromkeys("ab", (3, 24, 24))
    batch = make_batch(Pix2Pix.inputs, batch_size=2, shapes=large)
    seen = []
    translator.perceptual = lambda *images: seen.append(images) or images[0].sum()
    _, generator = translator.training_step(batch, NOW)
    assert {term.name: term.weight for term in generator.terms}["perceptual"] == 3.0
    ((made, target),) = seen
    assert torch.equal(target, batch.images["b"])
    expected = copy.deepcopy(translator.generator)(batch.images["a"])
    torch.testing.assert_close(made, expected)
    assert made.requires_grad


def test_each_player_owns_its_network_and_together_they_own_all():
    translator = grown()
    owners = {name: set(owned) for name, owned in translator.players("train").items()}
    assert owners["generator"] == set(translator.generator.parameters())
    assert not owners["generator"] & owners["discriminator"]
    assert owners["generator"] | owners["discriminator"] == set(translator.parameters())
    assert {name.partition(".")[0] for name in exported_state(translator)} == {"generator"}


def test_other_direction_is_the_same_game_with_the_roles_exchanged():
    batch = make_batch(Pix2Pix.inputs, batch_size=2, shapes=SHAPES)
    exchanged = Batch({"a": batch.images["b"], "b": batch.images["a"]}, batch.keys)

    def values(direction: str, batch: Batch) -> dict[str, float]:
        translator = grown(dropout=0.0, direction=direction)
        moves = translator.training_step(batch, NOW)
        return {term.name: term.value.detach().item() for move in moves for term in move.terms}

    assert values("b2a", batch) == values("a2b", exchanged)
    assert values("b2a", batch)["l1"] != values("a2b", batch)["l1"]


def test_noise_of_training_drops_half_of_what_the_inner_decoder_layers_give():
    translator = grown(num_halvings=4, width=16, dropout_layers=(0, 2))
    x = torch.ones(4, 8, 32, 32)
    torch.manual_seed(0)
    dropped = [translator._drop(layer, x) for layer in range(4)]
    assert torch.equal(dropped[1], x)
    assert torch.equal(dropped[3], x)
    for each in (dropped[0], dropped[2]):
        assert set(each.unique().tolist()) == {0.0, 2.0}
        assert each.mean().item() == pytest.approx(1, abs=0.02)
    assert not torch.equal(dropped[0], dropped[2])


# Translation


def test_noise_of_translation_follows_from_seed_and_picture_alone():
    translator = lively(grown())
    images = pictures()
    with torch.no_grad():
        together = translator.translate(images, Pix2Pix.Request(seed=4))
        for index in range(3):
            alone = translator.translate(images[index : index + 1], Pix2Pix.Request(seed=4))
            torch.testing.assert_close(alone[0], together[index], rtol=1e-5, atol=1e-6)
        turned = translator.translate(images.flip(0), Pix2Pix.Request(seed=4)).flip(0)
        torch.testing.assert_close(turned, together, rtol=1e-5, atol=1e-6)
        other = translator.translate(images, Pix2Pix.Request(seed=5))
    assert ((other - together).abs().amax((1, 2, 3)) > 0.01).all()


def test_keyed_dropout_drops_as_often_as_said_and_differently_everywhere():
    images = pictures(2)
    drop = KeyedDropout(3, images, (0, 2), 0.3)
    x = torch.ones(2, 8, 32, 32)
    first, untouched, third = (drop(layer, x) for layer in range(3))
    assert torch.equal(untouched, x)
    for each in (first, third):
        kept = each != 0
        assert kept.float().mean().item() == pytest.approx(0.7, abs=0.02)
        torch.testing.assert_close(each[kept], torch.full_like(each[kept], 1 / 0.7))
    assert not torch.equal(first, third)  # layers
    assert not torch.equal(first[0], first[1])  # pictures
    assert not torch.equal(first, KeyedDropout(4, images, (0, 2), 0.3)(0, x))  # seeds
    assert torch.equal(first, KeyedDropout(3, images.clone(), (0, 2), 0.3)(0, x))


def test_deterministic_uses_the_statistics_of_training_and_no_noise():
    """What torch's own batch normalisation does in evaluation, in a network without dropout."""
    translator = lively(grown())
    reference = copy.deepcopy(translator.generator)
    for norms in (reference.down_norms, reference.up_norms):
        for index, norm in enumerate(norms):
            assert isinstance(norm, BatchNorm)
            plain = nn.BatchNorm2d(norm.num_features).eval()
            plain.load_state_dict(norm.state_dict() | {"num_batches_tracked": torch.tensor(0)})
            norms[index] = plain
    images = pictures()
    with torch.no_grad():
        found = translator.translate(images, Pix2Pix.Request(deterministic=True))
        torch.testing.assert_close(found, reference(images))
        own = translator.translate(images, Pix2Pix.Request())
    assert (own - found).abs().max() > 0.1


def test_running_statistics_are_those_of_training():
    translator = grown(dropout=0.0).train()
    reference = nn.BatchNorm2d(8)
    seen = []
    handle = translator.generator.down[1].register_forward_hook(lambda *each: seen.append(each[2]))
    for step in range(3):
        batch = make_batch(Pix2Pix.inputs, batch_size=2, shapes=SHAPES, seed=step)
        list(translator.training_step(batch, replace(NOW, step=step)))
        reference(seen[-1])
    handle.remove()
    assert len(seen) == 3  # the generator runs once a step
    norm = translator.generator.down_norms[0]
    torch.testing.assert_close(norm.running_mean, reference.running_mean)
    torch.testing.assert_close(norm.running_var, reference.running_var)


@pytest.mark.parametrize("halvings", [3, 8])
@pytest.mark.parametrize("size", [(1, 1), (33, 70), (8, 8), (257, 3)])
def test_any_size_comes_back(size, halvings):
    options = {"width": 2, "widest": 1, "num_halvings": halvings}
    translator = build(Pix2Pix, Pix2PixOptions.model_validate(options), 0).eval()
    for request in (Pix2Pix.Request(), Pix2Pix.Request(deterministic=True)):
        (output,) = translate_batch(translator, [pictures(1, size)[0]], request)
        assert output.shape == (3, *size)
        assert output.abs().max() <= 1
        assert torch.isfinite(output).all()


@pytest.mark.parametrize("size", [(20, 16), (16, 4), (12, 12)])
def test_crops_that_the_networks_cannot_take_are_refused(size):
    with pytest.raises(RecipeError) as caught:
        grown(size)
    height, width = size
    assert str(caught.value) == (
        f"augment: crops are {width}x{height}; expected multiples of 8; "
        "change the crop in [augment], or model.num_halvings."
    )


def test_crops_that_the_discriminator_cannot_judge_are_refused():
    with pytest.raises(RecipeError, match="too small for what judges them; expected at least 24 p"):
        grown((16, 16), discriminator={"width": 4, "patch": 70})
    assert grown((24, 32), discriminator={"width": 4, "patch": 70}).fit.trained_size == 24


def test_crops_that_the_perceptual_layers_cannot_compare_are_refused():
    """The deepest of a SqueezeNet's layers by default sees nothing of fewer than 21 pixels."""
    with pytest.raises(RecipeError, match="too small for what judges them; expected at least 21 p"):
        grown((16, 16), perceptual={"weight": 1.0})
    grown((16, 16), perceptual={"weight": 1.0, "layers": ["relu1"]})
    translator = grown((24, 24), perceptual={"weight": 1.0})
    batch = make_batch(Pix2Pix.inputs, shapes=dict.fromkeys("ab", (3, 24, 24)))
    assert len(list(translator.training_step(batch, NOW))) == 2


def test_crops_of_two_sizes_are_refused():
    translator = build(Pix2Pix, Pix2PixOptions.model_validate(SMALL), 0)
    with pytest.raises(RecipeError) as caught:
        grow(translator, "train", {"a": (3, 16, 16), "b": (3, 16, 24)}, 0)
    assert str(caught.value) == (
        "augment: pictures of role a are 16x16, those of b another size; expected one size for "
        "both; change the size of both, or of neither."
    )


def test_architecture_never_widens_beyond_what_is_said():
    options = Pix2PixOptions(width=4, widest=2, num_halvings=5)
    assert options.architecture == Architecture((4, 8, 8, 8, 8))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_halvings": 4, "dropout_layers": (3,)}, "numbers from 0 to 2, the last layer has"),
        ({"dropout_layers": ()}, "dropout and dropout_layers go together: give both"),
        ({"self_attention": True}, "self_attention needs more than 3 halvings"),
        ({"perceptual": {"distance": "l2"}}, "distance without a weight has no effect"),
        ({"game": {"penalty_every": 4}}, "no penalty_every without"),
        ({"discriminator": {"self_attention": True, "patch": 16}}, "never comes to"),
    ],
)
def test_options_without_effect_are_refused(changed, message):
    with pytest.raises(ValidationError, match=message):
        Pix2PixOptions.model_validate(SMALL | changed)


def test_seed_without_noise_is_refused():
    with pytest.raises(ValidationError, match="no seed beside deterministic"):
        Pix2Pix.Request(seed=1, deterministic=True)


def test_seed_of_a_model_without_dropout_is_refused():
    translator, images = grown(dropout=0.0).eval(), pictures(1)
    with pytest.raises(UsageError, match="seed=3: the model has no noise"):
        translator.translate(images, Pix2Pix.Request(seed=3))
    assert translator.translate(images, Pix2Pix.Request()).shape == images.shape
    assert translator.translate(images, Pix2Pix.Request(deterministic=True)).shape == images.shape


@pytest.mark.parametrize(
    "changed",
    [
        {"norm": "instance", "dropout": 0.0, "downsampling": "blur", "upsampling": "resize"},
        {"direction": "b2a", "num_halvings": 4, "self_attention": True, "dropout_layers": (2,)},
    ],
)
def test_variants_keep_the_contract(changed):
    check_translator(Pix2Pix, SMALL | changed)
