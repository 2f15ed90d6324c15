"""Device-side augmentation against the other ways: ``python benchmarks/augment.py``.

A batch of pairs is flipped, moved by an affine map and jittered in colour, each pair by numbers of
its own: by ``DeviceAugment`` (kornia), by the same three operations written here in plain torch,
and by albumentations (``HostAugment``), picture by picture as the loader does. What a discriminator
sees is timed as well: ``DiscriminatorAugment`` on one role of the batch, forwards and backwards.
Printed are milliseconds a batch, the best of several rounds, their ratio to the first way, and the
same of processor time, which other programs on the machine disturb less. All run in this process; a
loader's workers would divide the host's time by their number.
"""

import argparse
import math
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from i2i.augment import DeviceAugment, DiscriminatorAugment, DiscriminatorAugmentOptions
from i2i.data import HostAugment
from i2i.recipe.schema import DeviceTransform, HostTransform
from i2i.testing import make_batch
from i2i.types import Batch, Inputs, Progress

INPUTS = Inputs(("a", "b"), paired=True)
DEVICE = (
    {"transform": "RandomHorizontalFlip", "p": 0.5},
    {
        "transform": "RandomAffine",
        "degrees": 15.0,
        "translate": [0.1, 0.1],
        "scale": [0.9, 1.1],
        "p": 1.0,
    },
    {
        "transform": "ColorJitter",
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.2,
        "hue": 0.05,
        "p": 1.0,
    },
)
HOST = (
    {"transform": "HorizontalFlip", "p": 0.5},
    {
        "transform": "Affine",
        "rotate": [-15, 15],
        "translate_percent": [-0.1, 0.1],
        "scale": [0.9, 1.1],
        "p": 1.0,
    },
    {
        "transform": "ColorJitter",
        "brightness": [0.8, 1.2],
        "contrast": [0.8, 1.2],
        "saturation": [0.8, 1.2],
        "hue": [-0.05, 0.05],
        "p": 1.0,
    },
)


def main() -> None:
    """Time every way on the same batch and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--side", type=int, default=128, help="Pixels.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    shape = (3, arguments.side, arguments.side)
    batch = make_batch(INPUTS, batch_size=arguments.batch_size, shapes={"a": shape, "b": shape})
    batch = batch.to(torch.device(arguments.device))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    size = f"{arguments.batch_size} pairs of {arguments.side}x{arguments.side}"
    print(f"{size} on {arguments.device}, {arguments.threads} threads{load}")
    report("pairs", pair_ways(batch), arguments.rounds, arguments.device)
    report("discriminator", discriminator_ways(batch), arguments.rounds, arguments.device)


def pair_ways(batch: Batch) -> dict[str, Callable[[int], object]]:
    """Return the ways to augment pairs, each taking a number of the step; plain torch first."""
    kornia = DeviceAugment([DeviceTransform(**each) for each in DEVICE], INPUTS)
    albumentations = HostAugment([HostTransform(**each) for each in HOST])
    pictures = [
        np.ascontiguousarray(((image + 1) * 127.5).byte().permute(1, 2, 0).cpu().numpy())
        for image in torch.cat([*batch.images.values()])
    ]

    def host(step: int) -> Tensor:
        seeds = [step * len(batch) + index for index in range(len(batch))] * 2
        done = [albumentations(each, seed) for each, seed in zip(pictures, seeds, strict=True)]
        return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2).float().div(127.5).sub(1)

    return {
        "plain torch": lambda step: plain(batch, step),
        "kornia": lambda step: kornia(batch, Progress(0, "train", step, 0)),
        "albumentations": host,
    }


def discriminator_ways(batch: Batch) -> dict[str, Callable[[int], object]]:
    """Return the policies for discriminators; a flip with its gradient first."""
    images = batch.images["a"].clone().requires_grad_()

    def seen(augment: DiscriminatorAugment) -> Callable[[int], object]:
        augment.to(images.device)

        def forth_and_back(step: int) -> object:
            found = augment(images, batch, Progress(0, "train", step, 0), "x")
            return torch.autograd.grad(found.square().sum(), images)

        return forth_and_back

    def flip(_: int) -> object:
        return torch.autograd.grad(images.flip(-1).square().sum(), images)

    always = DiscriminatorAugmentOptions(policy="diffaugment")
    adaptive = DiscriminatorAugmentOptions(policy="adaptive", probability=0.8)
    return {
        "a flip": flip,
        "diffaugment": seen(DiscriminatorAugment(always)),
        "adaptive": seen(DiscriminatorAugment(adaptive)),
    }


def plain(batch: Batch, step: int) -> dict[str, Tensor]:
    """Flip, move and jitter pairs in plain torch: what one would write without a library."""
    number, device = len(batch), batch.images["a"].device
    draw = torch.rand(8, number, generator=torch.Generator().manual_seed(step)).to(device)
    mirror = torch.where(draw[0] < 0.5, -1.0, 1.0)
    angle = (draw[1] * 2 - 1) * math.radians(15)
    size = 1 / (0.9 + 0.2 * draw[2])
    x, y = (draw[3:5] * 2 - 1) * 0.2
    theta = torch.stack(
        [
            *(size * mirror * angle.cos(), -size * mirror * angle.sin(), x),
            *(size * angle.sin(), size * angle.cos(), y),
        ],
        dim=1,
    ).reshape(number, 2, 3)
    images = {}
    for role, image in batch.images.items():
        grid = F.affine_grid(theta, list(image.shape), align_corners=False)
        moved = F.grid_sample((image + 1) / 2, grid, align_corners=False)
        images[role] = jitter(moved, draw[5:]).clamp(0, 1) * 2 - 1
    return images


def jitter(images: Tensor, draw: Tensor) -> Tensor:
    """Move brightness, contrast, saturation and hue, the last as a rotation of colours."""
    brightness, contrast, saturation = (0.8 + 0.4 * draw)[..., None, None, None]
    images = (images * brightness).clamp(0, 1)
    weights = images.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    mean = (images * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    images = (mean + (images - mean) * contrast).clamp(0, 1)
    grey = (images * weights).sum(1, keepdim=True)
    images = (grey + (images - grey) * saturation).clamp(0, 1)
    angle = (draw[0] * 2 - 1) * 0.05 * 2 * math.pi
    third = images.new_full((3, 3), 1 / 3)
    cross = images.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    turn = third + cosine * (torch.eye(3, device=images.device) - third) + sine * cross
    return (turn @ images.flatten(2)).reshape(images.shape)


def report(name: str, ways: dict[str, Callable[[int], object]], rounds: int, device: str) -> None:
    """Time the ways in turn, so that a machine's mood meets them all, and print the best."""
    wall, busy = dict.fromkeys(ways, math.inf), dict.fromkeys(ways, math.inf)
    for step in range(rounds + 1):
        for way, act in ways.items():
            started = time.perf_counter(), time.process_time()
            act(step)
            if device != "cpu":
                torch.accelerator.synchronize()
            if step:  # the first round warms up
                wall[way] = min(wall[way], time.perf_counter() - started[0])
                busy[way] = min(busy[way], time.process_time() - started[1])
    first = next(iter(ways))
    for way in ways:
        print(
            f"{name}: {way} {wall[way] * 1e3:.1f} ms, ratio {wall[way] / wall[first]:.2f}; "
            f"processor {busy[way] * 1e3:.1f} ms, ratio {busy[way] / busy[first]:.2f}"
        )


if __name__ == "__main__":
    main()
