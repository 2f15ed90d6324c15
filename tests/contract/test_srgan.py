"""SRGAN against its papers: two stages, what moves in them, and the networks between them."""

import copy
from typing import Any

import pluggy
import pytest
import torch
from torch import Tensor

from i2i import Batch, PluginError, Progress, UsageError
from i2i.augment.degradation import Degradation, DegradationOptions
from i2i.model_file import Header, build, exported_state, grow, load_model, save_model
from i2i.nn.backbones import Backbone
from i2i.testing import make_batch
from i2i.testing.batches import shapes_for
from i2i.testing.translation import OneFamily
from i2i_srgan.translator import SRGAN, SRGANOptions
from tests.contract.duels import plain

SMALL: dict[str, Any] = {
    "scale": 2,
    "generator": {"width": 4, "num_blocks": 1},
    "perceptual": {"backbone": "squeezenet", "layers": ["relu1"]},
    "discriminator": {"width": 2},
}
FIRST = Progress(seed=0, stage="pretrain", step=0, images=0)
SECOND = Progress(seed=0, stage="adversarial", step=0, images=0)


def options_of(**changed: Any) -> SRGANOptions:
    return SRGANOptions.model_validate(SMALL | changed)


def grown(stage: str = "adversarial", low: tuple[int, int] = (16, 16), **changed: Any) -> SRGAN:
    """Build, and let grow up to a stage; weights of the second differ from the first's."""
    translator = build(SRGAN, options_of(**changed), 0)
    shapes = shapes_for(SRGAN.inputs, translator.fit, low)
    for each in translator.stages[: translator.stages.index(stage) + 1]:
        grow(translator, each, shapes, 0)
    return translator


def lively(translator: SRGAN, seed: int = 1) -> SRGAN:
    """Give weights, offsets and running statistics of a trained network's size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in translator.generator.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.is_floating_point():
                tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
    return translator.eval()


def made(translator: SRGAN, seed: int = 0) -> Batch:
    shapes = shapes_for(SRGAN.inputs, translator.fit, (16, 16))
    return make_batch(SRGAN.inputs, batch_size=2, shapes=shapes, seed=seed)


def pictures(number: int = 3, size: tuple[int, int] = (16, 16)) -> Tensor:
    return torch.rand(number, 3, *size, generator=torch.Generator().manual_seed(5)) * 2 - 1


def enlarged(translator: SRGAN, low: Tensor) -> Tensor:
    """What the generator makes: it sees and says 0 to 1."""
    return copy.deepcopy(translator.generator)((low + 1) / 2).detach() * 2 - 1


def request(strength: float) -> Any:
    return SRGAN.Request(strength=strength)


# The losses


@pytest.mark.parametrize("pixel_loss", ["l1", "l2"])
def test_first_stage_compares_pixels_and_nothing_else(pixel_loss):
    translator = grown("pretrain", pixel_loss=pixel_loss)
    batch = made(translator)
    (move,) = translator.training_step(batch, FIRST)
    (term,) = move.terms
    apart = enlarged(translator, batch.images["low"]) - batch.images["high"]
    expected = apart.abs().mean() if pixel_loss == "l1" else (apart**2).mean()
    assert (move.players, term.name, term.weight) == (("generator",), "pixel", 1.0)
    assert term.value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_second_stage_has_the_papers_terms_and_the_discriminator_moves_first():
    """Equation 3, with a thousandth of the adversarial term; MSE of features, equation 5."""
    translator = grown(pixel_weight=0.01, pixel_loss="l1")
    batch = made(translator)
    low, high = batch.images["low"], batch.images["high"]
    discriminator, generator = translator.training_step(batch, SECOND)
    fake = enlarged(translator, low)
    judge = copy.deepcopy(translator.adversary.network.network)
    said_real, said_fake = judge(high).detach().double(), judge(fake).detach().double()
    backbone = Backbone("squeezenet")
    (seen_real,), (seen_fake,) = (backbone.features(x, ["relu1"]) for x in (high, fake))
    features = ((0.0784 / 47.0) ** 2 * (seen_real - seen_fake) ** 2).mean()
    expected = {
        "judge": (1.0, -said_real.sigmoid().log().mean() - (-said_fake).sigmoid().log().mean()),
        "adversarial": (1e-3, -said_fake.sigmoid().log().mean()),
        "pixel": (0.01, (fake - high).abs().mean()),
        "perceptual": (1.0, features),
    }
    assert (discriminator.players, generator.players) == (("discriminator",), ("generator",))
    terms = [*discriminator.terms, *generator.terms]
    assert [term.name for term in terms] == [*expected]
    for term, (weight, value) in zip(terms, expected.values(), strict=True):
        assert term.weight == weight
        assert term.value.item() == pytest.approx(value.item(), rel=1e-4), term.name


def test_relativistic_players_compare_with_the_mean_of_the_other_kind():
    """arXiv:1809.00219, section 3.2, equations 1 and 2."""
    translator = grown(game={"form": "relativistic_average"})
    batch = made(translator)
    moves = list(translator.training_step(batch, SECOND))
    judge = copy.deepcopy(translator.adversary.network.network)
    real = judge(batch.images["high"]).detach().double()
    fake = judge(enlarged(translator, batch.images["low"])).detach().double()
    above, below = (real - fake.mean()).sigmoid(), (fake - real.mean()).sigmoid()
    values = {term.name: term.value.item() for move in moves for term in move.terms}
    expected = -above.log().mean() - (1 - below).log().mean()
    assert values["judge"] == pytest.approx(expected.item(), rel=1e-4)
    expected = -(1 - above).log().mean() - below.log().mean()
    assert values["adversarial"] == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("architecture", ["vgg", "unet"])
def test_features_are_matched_between_every_layer_of_either_discriminator(architecture):
    translator = grown(
        discriminator={"architecture": architecture, "width": 2},
        game={"feature_matching_weight": 3.0},
    )
    translator.adversary.eval()  # its norms stand still
    batch = made(translator)
    _, generator = translator.training_step(batch, SECOND)
    features = next(term for term in generator.terms if term.name == "features")
    judge = plain(translator.adversary, translator.options.discriminator)
    fake = enlarged(translator, batch.images["low"])
    (real,), (fake,) = (judge(each.double()) for each in (batch.images["high"], fake))
    assert len(real) == 10  # of either, the logits among them
    apart = [(r - f).abs().mean() for r, f in zip(real[:-1], fake[:-1], strict=True)]
    assert features.weight == 3.0
    expected = torch.stack(apart).mean()
    assert features.value.item() == pytest.approx(expected.item(), rel=1e-4)


def test_terms_of_weight_zero_are_not_computed():
    translator = grown(perceptual={"weight": 0.0})
    _, generator = translator.training_step(made(translator), SECOND)
    assert [term.name for term in generator.terms] == ["adversarial"]


def test_published_defaults_are_the_papers():
    options = SRGANOptions()
    assert (options.scale, options.generator.architecture) == (4, "srresnet")
    assert (options.generator.width, options.generator.num_blocks) == (64, 16)
    assert (options.pixel_loss, options.pixel_weight) == ("l2", 0.0)
    assert options.game.adversarial_weight == 1e-3
    assert options.perceptual.compared == ("relu5_4",)
    assert options.perceptual.feature_scale == pytest.approx(1 / 12.75, rel=1e-3)


# Who moves


def test_first_stage_moves_the_generator_and_the_second_both_but_never_the_faithful_copy():
    translator = grown()
    owned = {
        stage: {name: set(each) for name, each in translator.players(stage).items()}
        for stage in translator.stages
    }
    assert owned["pretrain"] == {"generator": set(translator.generator.parameters())}
    assert owned["adversarial"] == owned["pretrain"] | {
        "discriminator": set(translator.adversary.parameters())
    }
    assert not any(each.requires_grad for each in translator.faithful.parameters())
    rest = set(translator.parameters()) - set.union(*owned["adversarial"].values())
    assert rest == set(translator.faithful.parameters())


def test_faithful_copy_is_what_the_first_stage_ended_with_and_stays_so():
    translator = lively(grown("pretrain"))
    before = copy.deepcopy(translator.generator.state_dict())
    grow(translator, "adversarial", shapes_for(SRGAN.inputs, translator.fit, (16, 16)), 0)
    optimizer = torch.optim.SGD(translator.generator.parameters(), 1e-2)
    translator.train()
    for step in range(3):
        for move in translator.training_step(made(translator, step), SECOND):
            sum(term.weight * term.value for term in move.terms).backward()
        optimizer.step()
    after = translator.faithful.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(each, after[name]) for name, each in before.items())
    moved = [n for n, each in translator.generator.named_parameters() if not each.equal(after[n])]
    assert len(moved) > 10


def test_model_without_the_second_stage_has_one():
    translator = build(SRGAN, SRGANOptions(adversarial=False), 0)
    assert translator.stages == ("pretrain",)
    assert build(SRGAN, SRGANOptions(), 0).stages == ("pretrain", "adversarial")


def test_second_stage_before_it_was_grown_is_refused():
    with pytest.raises(PluginError, match="the stage adversarial has not begun"):
        grown("pretrain").players("adversarial")


# Low resolution made in training


def test_low_resolution_is_what_degradation_makes_of_high_resolution():
    chosen = {"order": 1, "final_sinc": 0.5}
    translator = grown("pretrain", degradation=chosen)
    batch = made(translator)
    seen: list[Tensor] = []
    translator.generator.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for stage in (FIRST, FIRST, Progress(0, "pretrain", 1, 2)):
        list(translator.training_step(batch, stage))
    degrade = Degradation(DegradationOptions.model_validate(chosen), 2)
    low = degrade(batch.images["high"], batch, FIRST)
    assert torch.equal(seen[0], (low + 1) / 2)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


# From faithful to vivid


def vivid() -> SRGAN:
    translator = lively(grown("pretrain"))
    grow(translator, "adversarial", shapes_for(SRGAN.inputs, translator.fit, (16, 16)), 0)
    return lively(translator, 2)


def test_strength_goes_from_the_first_stages_network_to_the_seconds():
    translator, images = vivid(), pictures()
    with torch.no_grad():
        ends = [
            (2 * network((images + 1) / 2) - 1).clamp(-1, 1)
            for network in (translator.faithful, translator.generator)
        ]
        found = [translator.translate(images, request(each)) for each in (0.0, 1.0)]
        assert torch.equal(translator.translate(images, SRGAN.Request()), found[1])
    assert torch.equal(found[0], ends[0])
    assert torch.equal(found[1], ends[1])
    assert (ends[0] - ends[1]).abs().mean() > 0.02


@pytest.mark.parametrize("strength", [0.25, 0.5])
def test_strength_between_averages_weights_and_statistics(strength):
    translator, images = vivid(), pictures()
    between = copy.deepcopy(translator.generator)
    others = translator.faithful.state_dict()
    for name, tensor in between.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(strength * tensor + (1 - strength) * others[name])
    kept = copy.deepcopy(translator.state_dict())
    with torch.no_grad():
        expected = (2 * between((images + 1) / 2) - 1).clamp(-1, 1)
        found = translator.translate(images, request(strength))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(each, kept[name]) for name, each in translator.state_dict().items())


@pytest.mark.parametrize("adversarial", [True, False])
def test_strength_of_a_model_with_one_stage_is_refused(adversarial):
    changed = {} if adversarial else {"perceptual": {}, "discriminator": {}}
    translator = grown("pretrain", adversarial=adversarial, **changed).eval()
    with pytest.raises(UsageError) as caught:
        translator.check_request(request(0.5))
    assert str(caught.value) == (
        "strength=0.5: the model has no stage adversarial to be mixed with; "
        "expected no strength for a model of the stage pretrain alone; leave it out."
    )
    translator.check_request(request(1.0))
    made = translator.translate(pictures(1), request(1.0))
    if adversarial:  # a preview: the second network is still to come
        assert torch.equal(translator.translate(pictures(1), request(0.5)), made)
    else:
        with pytest.raises(UsageError, match="no stage adversarial"):
            translator.translate(pictures(1), request(0.5))


@pytest.mark.parametrize("stages", [1, 2])
def test_model_file_brings_back_every_network_that_it_has(tmp_path, stages):
    """A preview of the first stage has one network; a finished model has two."""
    translator = vivid() if stages == 2 else lively(grown("pretrain"))
    for tensor in exported_state(translator).values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    shapes = shapes_for(SRGAN.inputs, translator.fit, (16, 16))
    header = Header(
        family="srgan",
        distribution="under test",
        options=translator.options.model_dump(mode="json"),
        request={},
        stages=dict.fromkeys(translator.stages[:stages], shapes),
    )
    save_model(tmp_path / "model.safetensors", translator, header)
    plugins = OneFamily(pluggy.PluginManager("i2i"), offered=SRGAN)
    loaded = load_model(tmp_path / "model.safetensors", plugins).translator
    prefixes = {name.partition(".")[0] for name in exported_state(loaded)}
    assert prefixes == ({"generator", "faithful"} if stages == 2 else {"generator"})
    assert loaded.fit == translator.fit
    assert loaded.fit.trained_size == 16
    with torch.no_grad():
        for strength in (0.0, 0.5, 1.0)[-1 if stages == 1 else 0 :]:
            found = loaded.translate(pictures(), request(strength))
            assert torch.equal(found, translator.translate(pictures(), request(strength)))
