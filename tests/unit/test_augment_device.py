"""The recipe's ``[augment] device``: kornia on whole batches."""

import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import kornia.augmentation
import numpy as np
import pytest
import torch
from torch import Tensor

from i2i import Batch, Inputs, Progress, RecipeError
from i2i.augment import DeviceAugment
from i2i.augment.device import _transforms
from i2i.recipe.schema import DeviceTransform
from i2i.testing import make_batch

PAIR, UNPAIRED = Inputs(("a", "b"), paired=True), Inputs(("a", "b"), paired=False)
NOW = Progress(seed=3, stage="train", step=5, images=20)
FLIPS = (
    {"transform": "RandomHorizontalFlip", "p": 0.5},
    {"transform": "RandomVerticalFlip", "p": 0.5},
)
MANY = (
    *FLIPS,
    {"transform": "RandomAffine", "degrees": 30.0, "translate": [0.1, 0.2], "p": 0.8},
    {"transform": "ColorJitter", "brightness": 0.3, "hue": 0.2, "p": 0.8},
    {"transform": "RandomGaussianNoise", "std": 0.1},
    {"transform": "RandomErasing"},
)
NEEDED: dict[str, dict[str, Any]] = {
    "CenterCrop": {"size": 8},
    "LongestMaxSize": {"max_size": 20},
    "PadTo": {"size": [40, 40]},
    "RandomAffine": {"degrees": 10.0},
    "RandomCrop": {"size": [8, 8]},
    "RandomGaussianBlur": {"kernel_size": [3, 3], "sigma": [0.1, 2.0]},
    "RandomMotionBlur": {"kernel_size": 3, "angle": 35.0, "direction": 0.5},
    "RandomResizedCrop": {"size": [8, 8]},
    "RandomRotation": {"degrees": 10.0},
    "RandomRotation90": {"times": [0, 3]},
    "RandomShear": {"shear": 10.0},
    "RandomTranslate": {"translate_x": [-0.1, 0.1]},
    "Resize": {"size": [8, 8]},
    "SmallestMaxSize": {"max_size": 20},
}
"""Arguments without which a transform cannot be made."""


def augment(*transforms: dict[str, Any], inputs: Inputs = PAIR) -> DeviceAugment:
    return DeviceAugment([DeviceTransform(**each) for each in transforms], inputs)


def twins(number: int, height: int = 20, width: int = 24) -> Batch:
    """A batch whose two roles are equal and whose samples are equal, so that draws alone differ."""
    batch = make_batch(PAIR, batch_size=number)
    picture = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    images = picture.expand(number, 3, height, width)
    return Batch({"a": images, "b": images.clone()}, batch.keys)


def kinds(images: Tensor, original: Tensor) -> list[str]:
    """Say of each picture which flips it underwent."""
    known = {
        "neither": original,
        "horizontal": original.flip(-1),
        "vertical": original.flip(-2),
        "both": original.flip(-1, -2),
    }
    return [
        next(name for name, each in known.items() if torch.allclose(image, each, atol=1e-6))
        for image in images
    ]


def test_both_pictures_of_a_pair_are_moved_alike_and_each_pair_differently() -> None:
    """Pixels carry their place; the two roles carry it differently, and stay in step."""
    x = torch.linspace(-0.9, 0.9, 24).expand(20, 24)
    y = torch.linspace(-0.9, 0.9, 20)[:, None].expand(20, 24)
    places = torch.stack([x, y, torch.full_like(x, 0.5)]).expand(6, 3, 20, 24)
    batch = replace(twins(6), images={"a": places, "b": places[:, [2, 0, 1]]})
    moved = augment(*MANY[:3], {"transform": "RandomElasticTransform"})(batch, NOW).images
    torch.testing.assert_close(moved["b"], moved["a"][:, [2, 0, 1]])
    assert len({image.sum().item() for image in moved["a"]}) == 6
    assert not torch.allclose(moved["a"], places, atol=0.1)


@pytest.mark.parametrize("name", sorted(_transforms(kornia.augmentation)))
def test_any_transform_gives_equal_pictures_of_a_pair_equal_results(name: str) -> None:
    tried = augment({"transform": name} | NEEDED.get(name, {}))
    batch = twins(5)
    found = tried(batch, NOW).images
    assert torch.equal(found["a"], found["b"])
    assert found["a"].shape[1:] == tried.shapes({"a": (3, 20, 24), "b": (3, 20, 24)})["a"]
    assert found["a"].abs().max() <= 1


def test_unpaired_pictures_draw_independently_as_do_two_transforms() -> None:
    batch = twins(300)
    found = augment(*FLIPS, inputs=UNPAIRED)(batch, NOW).images
    a, b = (kinds(found[role], batch.images["a"][0]) for role in "ab")
    seen = Counter(zip(a, b, strict=True))
    assert len(seen) == 16
    assert all(5 <= number <= 35 for number in seen.values()), seen  # 18.75 expected


def test_paired_pictures_draw_together() -> None:
    batch = twins(60)
    found = augment(*FLIPS)(batch, NOW).images
    a, b = (kinds(found[role], batch.images["a"][0]) for role in "ab")
    assert a == b
    assert set(a) == {"neither", "horizontal", "vertical", "both"}


@pytest.mark.parametrize(
    "name", sorted(_transforms(kornia.augmentation).keys() - {"RandomChannelDropout", "RandomRain"})
)
def test_what_happens_to_a_sample_does_not_depend_on_the_others(name: str) -> None:
    tried = augment({"transform": name} | NEEDED.get(name, {}), inputs=UNPAIRED)
    batch = make_batch(UNPAIRED, batch_size=5, shapes={"a": (3, 20, 24), "b": (3, 16, 16)})
    if name == "SmallestMaxSize":
        batch = replace(batch, images=batch.images | {"b": batch.images["a"].flip(0)})
    whole = tried(batch, NOW).images
    for parts in (2, 5):
        apart = [tried(part, NOW).images for part in batch.split(parts)]
        for role in "ab":
            torch.testing.assert_close(torch.cat([each[role] for each in apart]), whole[role])


def test_result_follows_from_batch_seed_stage_and_step_alone() -> None:
    batch = make_batch(PAIR)
    first = augment(*MANY)(batch, NOW).images["a"]
    torch.manual_seed(8)
    tried = augment(*MANY)
    tried(batch, replace(NOW, step=9))
    assert torch.equal(tried(batch, NOW).images["a"], first)
    for change in ({"seed": 4}, {"stage": "other"}, {"step": 6}):
        assert not torch.equal(tried(batch, replace(NOW, **change)).images["a"], first)


def test_global_generators_are_left_alone() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def seed() -> None:
        random.seed(3)
        np.random.seed(3)
        torch.manual_seed(3)

    tried, batch = augment(*MANY), make_batch(PAIR)
    seed()
    expected = draws()
    seed()
    tried(batch, NOW)
    tried.shapes({"a": (3, 32, 32), "b": (3, 32, 32)})
    assert draws() == expected


def test_generator_is_given_back_also_where_a_transform_fails() -> None:
    tried, state = augment({"transform": "RandomCrop", "size": [8, 8]}), torch.get_rng_state()
    with pytest.raises(RecipeError):
        tried.shapes({"a": (3, 4, 4), "b": (3, 4, 4)})
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"transform": "RandomInvert", "p": 1.0}, lambda x: -x),
        (
            {"transform": "RandomGamma", "gamma": [2.0, 2.0], "p": 1.0},
            lambda x: ((x + 1) / 2) ** 2 * 2 - 1,
        ),
        (
            {"transform": "RandomSolarize", "thresholds": [0.3, 0.3], "additions": 0.0, "p": 1.0},
            lambda x: torch.where(x > -0.4, -x, x),
        ),
        (
            {"transform": "RandomBrightness", "brightness": [1.25, 1.25], "p": 1.0},
            lambda x: (x + 0.5).clamp(-1, 1),
        ),
        ({"transform": "RandomHorizontalFlip", "p": 1.0}, lambda x: x.flip(-1)),
        (
            {"transform": "RandomRotation90", "times": [1, 1], "p": 1.0},
            lambda x: x.rot90(1, (2, 3)),
        ),
    ],
)
def test_ranges_are_converted_there_and_back(words: dict[str, Any], expected: Any) -> None:
    batch = make_batch(PAIR)
    changed = augment(words)(batch, NOW).images
    for role in "ab":
        torch.testing.assert_close(
            changed[role], expected(batch.images[role]), atol=2e-5, rtol=1e-5
        )


def test_values_are_clipped_and_what_lies_beyond_the_edges_is_black() -> None:
    batch = make_batch(PAIR)
    noisy = augment({"transform": "RandomGaussianNoise", "std": 3.0, "p": 1.0})(batch, NOW)
    assert noisy.images["a"].min() == -1
    assert noisy.images["a"].max() == 1
    words = {"transform": "RandomTranslate", "translate_x": [0.5, 0.5], "p": 1.0}
    moved = augment(words)(batch, NOW).images["a"]
    assert (moved[..., :15] == -1).all()
    torch.testing.assert_close(moved[..., 16:], batch.images["a"][..., :16], atol=1e-4, rtol=0)


def test_roles_limit_a_transform_and_the_others_stay_bit_identical() -> None:
    batch = make_batch(PAIR)  # of multiples of 2 ** -23, which any change of range gives back
    batch = replace(batch, images={role: image / 3 for role, image in batch.images.items()})
    words = {"transform": "ColorJitter", "brightness": 0.5, "hue": 0.5, "p": 1.0, "roles": ["a"]}
    found = augment(words)(batch, NOW)
    assert torch.equal(found.images["b"], batch.images["b"])
    assert not torch.allclose(found.images["a"], batch.images["a"], atol=0.05)
    assert torch.equal(found.keys, batch.keys)


def test_no_transforms_give_the_batch_back_and_import_no_kornia() -> None:
    code = (
        "import sys\n"
        "from i2i import Inputs\n"
        "from i2i.augment import DeviceAugment, DiscriminatorAugment\n"
        "tried = DeviceAugment([], Inputs(('a',), False))\n"
        "marker = object()\n"
        "assert tried(marker, None) is marker\n"
        "assert tried.shapes({'a': (3, 8, 9)}) == {'a': (3, 8, 9)}\n"
        "assert 'kornia' not in sys.modules\n"
        "from i2i.recipe.schema import DeviceTransform\n"
        "DeviceAugment([DeviceTransform(transform='RandomInvert')], Inputs(('a',), False))\n"
        "assert 'kornia' in sys.modules and 'torchvision' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"transform": "RandomAfine"}, r"device\[0\]\.transform: .*'RandomAfine'.*'RandomAffine'"),
        ({"transform": "Normalize", "mean": 0.5, "std": 0.5}, "no device transform .*'Normalize'"),
        ({"transform": "RandomMixUpV2"}, "no device transform"),
        ({"transform": "AugmentationBase2D"}, "no device transform"),
        (
            {"transform": "RandomInvert", "rols": ["a"]},
            r"device\[0\]\.rols: RandomInvert has no argument 'rols'.*mean 'roles'",
        ),
        ({"transform": "RandomInvert", "keepdim": True}, "no argument 'keepdim'"),
        ({"transform": "RandomInvert", "roles": ["c"]}, r"roles: .*no role 'c'.*some of a, b"),
        ({"transform": "RandomInvert", "p": 7}, r"device\[0\]\.p: 7 is no probability"),
        ({"transform": "RandomInvert", "p_batch": "x"}, "no argument 'p_batch'"),
        ({"transform": "RandomHorizontalFlip", "p_batch": -0.5}, "p_batch: -0.5 is no prob"),
        ({"transform": "RandomAffine"}, r"device\[0\]: RandomAffine refuses .*degrees"),
        ({"transform": "RandomAffine", "degrees": 5, "resample": "fine"}, "'fine' is not a valid"),
        ({"transform": "ColorJitter", "hue": 0.9}, "ColorJitter refuses .*hue out of bounds"),
        ({"transform": "ColorJitter", "hue": "red"}, "ColorJitter refuses its arguments"),
    ],
)
def test_a_transform_that_cannot_be_made_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        augment(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"transform": "CenterCrop", "size": 30},
            r"device\[0\] \(CenterCrop\): it fails .*smaller",
        ),
        ({"transform": "RandomCrop", "size": [30, 8]}, "cannot cut 8x30 out of 24x20"),
        ({"transform": "RandomCrop", "size": [8, 8], "p": 0.5}, "8x8 of 24x20 in some batches"),
        ({"transform": "Resize", "size": [8, 8], "p": 0.5}, "in some batches only.*p = 1.0"),
        ({"transform": "RandomInvert", "roles": ["b", "a"]}, None),
        ({"transform": "RandomCrop", "size": [30, 8], "pad_if_needed": True}, None),
    ],
)
def test_sizes_are_tried_before_training(words: dict[str, Any], message: str | None) -> None:
    tried, shapes = augment(words), {"a": (3, 20, 24), "b": (3, 20, 24)}
    if message is None:
        tried.shapes(shapes)
        return
    with pytest.raises(RecipeError, match=message):
        tried.shapes(shapes)


def test_pictures_of_a_pair_that_differ_in_size_are_refused_unless_one_is_named() -> None:
    shapes = {"a": (3, 8, 8), "b": (3, 16, 16)}
    with pytest.raises(RecipeError, match=r"a and b of a pair differ in size.*roles = \[\"b\"\]"):
        augment({"transform": "RandomInvert"}).shapes(shapes)
    smaller = {"transform": "Resize", "size": [8, 8], "roles": ["b"]}
    expected = {"a": (3, 8, 8), "b": (3, 8, 8)}
    assert augment(smaller, {"transform": "RandomInvert"}).shapes(shapes) == expected
    assert augment({"transform": "RandomInvert"}, inputs=UNPAIRED).shapes(shapes) == shapes


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda x: x.double(), r"\(3, 3, 32, 32\) float64"),
        (lambda x: x[:, :1], r"returns \(3, 1, 32, 32\)"),
        (lambda x: x / 0, "not finite"),
        (lambda x: None, "returns NoneType"),
    ],
)
def test_a_transform_that_leaves_finite_rgb_is_refused(
    monkeypatch: pytest.MonkeyPatch, result: Any, message: str
) -> None:
    kind = kornia.augmentation.RandomInvert
    monkeypatch.setattr(kind, "forward", lambda self, x, params: result(x))
    with pytest.raises(RecipeError, match=r"device\[0\] \(RandomInvert\): .*" + message):
        augment({"transform": "RandomInvert"})(make_batch(PAIR), NOW)


def test_same_on_batch_moves_all_samples_alike() -> None:
    batch = twins(20)
    for place, words in enumerate(FLIPS):
        found = augment(words | {"same_on_batch": True})(batch, replace(NOW, step=place))
        assert len(set(kinds(found.images["a"], batch.images["a"][0]))) == 1
