"""Backbones and perceptual losses against published counts, plain formulas and another program."""

import copy
import hashlib
import importlib
import os
import pickle
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from i2i import builtin
from i2i.errors import DownloadError, ModelFileError, UsageError
from i2i.losses.perceptual import _TYPICAL, DEFAULT_LAYERS, PerceptualLoss, PerceptualOptions
from i2i.nn.backbones import Backbone, layers_of
from i2i.nn.pretrained import CORE, is_at_hand, pretrained
from tests.unit.networks import (
    ALEXNET,
    VGG16,
    VGG19,
    made_offer,
    made_pictures,
    made_state,
    vgg_features,
)

NAMES = ("squeezenet", "squeezenet1_1", "alexnet", "vgg16", "vgg19")


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("I2I_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("I2I_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def state():
    return made_state("vgg19")


@pytest.fixture(scope="module")
def vgg19(state):
    return Backbone("vgg19", made_offer("vgg19", state))


@pytest.fixture(scope="module")
def squeezenet():
    return Backbone("squeezenet")


# Architectures


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vgg19", 20_024_384),  # arXiv:1409.1556: 143,667,240 less the three linear layers
        ("vgg16", 14_714_688),
        ("squeezenet", 1_248_424 - 513_000),  # less conv10
        ("squeezenet1_1", 1_235_496 - 513_000),
        ("alexnet", 61_100_840 - 58_631_144),  # torchvision's, less the three linear layers
    ],
)
def test_a_backbone_has_the_published_number_of_parameters(name, count):
    assert sum(each.numel() for each in Backbone(name)._plan.parameters()) == count


def test_layers_are_named_as_the_papers_name_them():
    assert layers_of("vgg19").index("conv5_4") == 34  # torchvision's features.34
    assert layers_of("vgg19")[-2:] == ("relu5_4", "pool5")
    assert layers_of("vgg16").index("relu3_3") == 15
    assert layers_of("squeezenet")[-6:] == ("fire5", "fire6", "fire7", "fire8", "pool8", "fire9")
    assert layers_of("squeezenet1_1").index("fire9") == 12
    assert [layers_of("alexnet").index(f"conv{each}") for each in range(1, 6)] == list(ALEXNET)


@pytest.mark.parametrize("layer", ["conv1_1", "conv3_2", "pool4", "conv5_4", "relu5_4"])
def test_vgg19_is_the_plain_formula_on_the_published_layout(vgg19, state, layer):
    images = made_pictures()[0][:, :, :32]
    (found,) = vgg19.features(images, [layer])
    expected = vgg_features(state, VGG19, images, layers_of("vgg19").index(layer))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_vgg16_is_the_plain_formula_on_the_published_layout():
    images, state = made_pictures()[0][:, :, :32], made_state("vgg16")
    (found,) = Backbone("vgg16", made_offer("vgg16", state)).features(images, ["relu5_3"])
    expected = vgg_features(state, VGG16, images, 29)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_squeezenet_sees_what_the_caffe_network_sees(squeezenet):
    """Means of fire9 by benchmarks/judge_horse2zebra.py from the 32-bit arrays, these pictures."""
    (fire9,) = squeezenet.features(made_pictures()[0], ["fire9"])
    found = fire9.mean((2, 3))
    expected = torch.tensor(
        [
            [133.0862, 166.2480, 227.0538, 196.7899, 146.6614, 243.7471],
            [144.1405, 165.6883, 278.8212, 245.2104, 170.0798, 247.6787],
        ]
    )
    torch.testing.assert_close(found[:, [27, 42, 45, 139, 250, 502]], expected, rtol=4e-3, atol=0)
    assert float(found[0].norm()) == pytest.approx(656.9936, rel=2e-3)


def test_shipped_squeezenet_is_the_original_in_16_bits():
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    root = Path(os.environ.get("I2I_SHARED_DATA") or beside) / "weights"
    if not (root / "squeezenet1_0_decoded.npz").is_file():
        pytest.skip("needs the original arrays: set I2I_SHARED_DATA")
    network = Backbone("squeezenet")._read(None)
    with np.load(root / "squeezenet1_0_decoded.npz") as arrays:
        originals = {name: arrays[name] for name in arrays.files if "conv10" not in name}
    found = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    assert found.keys() == originals.keys()
    for name, original in originals.items():
        np.testing.assert_array_equal(found[name], original.astype(np.float16), err_msg=name)


def test_the_readme_knows_every_weights_file_that_ships():
    folder = Path(str(resources.files("i2i.nn"))) / "shipped"
    told = (folder / "README.md").read_text(encoding="utf-8")
    for file in folder.glob("*.safetensors"):
        assert f"**sha256** {hashlib.sha256(file.read_bytes()).hexdigest()}" in told
        assert (folder / f"{file.stem}.LICENCE.txt").is_file()
        assert f"`{file.stem}.LICENCE.txt`" in told


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_side_is_the_least_that_torch_accepts(name):
    backbone = Backbone(name)
    plan = copy.deepcopy(backbone._plan)
    for index, layer in enumerate(backbone.layers):
        side = backbone.smallest_side(layer)
        images = torch.zeros(1, 3, side, side, device="meta")
        assert min(plan[: index + 1](images).shape[2:]) == 1
        if side > 1:
            with pytest.raises(RuntimeError):
                plan[: index + 1](images[:, :, 1:])


def test_features_come_in_the_order_asked_for(squeezenet):
    images = made_pictures()[0]
    deep, shallow = squeezenet.features(images, ["fire9", "relu1"])
    assert (deep.shape[1], shallow.shape[1]) == (512, 96)
    torch.testing.assert_close(shallow, squeezenet.features(images, ["relu1"])[0])
    before = squeezenet.features(images, ["conv1"])[0]
    assert float(before.min()) < 0
    torch.testing.assert_close(shallow, before.relu())


# Frozen, and nobody's module


def test_nothing_of_a_backbone_is_saved_or_trained_but_images_get_gradients():
    family = nn.Module()
    family.perceptual = PerceptualLoss(PerceptualOptions(weight=1))
    images = made_pictures()[0].requires_grad_()
    family.perceptual(images, made_pictures()[1]).backward()

    assert images.grad is not None
    seen = images.grad[:, :, :63, :71]  # the windows of 7 in steps of 2 end one before an even side
    assert float((seen != 0).float().mean()) > 0.99
    assert family.state_dict() == {}
    assert list(family.parameters()) == list(family.modules())[1:] == []
    (network,) = family.perceptual.backbone._networks.values()
    assert not any(each.requires_grad for each in network.parameters())
    assert not any(each.training for each in network.modules())


def test_copies_share_the_weights_and_pickles_find_them_again(squeezenet):
    loss = PerceptualLoss(PerceptualOptions(weight=1), squeezenet)
    assert copy.deepcopy(loss).backbone is squeezenet
    again = pickle.loads(pickle.dumps(loss))
    assert len(pickle.dumps(loss)) < 10_000
    assert torch.equal(again(*made_pictures()), loss(*made_pictures()))


def test_a_backbone_draws_nothing_from_the_generator_of_the_training():
    before = torch.get_rng_state()
    Backbone("squeezenet").features(made_pictures()[0], ["relu1"])
    assert torch.equal(before, torch.get_rng_state())


def test_weights_read_in_inference_mode_still_pass_gradients_on():
    backbone, images = Backbone("squeezenet"), made_pictures()[0].requires_grad_()
    with torch.inference_mode():
        backbone.features(images, ["fire9"])
    (gradient,) = torch.autograd.grad(backbone.features(images, ["fire9"])[0].sum(), images)
    assert float(gradient.abs().sum()) > 0


def test_another_precision_leaves_a_graph_that_is_still_needed_alone():
    backbone, images = Backbone("squeezenet"), made_pictures()[0].requires_grad_()
    (features,) = backbone.features(images, ["fire9"])
    backbone.features(images.double(), ["fire9"])
    (alone,) = torch.autograd.grad(
        Backbone("squeezenet").features(images, ["fire9"])[0].sum(), images
    )
    (gradient,) = torch.autograd.grad(features.sum(), images)
    assert features.dtype == gradient.dtype == torch.float32
    assert torch.equal(gradient, alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_are_computed_in_float32_whatever_the_autocast(squeezenet, dtype):
    images = made_pictures()[0].to(dtype)
    plain = squeezenet.features(images.float(), ["conv1", "fire9"])
    with torch.autocast("cpu", torch.bfloat16):
        found = squeezenet.features(images, ["conv1", "fire9"])
    assert all(torch.equal(*both) for both in zip(found, plain, strict=True))


# Where weights come from


def test_the_core_offers_its_networks_through_the_door():
    offered = builtin.i2i_weights()
    assert set(offered) == {"alexnet", "squeezenet1_1", "vgg16", "vgg19"}
    for name, entry in offered.items():
        assert entry["sha256"][:8] in entry["url"], name  # torchvision names files by their hash
        assert entry["bytes"] == CORE[name].num_bytes


def test_an_absent_vgg19_names_the_command_that_fetches_it():
    loss = PerceptualLoss(PerceptualOptions(weight=1, backbone="vgg19"))  # reads nothing yet
    assert not is_at_hand("vgg19")
    with pytest.raises(DownloadError) as error:
        loss(*made_pictures())
    assert "i2i models fetch vgg19" in error.value.remedy
    assert str(CORE["vgg19"].path) in error.value.remedy
    assert "I2I_OFFLINE forbids the network" in error.value.wrong


def test_a_download_in_the_midst_of_training_is_logged(monkeypatch, caplog):
    def fetched(remote, watcher):
        watcher.say(f"downloading {remote.name} (100% of it)")
        return Path("here")

    monkeypatch.setattr(importlib.import_module("i2i.nn.pretrained"), "fetch", fetched)
    assert pretrained("vgg16") == Path("here")
    assert caplog.messages == ["downloading vgg16 (100% of it)"]


def test_a_damaged_file_is_not_said_to_be_absent():
    offer = made_offer("alexnet")
    assert is_at_hand("alexnet", offer)
    offer["alexnet"].path.write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"is another file.* delete it and fetch it again"):
        Backbone("alexnet", offer).load()


def test_a_file_of_another_network_is_refused():
    state = made_state("alexnet")
    del state["features.8.bias"]
    with pytest.raises(ModelFileError, match=r"weights of alexnet .*conv4\.bias"):
        Backbone("alexnet", made_offer("alexnet", state)).load()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2, 3, 64, 64), ["relu5_4"]), "there is no layer named 'relu5_4'"),
        (((2, 3, 64, 64), []), "the layers are none"),
        (((2, 1, 64, 64), ["fire9"]), r"shape \(2, 1, 64, 64\)"),
        (((2, 3, 20, 64), ["fire9"]), "at least 21x21 pixels for 'fire9'"),
    ],
)
def test_what_a_backbone_cannot_see_is_refused(squeezenet, arguments, message):
    shape, layers = arguments
    with pytest.raises(UsageError, match=message):
        squeezenet.features(torch.zeros(shape), layers)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(UsageError, match="did you mean 'vgg19'"):
        Backbone("vgg91")


# The loss


def test_it_is_the_content_loss_of_the_paper(vgg19, state):
    """Equation 5 with feature maps times 1/12.75 (arXiv:1609.04802, sections 2.2.1 and 3.2)."""
    image, target = (each[:, :, :32] for each in made_pictures())
    options = PerceptualOptions(weight=1, backbone="vgg19", distance="l2", feature_scale=1 / 12.75)
    x, y = (vgg_features(state, VGG19, each.double(), 35) for each in (image, target))
    expected = 0.0061514 * ((x - y) ** 2).sum() / x.numel()

    found = PerceptualLoss(options, vgg19)(image, target)

    assert options.compared == ("relu5_4",)
    assert (found.dtype, found.shape) == (torch.float32, ())
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_layers_are_added_each_in_units_of_its_typical_size(squeezenet):
    image, target = made_pictures()
    options = PerceptualOptions(weight=1, layers=("fire4", "fire9"), feature_scale=2)
    expected = 0.0
    for layer, unit in (("fire4", 227), ("fire9", 38)):
        x, y = (squeezenet.features(each, [layer])[0].double() for each in (image, target))
        expected += float((2 * (x - y) / unit).abs().mean())
    assert float(PerceptualLoss(options, squeezenet)(image, target)) == pytest.approx(expected)


def test_every_layer_of_the_shipped_backbone_has_a_typical_size(squeezenet):
    assert tuple(_TYPICAL["squeezenet"]) == squeezenet.layers


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_gradients_are_those_of_finite_differences(squeezenet, distance):
    generator = torch.Generator().manual_seed(0)
    image, target = torch.rand(2, 1, 3, 21, 22, generator=generator, dtype=torch.float64) * 2 - 1
    options = PerceptualOptions(weight=1, distance=distance, layers=("conv1", "fire3", "fire9"))
    loss = PerceptualLoss(options, squeezenet)
    assert torch.autograd.gradcheck(
        lambda x: loss(x, target),
        image.requires_grad_(),
        eps=1e-8,
        atol=1e-6,
        rtol=1e-4,
        fast_mode=True,
    )


def test_no_gradient_reaches_the_target_and_equal_pictures_cost_nothing(squeezenet):
    image, target = (each.requires_grad_() for each in made_pictures())
    loss = PerceptualLoss(PerceptualOptions(weight=1), squeezenet)
    assert loss(image, image) == 0
    loss(image, target).backward()
    assert target.grad is None


def test_pictures_of_two_shapes_are_refused(squeezenet):
    loss = PerceptualLoss(PerceptualOptions(weight=1), squeezenet)
    with pytest.raises(UsageError, match="the same shape"):
        loss(torch.zeros(2, 3, 64, 64), torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 1, "layers": ["relu5_4"]}, "no layer named 'relu5_4'; expected one of conv1"),
        ({"weight": 1, "backbone": "vgg16", "layers": ["relu5_4"]}, "'relu5_4'; expected one of"),
        ({"weight": 1, "layers": ["fire4", "fire4"]}, "the layers are fire4, fire4"),
        ({"backbone": "vgg19"}, "backbone without a weight has no effect"),
        ({"distance": "l2", "feature_scale": 2}, "distance, feature_scale without a weight"),
        ({"weight": -1}, "greater than or equal to 0"),
        ({"weight": 1, "scale": 1}, "Extra inputs"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        PerceptualOptions.model_validate(options)


@pytest.mark.parametrize("name", NAMES)
def test_options_survive_a_model_file_and_their_default_layers_exist(name):
    options = PerceptualOptions(weight=0.5, backbone=name)
    assert PerceptualOptions.model_validate(options.model_dump(mode="json")) == options
    Backbone(name).check_layers(DEFAULT_LAYERS[name])
    assert PerceptualOptions.model_validate(PerceptualOptions().model_dump()).weight == 0
