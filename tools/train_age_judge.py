"""Train the small network that reads an age from a face, and write what the plugin ships.

    python tools/train_age_judge.py UTKFACE plugins/i2i_face_aging/shipped/age.safetensors

UTKFACE is the folder of aligned faces whose names begin with the age; the 600 names with the
smallest sha256 are left out, and what the network says of them is printed at the end.
"""

import hashlib
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from i2i_face_aging.age_network import NUM_AGES, AgeNetwork, mean_age

NUM_TEST = 600
NUM_EPOCHS = 22
BATCH_SIZE = 64
DEVIATION = 3.0  # years: labels are a normal distribution around the age (arXiv:1611.01731)


def main() -> None:
    """Train, write, and say how far off the network is on faces it never saw."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    train, test = _split(folder)
    faces, ages = _read(train)
    torch.manual_seed(0)
    network = AgeNetwork()
    _train(network, faces, ages)
    network.eval()
    state = {name: tensor.half() for name, tensor in network.state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    save_file(state, out, {"licence": "trained on UTKFace: non-commercial research"})
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
    faces, ages = _read(test)
    said = torch.cat([_read_age(network, _scaled(part)) for part in faces.split(100)])
    error = (said - ages).abs().mean().item()
    correlation = torch.corrcoef(torch.stack([said, ages]))[0, 1].item()
    sys.stdout.write(f"{len(ages)} faces: {error:.2f} years off, correlation {correlation:.3f}\n")


def _split(folder: Path) -> tuple[list[Path], list[Path]]:
    paths = sorted(folder.glob("*.jpg"), key=lambda path: _digest(path.name))
    return paths[NUM_TEST:], paths[:NUM_TEST]


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _read(paths: list[Path]) -> tuple[Tensor, Tensor]:
    faces = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    ages = torch.tensor([min(float(path.name.split("_")[0]), NUM_AGES - 1) for path in paths])
    return torch.from_numpy(faces).permute(0, 3, 1, 2).contiguous(), ages


def _scaled(faces: Tensor) -> Tensor:
    return faces.float() / 127.5 - 1


@torch.no_grad()
def _read_age(network: AgeNetwork, faces: Tensor) -> Tensor:
    return (mean_age(network(faces)) + mean_age(network(faces.flip(3)))) / 2


def _train(network: AgeNetwork, faces: Tensor, ages: Tensor) -> None:
    steps = NUM_EPOCHS * (len(ages) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    years = torch.arange(NUM_AGES, dtype=torch.float32)
    started = time.monotonic()
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < BATCH_SIZE:
            order = torch.randperm(len(ages))
        chosen, order = order[:BATCH_SIZE], order[BATCH_SIZE:]
        seen, age = _changed(_scaled(faces[chosen])), ages[chosen]
        wanted = (-(years - age[:, None]).square() / (2 * DEVIATION**2)).softmax(1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(seen)
        loss = F.cross_entropy(logits.float(), wanted)
        loss = loss + 0.05 * F.smooth_l1_loss(mean_age(logits), age)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            seconds = time.monotonic() - started
            sys.stdout.write(f"step {step} of {steps}: {loss.item():.3f}, {seconds:.0f} s\n")
            sys.stdout.flush()


def _changed(faces: Tensor) -> Tensor:
    """Mirror, move, turn, relight and partly cover: a label survives it all."""
    count = len(faces)
    turn = (torch.rand(count) - 0.5) * 0.4  # radians
    size = 1 + (torch.rand(count) - 0.5) * 0.3
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    shift = (torch.rand(count, 2) - 0.5) * 0.2
    rows = [
        torch.stack([mirror * size * turn.cos(), -size * turn.sin(), shift[:, 0]], 1),
        torch.stack([mirror * size * turn.sin(), size * turn.cos(), shift[:, 1]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(faces.shape), align_corners=False)
    faces = F.grid_sample(faces, grid, padding_mode="reflection", align_corners=False)
    grey = faces.mean(1, keepdim=True)
    colour = torch.where(torch.rand(count) < 0.15, 0.0, 0.6 + 0.8 * torch.rand(count))
    faces = grey + (faces - grey) * colour.view(-1, 1, 1, 1)
    contrast = 0.7 + 0.6 * torch.rand(count, 1, 1, 1)
    faces = faces * contrast + (torch.rand(count, 1, 1, 1) - 0.5) * 0.5
    tint = (torch.rand(count, 3, 1, 1) - 0.5) * 0.15
    soft = torch.rand(count, 1, 1, 1) < 0.2
    blurred = F.interpolate(F.avg_pool2d(faces, 4), scale_factor=4.0, mode="bilinear")
    faces = torch.where(soft, blurred, faces) + tint
    places = torch.arange(faces.shape[-1])
    corner, side = torch.randint(-40, 128, (2, count, 1)), torch.randint(16, 48, (2, count, 1))
    inside = [(places >= corner[i]) & (places < corner[i] + side[i]) for i in range(2)]
    covered = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    covered &= (torch.rand(count) < 0.4).view(-1, 1, 1, 1)
    return faces.masked_fill(covered, 0.0).clamp(-1, 1)


if __name__ == "__main__":
    main()
