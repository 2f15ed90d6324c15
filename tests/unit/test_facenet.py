"""FaceNet against facenet-pytorch's own class, and how its file is read."""

import copy
import math
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from i2i import DownloadError, ModelFileError, UsageError, load_plugins
from i2i.downloads import Remote
from i2i_face_aging import facenet
from i2i_face_aging.age_cgan import AgeCGAN, AgeCGANOptions, AgeCGANRequest
from i2i_face_aging.aging import FaceAging
from i2i_face_aging.embedding import FaceEmbedding
from i2i_face_aging.facenet import FaceNet, read_facenet
from i2i_face_aging.options import AgingOptions
from i2i_face_aging.weights import FACENET, OFFERED

# What InceptionResnetV1 of facenet-pytorch 2.6.0 makes of made_state() and made_pictures() by the
# package's scaling, before it is brought to length one: the first six of 512 numbers, the length.
PUBLISHED = (
    ([17.3759, -7.1939, -15.4710, 4.7222, -8.3237, 4.3210], 126.83295),
    ([16.9567, -6.6402, -13.8442, 4.6076, -6.8621, 3.9241], 112.57978),
)


def made_state(shapes: Mapping[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Return weights that any library can make: a formula of their name and place."""
    state = {}
    for name, shape in shapes.items():
        place = torch.arange(math.prod(shape))  # whole numbers: the same on any machine
        drawn = (place * place * 2654435761 + place * 40503 + sum(name.encode())) % 2**32
        wave = (drawn.double() / 2**31 - 1).reshape(shape)
        if name.endswith("num_batches_tracked"):
            made = torch.zeros(shape, dtype=torch.int64)
        elif name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            made = 1 + 0.4 * wave
        elif len(shape) == 1:
            made = 0.3 * wave
        else:
            made = 2.4 / math.sqrt(math.prod(shape[1:])) * wave
        state[name] = made if made.dtype == torch.int64 else made.float()
    return state


def made_pictures(side: int = 160) -> torch.Tensor:
    y, x = np.mgrid[0:side, 0:side] / (side - 1.0)
    one = [np.sin(3 * x + 7 * y), np.cos(9 * x * y), x - y]
    two = [np.cos(5 * x), y - x, np.sin(8 * x * y)]
    return torch.from_numpy(np.stack([one, two]).astype(np.float32))


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Everything that facenet-pytorch's file has: counters, and a classifier that is not used."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in FaceNet().state_dict().items()}
    classifier = {"logits.weight": torch.zeros(3, 512), "logits.bias": torch.zeros(3)}
    return made_state(shapes) | classifier


@pytest.fixture(scope="module")
def embed(
    state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> FaceEmbedding:
    path = tmp_path_factory.mktemp("weights") / "made.pt"
    torch.save(state, path)
    embedding = FaceEmbedding("facenet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facenet, "pretrained", lambda *_: path)
        embedding.load()
    path.unlink()
    return embedding


# The network


def test_the_network_says_what_facenet_pytorchs_own_class_says(embed: FaceEmbedding) -> None:
    network = embed._network(torch.device("cpu"), torch.float32)
    for vector, (first, length) in zip(network(made_pictures()), PUBLISHED, strict=True):
        assert vector[:6].tolist() == pytest.approx(first, abs=1e-3)
        assert vector.norm().item() == pytest.approx(length, rel=1e-5)


def test_the_network_is_frozen(embed: FaceEmbedding) -> None:
    network = embed._network(torch.device("cpu"), torch.float32)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


# What it sees, and what it says


@pytest.mark.parametrize(("height", "width"), [(128, 128), (300, 200), (64, 71)])
def test_what_it_sees_is_the_whole_face_as_pillow_resizes_it(height: int, width: int) -> None:
    face = noise(1, 3, height, width)
    for channel, seen in zip(face[0], FaceEmbedding("facenet")._seen(face)[0], strict=True):
        resized = Image.fromarray(channel.numpy()).resize((160, 160), Image.Resampling.BILINEAR)
        torch.testing.assert_close(seen, torch.from_numpy(np.array(resized)), rtol=0, atol=2e-5)


def test_vectors_have_length_one_and_gradients_reach_the_faces(embed: FaceEmbedding) -> None:
    faces = noise(1, 3, 40, 40).requires_grad_()
    vectors = embed(faces)
    assert vectors.shape == (1, embed.width) == (1, 512)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(1))
    vectors[0, 0].backward()
    assert faces.grad is not None
    assert faces.grad.isfinite().all()
    assert (faces.grad != 0).float().mean() > 0.99


def test_copies_are_the_same_and_pickles_know_the_name(embed: FaceEmbedding) -> None:
    assert copy.deepcopy(embed) is embed
    assert len(pickle.dumps(embed)) < 200
    again = pickle.loads(pickle.dumps(embed))
    assert (again.name, again.width) == ("facenet", 512)


def test_an_unknown_network_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="no face embedding named 'facenett'") as error:
        FaceEmbedding("facenett")  # type: ignore[arg-type]
    assert "facenet" in error.value.remedy


# Where the weights come from


def test_the_plugin_offers_it_through_the_door() -> None:
    offered = load_plugins().weights[FACENET]
    assert offered == OFFERED[FACENET]
    assert isinstance(offered, Remote)
    assert offered.url.endswith("/v2.2.9/20180402-114759-vggface2.pt")


def test_absent_weights_name_the_command_that_fetches_them() -> None:
    embedding = FaceEmbedding("facenet")  # reads nothing yet
    with pytest.raises(DownloadError) as error:
        embedding(noise(1, 3, 32, 32))
    assert f"i2i models fetch {FACENET}" in error.value.remedy
    assert str(OFFERED[FACENET].path) in error.value.remedy


def test_another_file_in_its_place_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path))
    OFFERED[FACENET].path.write_bytes(b"another")
    with pytest.raises(DownloadError, match="is another file"):
        FaceEmbedding("facenet").load()


def test_another_network_is_refused_in_a_few_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.save({"conv2d_1a.conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    monkeypatch.setattr(facenet, "pretrained", lambda *_: tmp_path / "other.pt")
    with pytest.raises(ModelFileError, match="does not hold the weights of FaceNet") as error:
        read_facenet()
    assert len(str(error.value)) < 700


def test_a_file_without_counters_holds_the_same_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    """Whatever version of torch wrote it."""
    bare = {name: each for name, each in state.items() if not name.endswith("_tracked")}
    assert len(bare) < len(state)
    torch.save(bare, tmp_path / "bare.pt")
    monkeypatch.setattr(facenet, "pretrained", lambda *_: tmp_path / "bare.pt")
    before = torch.get_rng_state()
    read = read_facenet().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(read[name], each) for name, each in bare.items() if "logits" not in name)


# As the option of a recipe


def test_ageing_asks_for_the_weights_before_it_trains() -> None:
    small = {"width": 2, "num_blocks": 1, "discriminator_width": 2}
    options = AgingOptions.model_validate(small | {"embedding": "facenet"})
    with pytest.raises(DownloadError, match="facenet-vggface2"):
        FaceAging(options).players("train")
    assert FaceAging(AgingOptions.model_validate(small)).players("train")


def test_age_cgan_asks_for_the_weights_before_it_searches() -> None:
    small = {"width": 2, "discriminator_width": 2, "encoder_width": 2, "encoder_hidden": 8}
    translator = AgeCGAN(AgeCGANOptions.model_validate(small | {"embedding": "facenet"}))
    with pytest.raises(DownloadError, match="facenet-vggface2"):
        translator.check_request(AgeCGANRequest(age=30))
    with pytest.raises(DownloadError, match="facenet-vggface2"):
        translator.players("adversarial")
    translator.check_request(AgeCGANRequest(age=30, refine_steps=0))  # it needs no network
    other = AgeCGAN(AgeCGANOptions.model_validate(small | {"keep": "pixels"}))
    other.check_request(AgeCGANRequest(age=30))
    assert other.embedding._networks == {}


def test_a_network_that_nobody_would_look_through_is_refused() -> None:
    with pytest.raises(ValidationError, match="no embedding facenet without identity_weight"):
        AgingOptions.model_validate({"embedding": "facenet", "identity_weight": 0})
    with pytest.raises(ValidationError, match="no embedding facenet where pixels are kept"):
        AgeCGANOptions.model_validate({"embedding": "facenet", "keep": "pixels"})
    AgingOptions.model_validate({"embedding": "mobileface", "identity_weight": 0})  # a default
