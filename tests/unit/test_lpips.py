"""Perceptual distances against the authors' own program, and against plain formulas."""

import pytest
import torch

from i2i.errors import DownloadError, UsageError
from i2i.losses.lpips import FeatureDistance, Lpips
from i2i.nn.backbones import Backbone, shipped
from tests.unit.networks import made_offer, made_pictures, made_state

# By lpips 0.1.4 (PyPI), version "0.1", its linear heads on made backbones: torchvision replaced by
# a stub whose networks hold ``made_state``. Pairs (x, y), and (x, 0.9 x), of ``made_pictures``.
PUBLISHED = {
    "alexnet": [(0.085085399, 0.082856044), (0.000097822, 0.000104185)],
    "vgg16": [(0.143118590, 0.144974753), (0.000138548, 0.000140352)],
    "squeezenet1_1": [(0.140571401, 0.136977881), (0.000264116, 0.000301975)],
}
# The same without heads ("baseline").
UNWEIGHTED = {
    "alexnet": (1.739699125, 1.769407511),
    "vgg16": (1.431297064, 1.450055361),
    "squeezenet1_1": (1.813595533, 1.774631619),
}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("I2I_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("I2I_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def measures():
    return {name: Lpips(name, made_offer(name)) for name in PUBLISHED}


@pytest.mark.parametrize("name", PUBLISHED)
def test_lpips_is_what_the_authors_program_says(measures, name):
    x, y = made_pictures()
    found = torch.stack([measures[name](x, y), measures[name](x, 0.9 * x)])
    assert (found.dtype, found.shape) == (torch.float32, (2, 2))
    torch.testing.assert_close(found, torch.tensor(PUBLISHED[name]), rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_heads_it_is_the_authors_baseline(measures, name, monkeypatch):
    monkeypatch.setattr(measures[name], "_heads", None)
    found = measures[name](*made_pictures())
    torch.testing.assert_close(found, torch.tensor(UNWEIGHTED[name]), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("alexnet", [64, 192, 384, 256, 256]),
        ("vgg16", [64, 128, 256, 512, 512]),
        ("squeezenet1_1", [64, 128, 256, 384, 384, 512, 512]),
    ],
)
def test_shipped_heads_are_whole(name, widths):
    heads = shipped("lpips")
    assert [len(heads[f"{name}.{index}"]) for index in range(len(widths))] == widths
    assert all(float(head.min()) >= 0 for head in heads.values())  # as the authors train them


def test_an_absent_backbone_names_the_command_that_fetches_it():
    with pytest.raises(DownloadError, match="i2i models fetch alexnet"):
        Lpips()


def test_a_backbone_without_heads_is_refused():
    with pytest.raises(UsageError, match="did you mean 'vgg16'"):
        Lpips("vgg19")


def test_feature_distance_is_the_formula_in_float64():
    x, y = made_pictures()
    backbone, expected = Backbone("squeezenet"), torch.zeros(2, dtype=torch.float64)
    for layer in ("relu1", "fire4", "fire8", "fire9"):
        a, b = (backbone.features(each, [layer])[0].double() for each in (x, y))
        cosine = torch.cosine_similarity(a, b, dim=1)
        expected += (2 - 2 * cosine).mean((1, 2))  # |u - v|^2 of two unit vectors
    found = FeatureDistance()(x, y)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("measure", ["lpips", "features"])
def test_a_distance_is_zero_at_home_symmetric_and_blind_to_batch_mates(measures, measure):
    distance = FeatureDistance() if measure == "features" else measures["alexnet"]
    x, y = made_pictures()
    both = distance(x, y)
    assert torch.equal(distance(x, x), torch.zeros(2))
    assert torch.equal(distance(y, x), both)
    torch.testing.assert_close(distance(x[1:], y[1:]), both[1:])
    assert 0 < float(both.min()) < float(both.max()) < 8
    assert float(distance(x, 0.9 * x).max()) < float(both.min())


def test_distances_and_gradients_are_finite_where_no_feature_fires():
    """The authors' formula has the root's infinite slope there."""
    state = {name: torch.zeros_like(tensor) for name, tensor in made_state("alexnet").items()}
    dead = Lpips("alexnet", made_offer("alexnet", state))
    image = made_pictures()[0].requires_grad_()
    distances = dead(image, made_pictures()[1])
    distances.sum().backward()
    assert torch.equal(distances.detach(), torch.zeros(2))
    assert torch.equal(image.grad, torch.zeros_like(image))


def test_pictures_of_two_shapes_are_refused():
    with pytest.raises(UsageError, match="the same shape"):
        FeatureDistance()(torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 64, 65))
