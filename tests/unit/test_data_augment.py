import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from i2i.data import HostAugment
from i2i.errors import RecipeError
from i2i.recipe.schema import HostTransform


def augment(*transforms: dict[str, Any]) -> HostAugment:
    return HostAugment([HostTransform(**each) for each in transforms])


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


MANY = (
    {"transform": "RandomResizedCrop", "size": [32, 32]},
    {"transform": "HorizontalFlip", "p": 0.5},
    {"transform": "ColorJitter", "p": 1.0},
    {"transform": "GaussNoise", "p": 1.0},
    {"transform": "ElasticTransform", "p": 1.0},
    {"transform": "CoarseDropout", "p": 0.5},
)


def test_the_result_follows_from_picture_and_seed_alone(image: NDArray[np.uint8]) -> None:
    tried = augment(*MANY)
    first = tried(image, 7)
    random.seed(0)
    np.random.seed(0)
    tried(image[::-1].copy(), 8)
    assert np.array_equal(tried(image, 7), first)
    assert np.array_equal(augment(*MANY)(image, 7), first)
    assert np.array_equal(pickle.loads(pickle.dumps(tried))(image, 7), first)
    assert not np.array_equal(tried(image, 8), first)


def test_global_generators_are_left_alone(image: NDArray[np.uint8]) -> None:
    tried = augment(*MANY)
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.rand()
    random.seed(3)
    np.random.seed(3)
    tried(image, 7)
    assert (random.random(), np.random.rand()) == expected


def test_two_transforms_decide_independently(image: NDArray[np.uint8]) -> None:
    tried = augment(
        {"transform": "HorizontalFlip", "p": 0.5}, {"transform": "VerticalFlip", "p": 0.5}
    )
    outcomes = {
        "neither": image,
        "horizontal": image[:, ::-1],
        "vertical": image[::-1],
        "both": image[::-1, ::-1],
    }
    seen = Counter(
        next(name for name, each in outcomes.items() if np.array_equal(each, tried(image, seed)))
        for seed in range(400)
    )
    assert all(70 < seen[name] < 130 for name in outcomes), seen


def test_no_transforms_leave_the_picture_as_it_is(image: NDArray[np.uint8]) -> None:
    assert np.array_equal(augment()(image, 1), image)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"transform": "RandomCrp"}, r"host\[0\]\.transform: .*'RandomCrp'.*mean 'RandomCrop'"),
        ({"transform": "Compose"}, r"no transform named 'Compose'"),
        (
            {"transform": "RandomCrop", "height": 8, "wdth": 8},
            r"host\[0\]\.wdth: RandomCrop has no argument 'wdth'.*did you mean 'width'",
        ),
        ({"transform": "RandomRotate90", "angle": 8}, r"has no argument 'angle'.*one of p; remove"),
        ({"transform": "RandomCrop", "height": 8}, r"RandomCrop refuses .*width: Field required"),
        ({"transform": "HorizontalFlip", "p": 7}, r"p: Input should be less than or equal to 1"),
        ({"transform": "Resize", "height": "tall", "width": 8}, r"height: .*valid integer"),
        ({"transform": "ShiftScaleRotate"}, r"Please use Affine"),
        ({"transform": "HistogramMatching"}, r"HistogramMatching needs hm_metadata"),
    ],
)
def test_a_transform_that_cannot_be_made_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        augment(words)


def test_a_transform_that_leaves_eight_bits_is_refused(image: NDArray[np.uint8]) -> None:
    tried = augment({"transform": "HorizontalFlip"}, {"transform": "Normalize"})
    with pytest.raises(RecipeError, match=r"host\[1\] \(Normalize\).*float32"):
        tried(image, 1)


def test_the_network_is_not_asked_for_newer_versions() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): sys.exit('looked at the network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from i2i.data import HostAugment\n"
        "assert 'albumentations' not in sys.modules\n"
        "from i2i.recipe.schema import HostTransform\n"
        "HostAugment([HostTransform(transform='HorizontalFlip')])\n"
        "import cv2; assert cv2.getNumThreads() == 1 and not cv2.ocl.useOpenCL()\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
