"""The face embedding against its published graph, Pillow, finite differences and photographs."""

import copy
import hashlib
import os
import pickle
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import nn
from torch.nn import functional

from i2i.errors import UsageError
from i2i_face_aging.embedding import WINDOW, FaceEmbedding, _read
from i2i_face_aging.embedding_network import EmbeddingNetwork
from tests.scripts import load_script

# What the published graph, carried out operation by operation, makes of its file and
# made_pictures(): the first eight of 256 numbers, and the length of the vector.
GRAPH = (
    ([-2.4832, -9.9222, -2.7792, -13.3127, 13.0351, 4.8619, -8.2125, 17.5203], 123.158),
    ([-1.5550, 0.0088, -6.5813, -1.1156, 1.4981, 3.9192, -1.4517, 5.5927], 48.419),
)


def made_pictures() -> torch.Tensor:
    y, x = np.mgrid[0:112, 0:112] / 111.0
    one = [np.sin(3 * x + 7 * y), np.cos(9 * x * y), x - y]
    two = [np.cos(5 * x), y - x, np.sin(8 * x * y)]
    return torch.from_numpy(np.stack([one, two]).astype(np.float32))


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator, dtype=dtype) * 2 - 1


@pytest.fixture(scope="module")
def embed() -> FaceEmbedding:
    return FaceEmbedding()


# The network


def test_the_shipped_network_says_what_the_published_graph_says() -> None:
    vectors = _read()(made_pictures())
    for vector, (first, length) in zip(vectors, GRAPH, strict=True):
        assert vector.norm().item() == pytest.approx(length, rel=1e-3)
        assert vector[:8].tolist() == pytest.approx(first, abs=0.07)  # 16-bit weights


def test_the_shipped_file_is_the_one_that_the_readme_describes() -> None:
    shipped = resources.files("i2i_face_aging") / "shipped"
    data = (shipped / "embedding.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() in (shipped / "README.md").read_text()
    assert len(data) < 1_200_000
    assert "MIT License" in (shipped / "embedding.LICENCE.txt").read_text()


def published() -> dict[str, np.ndarray]:
    """Return arrays as TensorFlow lays them out, of the published names and shapes."""
    shapes: dict[str, tuple[int, ...]] = {"conv1_weight": (3, 3, 3, 32), "prelu1_gamma": (32,)}
    for stage, (seen, made) in enumerate([(32, 32), (32, 32), (32, 64), (64, 128)], 1):
        old = f"stage{stage}_unit1"
        shapes[f"{old}_conv0_0_weight"] = (1, 1, seen, made)
        shapes |= {f"{old}_{name}_df": (3, 3, made, 1) for name in ("conv0_1", "conv1", "conv2")}
        shapes |= {f"{old}_prelu{index}_gamma": (made,) for index in range(3)}
    shapes |= {"dense/kernel": (2048, 256), "batchnorm0/mul": (256,), "batchnorm0/sub": (256,)}
    draw = np.random.default_rng(0)
    fan_in = {"conv1_weight": 27, "dense/kernel": 2048}
    return {
        name: (
            draw.normal(size=shape)
            * (2 / fan_in.get(name, 9 if "_df" in name else shape[-2] if len(shape) > 1 else 4))
            ** 0.5
        ).astype(np.float32)
        for name, shape in shapes.items()
    }


def windows(x: np.ndarray, side: int, stride: int) -> np.ndarray:
    """Return what a kernel sees at each place of (N, H, W, C): (N, H', W', C, side, side)."""
    room = (side - 1) // 2
    padded = np.pad(x, [(0, 0), (room, room), (room, room), (0, 0)])
    views = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (1, 2))
    return views[:, ::stride, ::stride]


def plain(arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Carry out the published graph in NumPy on (N, 112, 112, 3) of 0 to 255."""

    def convolved(x: np.ndarray, name: str, stride: int) -> np.ndarray:
        kernel = arrays[name]
        seen = windows(x, len(kernel), stride)
        sums = "nhwcij,ijcm->nhwc" if name.endswith("_df") else "nhwcij,ijco->nhwo"
        return np.einsum(sums, seen, kernel, optimize=True)

    def bent(x: np.ndarray, name: str) -> np.ndarray:
        return np.where(x > 0, x, arrays[name] * x)

    x = bent(convolved((x - 127.5) * 0.0078125, "conv1_weight", 2), "prelu1_gamma")
    for stage in (f"stage{index}_unit1" for index in (1, 2, 3, 4)):
        x = convolved(convolved(x, f"{stage}_conv0_0_weight", 1), f"{stage}_conv0_1_df", 2)
        x = y = bent(x, f"{stage}_prelu0_gamma")
        for index in (1, 2):
            y = bent(convolved(y, f"{stage}_conv{index}_df", 1), f"{stage}_prelu{index}_gamma")
        x = x + y
    dense = x.reshape(len(x), -1) @ arrays["dense/kernel"]
    return dense * arrays["batchnorm0/mul"] + arrays["batchnorm0/sub"]


def test_the_conversion_keeps_what_the_published_graph_says() -> None:
    convert = load_script("tools", "convert_embedding")
    made = published()
    entries = [
        {"name": name, "shape": array.shape, "dtype": "float32"} for name, array in made.items()
    ]
    content = b"".join(array.tobytes() for array in made.values())
    read = convert.arrays({"weightsManifest": [{"weights": entries}]}, content)
    assert all(np.array_equal(read[name], array) for name, array in made.items())
    network = EmbeddingNetwork()
    network.load_state_dict(convert.renamed(read))
    pictures = made_pictures()[1:]
    expected = plain(made, (pictures.permute(0, 2, 3, 1).numpy() + 1) * np.float32(127.5))
    found = network(pictures).detach()
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


# What it sees


@pytest.mark.parametrize(("height", "width"), [(128, 128), (256, 200), (64, 71)])
def test_the_window_is_what_pillow_cuts_from_the_face_on_black(
    embed: FaceEmbedding, height: int, width: int
) -> None:
    face = noise(1, 3, height, width)
    room = 100
    left, top, side = WINDOW
    box = (left * width + room, top * height + room)
    box = (*box, box[0] + side * width, box[1] + side * height)
    for channel, seen in zip(face[0], embed._seen(face)[0], strict=True):
        canvas = functional.pad(channel, [room] * 4, value=-1.0)
        cut = Image.fromarray(canvas.numpy()).resize((112, 112), Image.Resampling.BILINEAR, box)
        torch.testing.assert_close(seen, torch.from_numpy(np.array(cut)), rtol=0, atol=2e-5)


def test_vectors_have_length_one_whatever_the_size(embed: FaceEmbedding) -> None:
    for side in (20, 112, 300):
        vectors = embed(noise(3, 3, side, side))
        assert vectors.shape == (3, embed.width)
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("shape", [(3, 128, 128), (2, 1, 128, 128), (2, 4, 64, 64), (2, 3, 0, 9)])
def test_what_is_no_batch_of_colour_pictures_is_refused(
    embed: FaceEmbedding, shape: tuple[int, ...]
) -> None:
    with pytest.raises(UsageError, match="faces have the shape"):
        embed(torch.zeros(shape))


# Gradients


def test_the_gradient_is_that_of_finite_differences(embed: FaceEmbedding) -> None:
    faces, way = noise(2, 3, 40, 40, dtype=torch.float64), torch.randn(2, 3, 40, 40).double()
    other = functional.normalize(noise(2, 256, dtype=torch.float64), dim=1)

    def likeness(x: torch.Tensor) -> torch.Tensor:
        return (embed(x) * other).sum()

    asked = faces.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(likeness(asked), asked)
    step = 1e-7
    expected = (likeness(faces + step * way) - likeness(faces - step * way)) / (2 * step)
    assert (gradient * way).sum().item() == pytest.approx(expected.item(), rel=1e-3)


def test_gradients_reach_faces_after_a_first_use_without_any() -> None:
    embed = FaceEmbedding()
    with torch.inference_mode():
        embed(noise(1, 3, 32, 32))
    faces = noise(1, 3, 32, 32).requires_grad_()
    embed(faces)[0, 0].backward()
    assert faces.grad is not None
    assert faces.grad.abs().sum() > 0


def test_autocast_changes_nothing(embed: FaceEmbedding) -> None:
    faces = noise(2, 3, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = embed(faces)
    assert torch.equal(inside, embed(faces))


# As an attribute of a family


def test_it_is_no_part_of_what_is_saved_trained_or_drawn(embed: FaceEmbedding) -> None:
    class Family(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = embed

    family = Family()
    before = torch.get_rng_state()
    FaceEmbedding()(noise(1, 3, 16, 16))
    assert torch.equal(torch.get_rng_state(), before)
    assert not family.state_dict()
    assert not list(family.parameters())
    assert copy.deepcopy(family).embedding is embed
    assert len(pickle.dumps(embed)) < 200
    faces = noise(1, 3, 32, 32)
    assert torch.equal(pickle.loads(pickle.dumps(embed))(faces), embed(faces))


# Photographs


def photographs() -> list[Image.Image]:
    folder = Path(os.environ.get("I2I_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))
    if not (folder / "utkface").is_dir():
        pytest.skip("utkface is not here: set I2I_SHARED_DATA")
    grown = sorted(f for f in (folder / "utkface").iterdir() if int(f.name.split("_")[0]) >= 20)
    return [Image.open(path).convert("RGB") for path in grown[:: len(grown) // 40][:40]]


def tensor(pictures: list[Image.Image]) -> torch.Tensor:
    array = np.stack([np.asarray(picture) for picture in pictures])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float() / 127.5 - 1


def disfigured(picture: Image.Image) -> Image.Image:
    """Return it mirrored, moved, turned, darkened, yellowed and blurred."""
    changed = ImageOps.mirror(picture).rotate(4, Image.Resampling.BILINEAR, translate=(2, -3))
    curves = [int(255 * (v / 255) ** 1.5 * gain) for gain in (1.0, 0.9, 0.6) for v in range(256)]
    changed = changed.point(curves)
    return changed.filter(ImageFilter.GaussianBlur(1.5))


def test_it_tells_a_face_from_others_however_it_is_lit_turned_or_mirrored(
    embed: FaceEmbedding,
) -> None:
    faces = photographs()
    alike = embed(tensor(faces)) @ embed(tensor([disfigured(face) for face in faces])).T
    same, others = alike.diagonal(), alike[~torch.eye(len(faces), dtype=torch.bool)]
    area = (same[:, None] > others).float().mean().item()  # under the ROC curve
    assert area > 0.995
    assert same.mean() > 0.55
    assert others.mean().abs() < 0.15


def test_a_face_stays_itself_at_half_the_size(embed: FaceEmbedding) -> None:
    faces = photographs()[:8]
    halved = [face.resize((64, 64), Image.Resampling.LANCZOS) for face in faces]
    assert (embed(tensor(faces)) * embed(tensor(halved))).sum(1).min() > 0.9
