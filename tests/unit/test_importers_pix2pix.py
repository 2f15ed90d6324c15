"""Checkpoints of the authors' U-Nets give the same pictures here."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from i2i import load_model, load_plugins
from i2i.importing import Asked, import_model
from i2i.plugins import Plugins
from i2i_cyclegan.reference import ReferenceGenerators
from i2i_pix2pix.networks import KeyedDropout
from i2i_pix2pix.reference import ReferenceUNets
from tests.unit import test_importers
from tests.unit.test_importers import WRAPPERS, affine, imported, refused, tracking, without

INNERMOST = "model.model.1.model.3.model.3.model.3.model.3.model"  # of six halvings


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


class Nested(nn.Module):
    def __init__(self, layers: list[nn.Module], skips: bool) -> None:
        super().__init__()
        self.model, self.skips = nn.Sequential(*layers), skips

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.model(x)], dim=1) if self.skips else self.model(x)


class Reference(nn.Module):
    """The published U-Net as nested blocks, with activations in place, as it is published.

    Written from the paper and the files' names: the original code runs beside ours by hand only.
    """

    def __init__(
        self,
        num_halvings: int = 6,
        width: int = 4,
        *,
        norm: partial[nn.Module] | type[nn.Module] = nn.BatchNorm2d,
        bias: bool = False,
        widest: int = 8,
    ) -> None:
        super().__init__()
        widths = [3, *(width * min(2**i, widest) for i in range(num_halvings))]
        block: list[nn.Module] = []
        for depth in reversed(range(num_halvings)):
            outer, inner = widths[depth : depth + 2]
            down = nn.Conv2d(outer, inner, 4, 2, 1, bias=bias)
            wide = inner * (2 if block else 1)
            up = nn.ConvTranspose2d(wide, outer, 4, 2, 1, bias=bias or not depth)
            layers = [nn.LeakyReLU(0.2, inplace=True)] if depth else []
            layers += [down, *([norm(inner)] if depth and block else []), *block]
            layers += [nn.ReLU(inplace=True), up, norm(outer) if depth else nn.Tanh()]
            layers += [nn.Dropout(0.5)] if block and depth > 3 else []
            block = [Nested(layers, skips=depth > 0)]
        self.model = block[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def dropping(self) -> list[str]:
        """Return the names of the layers that drop out, the innermost first."""
        names = [name for name, each in self.named_modules() if isinstance(each, nn.Dropout)]
        return sorted(names, key=len, reverse=True)


def made(*size: int, **changed: object) -> Reference:
    """A network that says something, with running statistics that differ from any picture's."""
    torch.manual_seed(0)
    reference = Reference(*size, **changed)
    for module in reference.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, a=0.2)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.2)
            nn.init.normal_(module.bias, 0.0, 0.2)
            nn.init.normal_(module.running_mean, 0.5, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return reference


instance = {"norm": nn.InstanceNorm2d, "bias": True}


def pictures(num_halvings: int) -> Tensor:
    torch.manual_seed(1)
    side = 2**num_halvings
    return torch.rand(2, 3, side, 2 * side, dtype=torch.float64) * 2 - 1


def one_by_one(reference: nn.Module, images: Tensor) -> Tensor:
    """Return what the reference makes of each picture; in training it moves its statistics."""
    kept = {name: each.clone() for name, each in reference.state_dict().items()}
    with torch.no_grad():
        translated = torch.cat([reference(image[None]) for image in images])
    reference.load_state_dict(kept)
    return translated


def quiet(reference: nn.Module, training: bool) -> nn.Module:
    """Return it in a mode, without dropout; statistics of instances have never been used."""
    reference.double().train(training)
    for module in reference.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
        if isinstance(module, nn.InstanceNorm2d):
            module.train()
    return reference


def difference(reference: nn.Module, path: Path, plugins: Plugins, **request: object) -> float:
    """Return the largest difference in double precision from what the reference does in a mode."""
    translator = load_model(path, plugins).translator.double()
    images = pictures(translator.options.num_halvings)
    expected = one_by_one(quiet(reference, not request.get("deterministic")), images)
    assert expected.std() > 0.1
    with torch.no_grad():
        translated = translator.translate(images, translator.Request(**request))
    return float((translated - expected).abs().max())


LAYOUTS = {
    "six halvings": {},
    "seven halvings": {"num_halvings": 7},
    "eight halvings": {"num_halvings": 8, "width": 1},
    "the fewest of the reference": {"num_halvings": 5},
    "fewer than the reference has": {"num_halvings": 3},
    "the fewest of ours": {"num_halvings": 2},
    "another width": {"width": 5},
    "narrower inside": {"widest": 2},
    "wider inside": {"widest": 16},
    "instance norm": instance,
    "instance norm with running statistics": {"norm": tracking, "bias": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_of_the_reference_gives_its_pictures(layout, tmp_path, plugins):
    reference = made(**LAYOUTS[layout])
    path = imported(reference.state_dict(), tmp_path, plugins, overrides=("dropout=0",))
    assert difference(reference, path, plugins) < 1e-10


@pytest.mark.parametrize("layout", LAYOUTS)
def test_deterministic_is_the_references_evaluation_mode(layout, tmp_path, plugins):
    reference = made(**LAYOUTS[layout])
    path = imported(reference.state_dict(), tmp_path, plugins)
    assert difference(reference, path, plugins, deterministic=True) < 1e-10


@pytest.mark.parametrize("num_halvings", [5, 6, 8])
def test_the_layers_drop_out_that_do_so_in_the_reference(num_halvings, tmp_path, plugins):
    reference = made(num_halvings, 2).double().train()
    path = imported(reference.state_dict(), tmp_path, plugins)
    translator = load_model(path, plugins).translator.double()
    image = pictures(num_halvings)[:1]
    noise = KeyedDropout(3, image, tuple(range(num_halvings)), 0.5)
    for place, name in enumerate(reference.dropping()):
        reference.get_submodule(name).forward = partial(noise, place + 1)
    with torch.no_grad():
        seed = 3 if reference.dropping() else 0  # a seed without noise is refused
        translated = translator.translate(image, translator.Request(seed=seed))
    torch.testing.assert_close(translated, one_by_one(reference, image), atol=1e-10, rtol=0)
    assert len(reference.dropping()) == num_halvings - 5


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_is_looked_through(wrapper, tmp_path, plugins):
    reference = made(5, 2)
    path = imported(WRAPPERS[wrapper](reference.state_dict()), tmp_path, plugins)
    assert difference(reference, path, plugins) < 1e-10


def test_a_checkpoint_of_an_older_pytorch_counts_no_batches(tmp_path, plugins):
    reference = made()
    state = reference.state_dict()
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    assert len(counters) == 9
    path = imported(without(state, *counters), tmp_path, plugins)
    assert difference(reference, path, plugins, deterministic=True) < 1e-10


@pytest.mark.parametrize(("given", "kept"), [(torch.float32, "F32"), (torch.float16, "F16")])
def test_a_model_keeps_the_precision_that_it_came_in(given, kept, tmp_path, plugins):
    reference = made().to(given)
    path = imported(reference.state_dict(), tmp_path, plugins)
    with safe_open(path, framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {kept}  # noqa: SIM118
    assert difference(reference, path, plugins, deterministic=True) < 1e-10


def imported_with(
    reference: nn.Module, folder: Path, plugins: Plugins, *overrides: str
) -> tuple[str, ...]:
    """Return the notes."""
    torch.save(reference.state_dict(), folder / "net.pth")
    asked = Asked(overrides=overrides)
    result = import_model(folder / "net.pth", folder / "out.safetensors", plugins, asked)
    assert result.num_parameters == sum(each.numel() for each in reference.parameters())
    return result.notes


def test_the_person_is_told_that_dropout_is_a_guess_and_can_decide_it(tmp_path, plugins):
    (note,) = imported_with(made(), tmp_path, plugins)
    assert "--set dropout=0 for a network trained with --no_dropout" in note
    options = load_model(tmp_path / "out.safetensors", plugins).translator.options
    assert (options.dropout, options.dropout_layers) == (0.5, (1,))

    assert not imported_with(made(), tmp_path, plugins, "dropout=0")
    assert not imported_with(made(5), tmp_path, plugins)


def test_the_person_is_told_that_running_statistics_of_instances_are_left_out(tmp_path, plugins):
    first, _ = imported_with(made(norm=tracking, bias=True), tmp_path, plugins)
    assert "running statistics are left out, as the reference does" in first


def test_a_direction_is_the_persons_to_say(tmp_path, plugins):
    path = imported(made().state_dict(), tmp_path, plugins, overrides=("direction=b2a",))
    assert load_model(path, plugins).header.options["direction"] == "b2a"


# What does not fit


def tables(state: dict[str, Tensor]) -> list[dict[str, tuple[int, ...]]]:
    """Return the shapes of a checkpoint, and of every table within it."""
    parts = {".".join(name.split(".")[:depth]) for name in state for depth in range(12)}
    prefixes = [f"{part}." if part else "" for part in parts]
    return [
        {name.removeprefix(at): tuple(state[name].shape) for name in state if name.startswith(at)}
        for at in prefixes
    ]


def test_the_importers_of_two_families_do_not_claim_each_others_networks():
    resnet = test_importers.made(layers=False).state_dict()
    resnets = [test_importers.made().state_dict(), {f"model.{k}": v for k, v in resnet.items()}]
    for state in resnets:
        assert all(ReferenceUNets().read(shapes, {}) is None for shapes in tables(state))
        assert any(ReferenceGenerators().read(shapes, {}) for shapes in tables(state))
    for unet in (made(), made(8, 1), made(**instance), made(2)):
        shapes = tables(unet.state_dict())
        assert all(ReferenceGenerators().read(each, {}) is None for each in shapes)
        assert sum(ReferenceUNets().read(each, {}) is not None for each in shapes) == 1


@pytest.mark.parametrize(
    ("changed", "name", "reason"),
    [
        ({}, "model.model.0.weight", "width=4 asks for it, with 3 channels at both ends"),
        ({}, "model.model.3.bias", "width=4 asks for it, with 3 channels at both ends"),
        ({}, "model.model.1.model.2.running_var", "norm=batch asks for it, as the convolutions"),
        ({}, "model.model.1.model.1.weight", "num_halvings=6, width=4 and widest=8 ask for it"),
        ({}, f"{INNERMOST}.1.weight", "num_halvings=6, width=4 and widest=8 ask for it"),
        ({}, f"{INNERMOST}.3.weight", "num_halvings=6, width=4 and widest=8 ask for it"),
        (instance, "model.model.1.model.1.bias", "norm=instance asks for it, as other"),
    ],
)
def test_a_missing_tensor_is_named_with_the_option_that_asks_for_it(
    changed, name, reason, tmp_path, plugins
):
    message = refused(without(made(**changed).state_dict(), name), tmp_path, plugins)
    assert f"'{name}' is missing ({reason}" in message
    assert "as the importer 'pix2pix' knows them, which fits 9" in message


def test_the_first_of_many_differences_follows_the_network(tmp_path, plugins):
    names = [f"model.model.{each}" for each in ("3.weight", "1.model.5.weight", "1.model.2.bias")]
    message = refused(without(made().state_dict(), *names), tmp_path, plugins)
    assert "'model.model.1.model.2.bias' is missing" in message
    assert ", and 2 more differ; " in message


@pytest.mark.parametrize(
    ("asked", "looks"),
    [
        ("num_halvings=5", "num_halvings=6"),
        ("num_halvings=7", "num_halvings=6"),
        ("width=7", "width=4"),
        ("norm=instance", "norm=batch"),
        ("upsampling=resize", "upsampling=transposed"),
        ("self_attention=true", "self_attention=False"),
    ],
)
def test_an_option_that_the_file_contradicts_is_named(asked, looks, tmp_path, plugins):
    message = refused(made().state_dict(), tmp_path, plugins, overrides=(asked,))
    wanted = asked.replace("true", "True")
    assert f"{wanted} was asked for, and the file looks like {looks}" in message
    assert "leave out the --set" in message


def test_other_channels_than_three_are_named_with_both_shapes(tmp_path, plugins):
    state = made().state_dict()
    state["model.model.0.weight"] = torch.zeros(4, 1, 4, 4)
    message = refused(state, tmp_path, plugins)
    assert "'model.model.0.weight' is 4x1x4x4, not 4x3x4x4 (width=4 asks for it, with 3" in message


def test_a_tensor_too_many_is_named(tmp_path, plugins):
    state = made().state_dict() | {"model.model.4.weight": torch.zeros(3, 3)}
    assert "'model.model.4.weight' belongs to no layer" in refused(state, tmp_path, plugins)


def test_a_network_without_normalisation_is_told_by_what_it_lacks(tmp_path, plugins):
    message = refused(made(norm=lambda _: nn.Identity()).state_dict(), tmp_path, plugins)
    assert "'model.model.1.model.2.weight' is missing (norm=batch asks for it" in message


def test_instance_norms_with_weights_have_no_place(tmp_path, plugins):
    message = refused(made(norm=affine, bias=True).state_dict(), tmp_path, plugins)
    assert "'model.model.1.model.2.weight' belongs to no layer" in message


def test_a_discriminator_is_known_by_no_importer(tmp_path, plugins):
    convolutions = {"0": (4, 6, 4, 4), "2": (8, 4, 4, 4), "5": (1, 8, 4, 4)}
    state = {f"model.{at}.weight": torch.zeros(shape) for at, shape in convolutions.items()}
    assert "no importer knows its tensors" in refused(state, tmp_path, plugins)
