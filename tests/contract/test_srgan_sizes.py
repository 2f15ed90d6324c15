"""SRGAN and sizes: which crops it trains on, which pictures it enlarges, and tiles."""

from functools import partial
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from i2i import RecipeError
from i2i.engine.inference import translate_batch
from i2i.model_file import build, grow
from i2i.testing import check_translator, make_batch
from i2i.testing.batches import shapes_for
from i2i_srgan.translator import SRGAN, SRGANOptions
from tests.contract.test_srgan import SMALL, grown, lively, pictures

GENERATORS: dict[str, dict[str, Any]] = {
    "srresnet": {},
    "msrresnet": {"architecture": "msrresnet"},
    "rrdb": {"architecture": "rrdb", "growth": 2},
    "rrdb at half the size": {"architecture": "rrdb", "growth": 2, "unshuffle": 2},
    "rrdb at a quarter": {"architecture": "rrdb", "growth": 2, "unshuffle": 4},
    "compact": {"architecture": "compact"},
    "compact residual": {"architecture": "compact", "body": "residual"},
}
SCALES = {
    "srresnet": (2, 3, 4, 8),
    "rrdb": (1, 2, 3, 4, 8),
    "rrdb at half the size": (1, 2, 4),
    "rrdb at a quarter": (1, 2),
}
KINDS = [(kind, scale) for kind in GENERATORS for scale in SCALES.get(kind, SCALES["srresnet"])]


def enlarging(kind: str, scale: int, num_blocks: int = 1) -> SRGAN:
    generator = {"width": 4, "num_blocks": num_blocks} | GENERATORS[kind]
    translator = lively(grown("pretrain", (8, 8), scale=scale, generator=generator))
    with torch.no_grad():
        translator.generator.tail.weight.mul_(2)
        translator.generator.tail.bias.fill_(0 if kind[:3] in ("msr", "com") else 0.5)
    return translator


@pytest.mark.parametrize(("kind", "scale"), KINDS)
def test_pictures_of_any_size_become_as_many_times_larger(kind, scale):
    translator = enlarging(kind, scale)
    for size in [(1, 1), (1, 6), (5, 3), (8, 8), (13, 10)]:
        (output,) = translate_batch(translator, [pictures(1, size)[0]], SRGAN.Request())
        assert output.shape == (3, scale * size[0], scale * size[1])
        assert output.abs().max() <= 1
        assert output.std() > 1e-3
        assert (output.abs() < 1).float().mean() > 0.3  # it is not cut off


@pytest.mark.parametrize(
    ("kind", "scale"), [*((kind, 2) for kind in GENERATORS), ("rrdb", 1), ("srresnet", 3)]
)
def test_tiles_equal_the_whole(kind, scale):
    """Its halo is all that a shallow network sees, and all that it needs."""
    translator = enlarging(kind, scale)
    fit = translator.fit
    assert fit.tiles
    side = 2 * fit.halo + 8
    image = pictures(1, (side + 13, side + 22))[0]
    whole, tiled = (
        translate_batch(translator, [image], SRGAN.Request(), tile=tile)[0] for tile in (None, side)
    )
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)
    assert (whole.abs() < 1).float().mean() > 0.5


def test_results_stay_in_range_though_the_network_does_not():
    translator = enlarging("srresnet", 2)
    with torch.no_grad():
        translator.generator.tail.bias.add_(torch.tensor([5.0, -5.0, 0.0]))
        found = translator.translate(pictures(1), SRGAN.Request())
    assert (found[:, 0] == 1).all()
    assert (found[:, 1] == -1).all()
    assert found[:, 2].unique().numel() > 500


# Crops

LOW = "data.options.scale: low resolution is"


@pytest.mark.parametrize(
    ("low", "high", "changed", "message"),
    [
        (
            (16, 16),
            (64, 64),
            {},
            f"{LOW} 16x16, high resolution 64x64; expected 2 times the size, as model.scale says; "
            "make both scales equal.",
        ),
        (
            (16, 16),
            (32, 34),
            {},
            f"{LOW} 16x16, high resolution 34x32; expected 2 times the size, as model.scale says; "
            "make both scales equal.",
        ),
        (
            (16, 18),
            (32, 36),
            {"generator": {"architecture": "rrdb", "unshuffle": 4}},
            "data.options.crop: low resolution is 18x16; expected multiples of 4, as "
            "model.generator.unshuffle asks for; change the crop.",
        ),
        (
            (12, 12),
            (24, 24),
            {},
            "data.options.crop: crops are 24x24; expected squares, multiples of 16 pixels; "
            "change the crop, or what judges it.",
        ),
        (
            (16, 24),
            (32, 48),
            {},
            "data.options.crop: crops are 48x32; expected squares, multiples of 16 pixels; "
            "change the crop, or what judges it.",
        ),
        (
            (10, 8),
            (20, 16),
            {"discriminator": {"architecture": "unet"}},
            "data.options.crop: crops are 16x20; expected multiples of 8 pixels; "
            "change the crop, or what judges it.",
        ),
        (
            (8, 8),
            (16, 16),
            {"perceptual": {"backbone": "squeezenet"}},
            "data.options.crop: crops are 16x16; expected squares, multiples of 16 pixels, "
            "at least 21; change the crop, or what judges it.",
        ),
    ],
)
def test_crops_that_the_networks_cannot_take_are_refused(low, high, changed, message):
    options = SMALL | {"perceptual": {"weight": 0.0}} | changed
    translator = build(SRGAN, SRGANOptions.model_validate(options), 0)
    shapes = {"low": (3, *low), "high": (3, *high)}

    def grow_all() -> None:
        for stage in translator.stages:
            grow(translator, stage, shapes, 0)

    with pytest.raises(RecipeError) as caught:
        grow_all()
    assert str(caught.value) == message


def test_oblong_crops_are_for_the_u_net_and_for_the_first_stage():
    shapes = {"low": (3, 12, 16), "high": (3, 24, 32)}
    unet = {"discriminator": {"architecture": "unet"}, "perceptual": {"weight": 0.0}}
    for changed, stages in ((unet, ("pretrain", "adversarial")), ({}, ("pretrain",))):
        translator = build(SRGAN, SRGANOptions.model_validate(SMALL | changed), 0)
        for stage in stages:
            grow(translator, stage, shapes, 0)
        assert translator.fit.trained_size == 12


# Options


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scale": 1}, "scale = 1 is for rrdb"),
        (
            {"scale": 3, "generator": {"architecture": "rrdb", "unshuffle": 2}},
            "scale times unshuffle is one of 1, 2, 3, 4, 8",
        ),
        (
            {"scale": 4, "generator": {"architecture": "rrdb", "unshuffle": 4}},
            "scale times unshuffle is one of 1, 2, 3, 4, 8",
        ),
        ({"generator": {"growth": 8}}, "no growth beside srresnet: it is rrdb's"),
        ({"generator": {"unshuffle": 2}}, "no unshuffle beside srresnet: it is rrdb's"),
        ({"generator": {"body": "residual"}}, "no body beside srresnet: it is compact's"),
        ({"generator": {"activation": "relu"}}, "no activation beside srresnet: it is compact's"),
        (
            {"generator": {"architecture": "compact", "norm": "none"}},
            "no norm beside compact: it is srresnet's",
        ),
        (
            {"generator": {"architecture": "rrdb", "bounded": True}},
            "no bounded beside rrdb: it is srresnet's",
        ),
        ({"adversarial": False, "pixel_weight": 1.0}, "no pixel_weight without the stage"),
        ({"adversarial": False, "discriminator": {"width": 2}}, "no discriminator without the"),
        ({"adversarial": False, "game": {"form": "hinge"}}, "no game without the stage"),
        ({"adversarial": False, "perceptual": {"weight": 0.0}}, "no perceptual without the"),
        ({"perceptual": {"weight": 0.0, "layers": ["relu1_1"]}}, "layers without a weight has no"),
        ({"degradation": {"order": 1, "second": {"blur": 0.1}}}, "no second where order is 1"),
    ],
)
def test_options_without_effect_are_refused(changed, message):
    with pytest.raises(ValidationError, match=message):
        SRGANOptions.model_validate(changed)


@pytest.mark.parametrize("options", [{}, {"adversarial": False}, SMALL])
def test_options_survive_being_written_out_in_full(options):
    options = SRGANOptions.model_validate(options)
    assert SRGANOptions.model_validate(options.model_dump(mode="json")) == options


@pytest.mark.parametrize(
    "changed",
    [
        {
            "generator": {"architecture": "rrdb", "width": 4, "num_blocks": 1, "unshuffle": 2},
            "degradation": {"order": 1},
            "discriminator": {"architecture": "unet", "width": 2},
            "game": {"form": "relativistic_average"},
        },
        {
            "scale": 3,
            "generator": {"architecture": "compact", "width": 4, "num_blocks": 2},
            "adversarial": False,
            "perceptual": {},
            "discriminator": {},
            "pixel_loss": "l1",
        },
    ],
)
def test_variants_keep_the_contract(changed):
    options = SRGANOptions.model_validate(SMALL | changed)
    shapes = shapes_for(SRGAN.inputs, build(SRGAN, options, 0).fit, (16, 16))
    make = partial(make_batch, SRGAN.inputs, shapes=shapes)
    check_translator(SRGAN, options, make=lambda seed: make(seed=seed))
