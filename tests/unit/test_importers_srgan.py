"""Published super-resolution checkpoints give the same pictures here."""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from i2i import I2IError, UsageError, load_model, load_plugins
from i2i.importing import Asked, import_model
from i2i.plugins import Plugins
from i2i_cyclegan.reference import ReferenceGenerators
from i2i_pix2pix.reference import ReferenceUNets
from i2i_srgan.reference import (
    ESRGANGenerators,
    MSRResNetGenerators,
    SRGANGenerators,
    SRVGGGenerators,
)
from tests.unit import test_importers, test_importers_pix2pix
from tests.unit.superresolution import (
    NETWORKS,
    Forward,
    State,
    by_compact,
    by_leftthomas,
    by_rrdb,
    compact,
    convolutions,
    drawn,
    leftthomas,
    msrresnet,
    rrdb,
)
from tests.unit.test_importers import imported, refused, without
from tests.unit.test_importers_pix2pix import tables

OURS = (SRVGGGenerators(), ESRGANGenerators(), MSRResNetGenerators(), SRGANGenerators())
OTHERS = (ReferenceGenerators(), ReferenceUNets())
ANIME = "realesr-animevideov3.pth"
LEFTTHOMAS = "leftthomas_srgan_netG_epoch_4_100.pth"


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


X4 = "Real-ESRGAN x4"


def difference(state: State, forward: Forward, path: Path, plugins: Plugins) -> float:
    """Return the largest difference in double precision, of [0, 1] and of what is translated."""
    translator = load_model(path, plugins).translator.double()
    torch.manual_seed(1)
    pictures = torch.rand(1, 3, 8, 12, dtype=torch.float64)
    with torch.no_grad():
        expected = forward({name: each.double() for name, each in state.items()}, pictures)
        made = translator.generator(pictures)
        translated = translator.translate(2 * pictures - 1, translator.Request())
    assert expected.shape == (1, 3, *(translator.options.scale * side for side in (8, 12)))
    assert expected.std() > 0.05  # a network that says something
    shown = 2 * expected.clamp(0, 1) - 1
    return float(max((made - expected).abs().max(), (translated - shown).abs().max()))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_published_network_gives_its_pictures(network, tmp_path, plugins):
    state, forward, wanted = NETWORKS[network]
    path = imported(state, tmp_path, plugins)
    assert difference(state, forward, path, plugins) < 1e-10

    options = load_model(path, plugins).translator.options
    said = {**options.generator.model_dump(), "scale": options.scale}
    assert {key: said[key] for key in wanted} == wanted
    assert not options.adversarial  # there is one generator


WRAPPERS = {
    "params": lambda state: {"params": state},
    "params_ema": lambda state: {"params_ema": state},
    "both": lambda state: {
        "params": {k: each + 1 for k, each in state.items()},
        "params_ema": state,
    },
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "DataParallel": lambda state: {f"module.{name}": each for name, each in state.items()},
    "prefix": lambda state: {f"generator.{name}": each for name, each in state.items()},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("network", [X4, "compact x4"])
def test_a_wrapper_is_looked_through(network, wrapper, tmp_path, plugins):
    state, forward, _ = NETWORKS[network]
    path = imported(WRAPPERS[wrapper](state), tmp_path, plugins)
    assert difference(state, forward, path, plugins) < 1e-10


def notes_on(state: object, folder: Path, plugins: Plugins, **asked: object) -> tuple[str, ...]:
    torch.save(state, folder / "net.pth")
    out = folder / "out.safetensors"
    out.unlink(missing_ok=True)
    return import_model(folder / "net.pth", out, plugins, Asked(**asked)).notes


def test_the_person_is_told_that_the_average_is_taken_and_can_choose(tmp_path, plugins):
    state, forward, _ = NETWORKS[X4]
    both = WRAPPERS["both"](state)
    (note,) = notes_on(both, tmp_path, plugins)
    assert note == "params_ema is taken, as its program does; --part params for the other"
    assert not notes_on(both, tmp_path, plugins, part="params")
    path = tmp_path / "out.safetensors"
    assert difference(both["params"], forward, path, plugins) < 1e-6  # its numbers are large


def test_a_checkpoint_of_an_older_pytorch_counts_no_batches(tmp_path, plugins):
    state, forward, _ = NETWORKS["leftthomas x2, 5 blocks and a norm"]
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    assert len(counters) == 11
    path = imported(without(state, *counters), tmp_path, plugins)
    assert difference(state, forward, path, plugins) < 1e-10


def test_a_model_keeps_the_precision_that_it_came_in(tmp_path, plugins):
    state, forward, _ = NETWORKS[X4]
    half = {name: each.half() for name, each in state.items()}
    path = imported(half, tmp_path, plugins)
    with safe_open(path, framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
    assert difference(half, forward, path, plugins) < 1e-10


# What a file cannot tell


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_an_activation_without_weights_is_the_persons_to_say(activation, tmp_path, plugins):
    state = compact(2, prelus=False)
    with pytest.raises(UsageError) as caught:
        imported(state, tmp_path, plugins)
    assert "its tensors do not tell generator.activation" in str(caught.value)
    assert "--set generator.activation=...: relu or leaky_relu" in str(caught.value)

    path = imported(state, tmp_path, plugins, overrides=(f"generator.activation={activation}",))
    forward = partial(by_compact, scale=2, activation=activation)
    assert difference(state, forward, path, plugins) < 1e-10


def test_one_layer_that_enlarges_may_be_for_2_or_3(tmp_path, plugins):
    state, _, _ = NETWORKS["first ESRGAN x2"]
    (note,) = notes_on(state, tmp_path, plugins)
    assert "--set scale=3 for a network that was trained for 3" in note

    assert not notes_on(state, tmp_path, plugins, overrides=("scale=3",))
    forward = partial(by_rrdb, style="first ESRGAN", factors=(3,), unshuffle=1)
    assert difference(state, forward, tmp_path / "out.safetensors", plugins) < 1e-10


# What does not fit


@pytest.mark.parametrize(
    ("network", "name", "reason"),
    [
        (X4, "conv_first.weight", "width=6 asks for it"),
        (X4, "body.1.rdb3.conv5.bias", "num_blocks=2, width=6 and growth=4 ask for it"),
        (X4, "conv_body.weight", "width=6 asks for it"),
        (X4, "conv_up2.bias", "scale=4 and width=6 ask for it"),
        ("Real-ESRGAN x2 in 2x2", "conv_first.bias", "width=6 and unshuffle=2 ask for it"),
        ("ESRGAN x4", "HRconv.weight", "width=6 asks for it"),
        ("first ESRGAN x4", "model.10.weight", "width=6 asks for it, with 3 channels at both ends"),
        ("first ESRGAN x4", "model.3.weight", "scale=4 and width=6 ask for it"),
        ("MSRResNet x4 in body", "body.2.conv1.weight", "num_blocks=3 and width=6 ask for it"),
        ("MSRResNet x4 in body", "upconv2.weight", "scale=4 and width=6 ask for it"),
        ("compact x4", "body.0.bias", "width=6 asks for it, with 3 channels at both ends"),
        ("compact x4", "body.2.bias", "num_blocks=2 and width=6 ask for it"),
        ("compact x4", "body.3.weight", "activation=prelu and width=6 ask for it"),
        ("compact x4", "body.6.bias", "scale=4 and width=6 ask for it"),
        ("leftthomas x4, 5 blocks and a prelu", "block8.1.prelu.weight", "scale=4 and width=6"),
        ("leftthomas x2, 5 blocks and a norm", "block7.1.bias", "closing=norm and width=6 ask"),
        ("leftthomas x2, 5 blocks and a norm", "block6.bn2.running_var", "num_blocks=5 and"),
    ],
)
def test_a_missing_tensor_is_named_with_what_asks_for_it(network, name, reason, tmp_path, plugins):
    message = refused(without(NETWORKS[network][0], name), tmp_path, plugins)
    assert f"'{name}' is missing ({reason}" in message
    assert message.count("differ") == 0  # nothing else


@pytest.mark.parametrize("ends", [1, 4])
@pytest.mark.parametrize(
    ("made", "name", "here", "there"),
    [
        (partial(msrresnet, 4), "conv_first.weight", "6x{}x3x3", "6x3x3x3"),
        (rrdb, "conv_first.weight", "6x{}x3x3", "6x3x3x3"),
        (partial(rrdb, "first ESRGAN"), "model.0.weight", "6x{}x3x3", "6x3x3x3"),
        (partial(compact, 4), "body.0.weight", "6x{}x3x3", "6x3x3x3"),
        (partial(leftthomas, 4), "block1.0.weight", "6x{}x9x9", "6x3x9x9"),
    ],
)
def test_grey_and_transparent_pictures_are_named_with_both_shapes(
    made, name, here, there, ends, tmp_path, plugins
):
    message = refused(made(ends=ends), tmp_path, plugins)
    assert f"'{name}' is {here.format(ends)}, not {there} (width=6 asks for it, with 3" in message


@pytest.mark.parametrize(
    ("asked", "looks"),
    [
        ("scale=2", "scale=4"),
        ("generator.num_blocks=1", "generator.num_blocks=2"),
        ("generator.growth=8", "generator.growth=4"),
        ("generator.unshuffle=2", "generator.unshuffle=1"),
    ],
)
def test_an_option_that_the_file_contradicts_is_named(asked, looks, tmp_path, plugins):
    message = refused(NETWORKS[X4][0], tmp_path, plugins, overrides=(asked,))
    assert f"{asked} was asked for, and the file looks like {looks}" in message
    assert "leave out the --set" in message


def test_a_tensor_too_many_is_named(tmp_path, plugins):
    extra = "model.1.sub.0.RDB1.conv1x1.weight"  # of ESRGAN+
    state = NETWORKS["first ESRGAN x4"][0] | {extra: torch.zeros(4, 6, 1, 1)}
    assert f"{extra!r} belongs to no layer" in refused(state, tmp_path, plugins)


def test_a_scale_that_the_family_has_not_is_named(tmp_path, plugins):
    with pytest.raises(I2IError, match=r"scale") as caught:
        imported(rrdb("first ESRGAN", (2, 2, 2, 2)), tmp_path, plugins)
    assert "16" in str(caught.value)


def test_a_network_with_blocks_of_two_convolutions_is_none_of_them(tmp_path, plugins):
    sizes = {f"body.{block}.body.{place}": (6, 6) for block in range(3) for place in (0, 2)}
    state = drawn(convolutions(**{"head.0": (3, 6)}, **sizes, **{"tail.1": (6, 3)}))  # EDSR's
    assert "no importer knows its tensors" in refused(state, tmp_path, plugins)


def claims(importers: Iterable[object], state: State) -> list[str]:
    """Return which importers know a table of the checkpoint."""
    shapes = tables(state)
    return [type(at).__name__ for at in importers for each in shapes if at.read(each, {})]


@pytest.mark.parametrize("network", NETWORKS)
def test_one_importer_claims_a_network(network):
    assert len(claims(OURS, NETWORKS[network][0])) == 1
    assert not claims(OTHERS, NETWORKS[network][0])


def test_the_networks_of_other_families_are_not_claimed():
    unet, resnet = test_importers_pix2pix.made(), test_importers.made()
    for network in (unet, resnet, test_importers.made(layers=False)):
        assert not claims(OURS, network.state_dict())


# Real files


def shared(*parts: str) -> Path:
    folder = Path(os.environ.get("I2I_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))
    path = folder.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not here: set I2I_SHARED_DATA")
    return path


REAL = {
    ANIME: (partial(by_compact, scale=4, activation="prelu"), "params", 621_424, 28.23),
    LEFTTHOMAS: (partial(by_leftthomas, closing="prelu"), None, 734_092, 30.66),
}


@pytest.fixture(params=REAL)
def real(request, tmp_path, plugins):
    """A real file's name, its model, and its number of parameters."""
    out = tmp_path / "out.safetensors"
    made = import_model(shared("weights", request.param), out, plugins, Asked())
    return request.param, out, made.num_parameters


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_a_real_file_gives_the_pictures_of_its_program(real, dtype, most, plugins):
    name, path, num_parameters = real
    forward, part, wanted, _ = REAL[name]
    assert num_parameters == wanted
    content = torch.load(shared("weights", name), map_location="cpu", weights_only=True)
    state = {key: each.to(dtype) for key, each in (content[part] if part else content).items()}
    picture = Image.open(shared("sr", "Set5", "LR", "img_002.png")).crop((20, 10, 44, 26))
    seen = torch.from_numpy(np.array(picture)).to(dtype).permute(2, 0, 1)[None] / 255
    translator = load_model(path, plugins).translator.to(dtype)
    with torch.no_grad():
        expected = forward(state, seen).clamp(0, 1)
        translated = translator.translate(2 * seen - 1, translator.Request())
    assert expected.std() > 0.1
    assert ((translated + 1) / 2 - expected).abs().max() < most


def luma(pixels: np.ndarray) -> np.ndarray:
    """The Y of ITU-R BT.601, from 16 to 235, four pixels from the edge inwards."""
    inner = pixels[4:-4, 4:-4].astype(np.float64)
    return 16 + inner @ np.array([65.481, 128.553, 24.966]) / 255


def test_a_real_file_reaches_on_set5_what_it_is_known_for(real, plugins):
    name, path, _ = real
    *_, known = REAL[name]
    translator = load_model(path, plugins).translator
    found = []
    for number in range(1, 6):
        low, high = (
            np.array(Image.open(shared("sr", "Set5", side, f"img_{number:03}.png")).convert("RGB"))
            for side in ("LR", "HR")
        )
        seen = torch.from_numpy(low).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            made = translator.translate(seen, translator.Request())[0]
        made = ((made + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        error = np.mean((luma(made) - luma(high)) ** 2)
        found.append(10 * np.log10(255**2 / error))
    assert np.mean(found) == pytest.approx(known, abs=0.01)
